import os
import subprocess
import sys
from pathlib import Path

import pytest

from local_aws.region import PROGRAMS
from workshop import ROOT, setup

#: What the region needs and no Debian system is without, or what the other packages bring.
ESSENTIAL = {"util-linux", "hostname", "openssh-client"}

# `pip config list` of pip 23.2.1 with a user file, a global file and two environment variables.
PIP_SETTINGS = """\
:env:.default-timeout='180'
:env:.index-url='https://index.example/simple'
global.cert='/etc/ssl/certs/ca-certificates.crt'
global.extra-index-url='https://one.example/simple\\nhttps://two.example/simple'
global.find-links='/opt/wheels /srv/wheels'
global.index-url='https://pypi.example/simple'
install.trusted-host='index.example'
""".splitlines()


def test_uv_environment_says_what_pip_is_told() -> None:
    told = setup.uv_environment(PIP_SETTINGS, {})

    assert told["UV_DEFAULT_INDEX"] == "https://index.example/simple"
    assert told["UV_INDEX"] == "https://one.example/simple https://two.example/simple"
    assert told["UV_FIND_LINKS"] == "/opt/wheels,/srv/wheels"
    assert told["UV_INSECURE_HOST"] == "index.example"
    assert told["SSL_CERT_FILE"] == "/etc/ssl/certs/ca-certificates.crt"
    assert told["UV_INDEX_STRATEGY"] == "unsafe-best-match"


def test_uv_environment_leaves_what_is_set_for_uv() -> None:
    told = setup.uv_environment(PIP_SETTINGS, {"UV_DEFAULT_INDEX": "https://mine.example", "UV_CACHE_DIR": "/cache"})

    assert "UV_DEFAULT_INDEX" not in told
    assert "UV_CACHE_DIR" not in told


def test_uv_environment_without_settings_keeps_everything_below_the_checkout() -> None:
    told = setup.uv_environment([], {})

    assert told == {"UV_CACHE_DIR": str(ROOT / ".local/cache/uv"), "UV_PYTHON_DOWNLOADS": "never"}


def test_missing_packages_tells_installed_from_unknown() -> None:
    assert setup.missing_packages(["dpkg", "no-such-package-at-all"]) == ["no-such-package-at-all"]


def test_without_root_and_sudo_it_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(
        setup.OnlyAPersonCanError, match="apt-get install --no-install-recommends munge slurmd"
    ) as error:
        setup.root_prefix(["munge", "slurmd"])
    assert error.value.exit_code == 2


UBUNTU = {
    "dpkg-query": "exit 1",
    "apt-get": 'echo "$@" >> "$(dirname "$0")/asked"',
    "apt-cache": """case "$2" in
        munge) printf 'munge:\\n  Installed: (none)\\n  Candidate: 0.5.15-4build1\\n';;
        chromium) printf 'chromium:\\n  Installed: (none)\\n  Candidate: (none)\\n';;
    esac""",
}


def test_where_chromium_is_a_snap_alone_the_rest_is_installed_and_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, script in UBUNTU.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(setup, "LOGS", tmp_path)
    monkeypatch.setattr(setup, "SERVICES", {})

    with pytest.raises(setup.OnlyAPersonCanError, match="has the packages chromium; Ubuntu has Chromium as a snap"):
        setup.install_packages(["munge", "chromium"])
    installed = (tmp_path / "asked").read_text().splitlines()[-1]
    assert installed.endswith("install --yes --no-install-recommends munge")


def test_what_the_region_is_made_of_is_installed() -> None:
    assert set(PROGRAMS.values()) - ESSENTIAL <= set(setup.REGION_PACKAGES)


def test_an_environment_is_made_again_for_another_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("one==1")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)

    assert not setup.is_stamped(tmp_path, lock)
    setup.stamp(tmp_path, lock)
    assert setup.is_stamped(tmp_path, lock)
    lock.write_text("one==2")
    assert not setup.is_stamped(tmp_path, lock)


def test_a_failed_part_stops_the_others_and_shows_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "LOGS", tmp_path)
    parts = setup.Parts()
    done = []
    parts.do("first", lambda: setup.run(["sh", "-c", "echo no space left on device; exit 1"], "first") and None)
    parts.do("second", lambda: done.append("second"))

    assert done == []
    assert "no space left on device" in str(parts.problem)


@pytest.mark.parametrize("module", ["workshop.setup"])
def test_set_up_needs_nothing_but_python(module: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {module}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_the_airflow_environment_is_what_the_lock_says() -> None:
    assert setup.is_stamped(setup.AIRFLOW, ROOT / "requirements-dev.lock")
