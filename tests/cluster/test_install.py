"""Installing for real, with uv and with pip, from a small wheel that says it is ParallelCluster: no index is asked."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpc.cluster import install
from hpc.errors import ConfigurationError

VERSION = "9.9.9"
DIST = f"aws_parallelcluster-{VERSION}"

pytestmark = pytest.mark.pcluster


def make_wheel(folder: Path) -> Path:
    """Write a wheel with a `pcluster` command; see the binary distribution format of packaging.python.org."""
    files = {
        "stand_in.py": "def main():\n    print('stand-in')\n",
        f"{DIST}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: aws-parallelcluster\nVersion: {VERSION}\n",
        f"{DIST}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{DIST}.dist-info/entry_points.txt": "[console_scripts]\npcluster = stand_in:main\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}\n"
        for name, text in files.items()
    )
    wheel = folder / f"{DIST}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{DIST}.dist-info/RECORD", record + f"{DIST}.dist-info/RECORD,,\n")
    return wheel


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> install.Environment:
    """The environment that a lock with the wheel's own hash asks for; uv and pip look at nothing but its folder."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    digest = hashlib.sha256(make_wheel(wheels).read_bytes()).hexdigest()
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"aws-parallelcluster=={VERSION} \\\n    --hash=sha256:{digest}\n", encoding="utf-8")
    for tool in ("UV", "PIP"):
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(wheels))
    return install.describe_environment(lock, tmp_path / "home")


def run(environment: install.Environment) -> str:
    return subprocess.run([environment.executable], capture_output=True, text=True, check=True).stdout


def test_it_is_installed_once(environment: install.Environment) -> None:
    said: list[str] = []

    assert not environment.installed()
    assert install.install(environment, say=said.append) is True
    assert run(environment) == "stand-in\n"
    assert install.install(environment, say=said.append) is False
    assert said == [f"Installing AWS ParallelCluster {VERSION} into {environment.root}"]


def test_pip_does_where_uv_cannot(environment: install.Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", "/nonexistent")
    said: list[str] = []

    assert install.install(environment, say=said.append) is True
    assert run(environment) == "stand-in\n"
    assert any(line.startswith("uv could not install it") for line in said)


def test_a_hash_that_does_not_match_installs_nothing(environment: install.Environment) -> None:
    wheel = next(Path(os.environ["PIP_FIND_LINKS"]).iterdir())
    wheel.write_bytes(wheel.read_bytes() + b"tampered")

    with pytest.raises(install.InstallError, match=r"(?is)hash.*what to do"):
        install.install(environment)

    assert not environment.installed()


@pytest.mark.parametrize("damage", ["marker", "python", "version"])
def test_what_is_damaged_is_built_anew(environment: install.Environment, damage: str) -> None:
    install.install(environment)
    if damage == "marker":
        environment.marker.unlink()
    elif damage == "python":
        environment.python.unlink()
    else:
        metadata = next(environment.root.rglob("METADATA"))
        metadata.write_text(metadata.read_text().replace(VERSION, "1.0.0"), encoding="utf-8")

    assert not environment.installed()
    assert install.install(environment) is True
    assert environment.installed()


def test_several_at_once_install_once(environment: install.Environment) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: install.install(environment), range(4)))

    assert sorted(made) == [False, False, False, True]


def test_a_killed_install_leaves_nothing_that_passes_for_installed(
    environment: install.Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = install.find_uv()
    assert uv is not None
    slow = tmp_path / "bin" / "uv"
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\n"{uv}" "$@"\n[ "$1" = venv ] || {{ touch "{tmp_path}/reached"; exec sleep 60; }}\n')
    slow.chmod(0o755)
    code = (
        "import sys; from pathlib import Path; from hpc.cluster import install; "
        "install.install(install.describe_environment(Path(sys.argv[1]), Path(sys.argv[2])))"
    )
    variables = {
        **os.environ,
        "PATH": f"{slow.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2] / "plugins"),
    }
    command = [sys.executable, "-c", code, str(environment.lock_file), str(environment.root.parent)]
    with subprocess.Popen(command, env=variables, start_new_session=True) as process:
        end = time.monotonic() + 60
        while not (tmp_path / "reached").exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)

    assert environment.executable.is_file()
    assert not environment.installed()
    monkeypatch.setenv(install.HOME_VARIABLE, str(environment.root.parent))
    with pytest.raises(ConfigurationError, match="is not installed"):
        install.require_installed(environment.lock_file)
    assert install.install(environment) is True


def test_another_lock_makes_another_environment(environment: install.Environment, tmp_path: Path) -> None:
    other = tmp_path / "other.lock"
    other.write_text(environment.lock_file.read_text() + "# changed\n", encoding="utf-8")

    assert install.describe_environment(other, environment.root.parent).root != environment.root


@pytest.mark.parametrize("text", ["", "boto3==1.0 --hash=sha256:00", "aws-parallelcluster==3.16.1"])
def test_a_lock_without_a_pin_and_hashes_is_refused(tmp_path: Path, text: str) -> None:
    lock = tmp_path / "bad.lock"
    lock.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigurationError, match="does not pin aws-parallelcluster with hashes"):
        install.describe_environment(lock)


def test_a_folder_that_cannot_be_written_is_named(environment: install.Environment) -> None:
    shutil.rmtree(environment.root.parent, ignore_errors=True)
    environment.root.parent.write_text("a file in the way")

    with pytest.raises(install.InstallError, match=install.HOME_VARIABLE):
        install.install(environment)


def test_the_command_line_says_where_it_is(
    environment: install.Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "describe_environment", lambda: environment)

    assert install.main() == 0
    assert install.main() == 0

    assert f"is already installed: {environment.executable}" in capsys.readouterr().out


@pytest.mark.usefixtures("parallelcluster")
def test_the_command_in_a_remedy_works_as_printed_wherever_it_is_typed(tmp_path: Path) -> None:
    plain = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME"}}
    done = subprocess.run(
        install.install_command(), shell=True, cwd=tmp_path, env=plain, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"is already installed: {install.describe_environment().executable}\n")


def test_the_command_in_a_remedy_installs_where_this_process_looks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(install.HOME_VARIABLE, str(tmp_path / "a folder"))

    assert f"'{install.HOME_VARIABLE}={tmp_path}/a folder'" in install.install_command()
