"""Running the command: programs of our own stand in for pcluster where it has to hang, leak or be missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc import errors
from hpc.cluster.cli import Pcluster
from hpc.cluster.install import Environment

VARIABLES = {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_SECRET_ACCESS_KEY": "top-secret"}  # pragma: allowlist secret


@pytest.fixture
def pcluster(tmp_path: Path) -> Callable[[str], Pcluster]:
    """Return the function that makes a `pcluster` of a shell script."""

    def make(script: str) -> Pcluster:
        environment = Environment(tmp_path / "environment", "3.16.1", tmp_path / "lock", "digest")
        environment.bin.mkdir(parents=True, exist_ok=True)
        environment.executable.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        environment.executable.chmod(0o755)
        return Pcluster(environment, VARIABLES)

    return make


def test_arguments_configuration_and_environment_arrive(pcluster: Callable[[str], Pcluster]) -> None:
    script = r"""
    printf '{"arguments": "%s", "config": "%s", "home": "%s", "key": "%s", "path": "%s", "python": "%s"}' \
      "$*" "$(cat "$7")" "$HOME" "$AWS_SECRET_ACCESS_KEY" "${PATH%%:*}" "$PYTHONPATH$AIRFLOW_HOME"
    """

    answer = pcluster(script).create("demo", "Region: eu-west-1", rollback_on_failure=False)

    words = answer["arguments"].split()
    assert words[:5] == ["create-cluster", "--region", "eu-west-1", "--cluster-name", "demo"]
    assert words[-2:] == ["--rollback-on-failure", "false"]
    assert "top-secret" not in answer["arguments"]
    assert answer["config"] == "Region: eu-west-1"
    assert answer["key"] == "top-secret"
    assert answer["home"] not in ("", os.environ["HOME"])
    assert not Path(answer["home"]).exists()
    assert answer["path"].endswith("/environment/bin")
    assert answer["python"] == ""


def test_the_log_is_shown_when_the_answer_says_nothing(pcluster: Callable[[str], Pcluster]) -> None:
    script = (
        'mkdir "$HOME/.parallelcluster"; echo "ERROR - it broke" > "$HOME/.parallelcluster/pcluster-cli.log"; exit 1'
    )

    with pytest.raises(errors.ClusterError, match="ERROR - it broke"):
        pcluster(script).describe("demo")


def test_a_command_that_is_not_there_says_how_to_get_it(pcluster: Callable[[str], Pcluster], tmp_path: Path) -> None:
    command = pcluster("")
    (tmp_path / "environment" / "bin" / "pcluster").unlink()

    with pytest.raises((errors.ConfigurationError, errors.ClusterError), match=r"pcluster") as caught:
        command.describe("demo")

    assert "No such file" in str(caught.value)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _await(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


HANGS = 'sleep 300 & echo $! > "{file}.part"; mv "{file}.part" "{file}"; wait'


def test_kill_ends_the_command_and_its_children(pcluster: Callable[[str], Pcluster], tmp_path: Path) -> None:
    file = tmp_path / "child"
    command = pcluster(HANGS.format(file=file))
    killer = threading.Thread(target=lambda: (_await(file.exists), command.kill()))
    killer.start()

    with pytest.raises(errors.ClusterError):
        command.describe("demo")

    killer.join()
    _await(lambda: not _is_running(int(file.read_text())))


def test_a_command_that_takes_too_long_is_ended(pcluster: Callable[[str], Pcluster], tmp_path: Path) -> None:
    file = tmp_path / "child"

    with pytest.raises(errors.TransientError, match="did not end within 5 s"):
        pcluster(HANGS.format(file=file)).run("describe-cluster", [], timeout=5)

    _await(lambda: not _is_running(int(file.read_text())))


@pytest.mark.skipif(sys.platform != "linux", reason="setpriv is Linux's")
def test_the_command_dies_with_the_task(tmp_path: Path, pcluster: Callable[[str], Pcluster]) -> None:
    file = tmp_path / "command"
    pcluster(f'echo $$ > "{file}.part"; mv "{file}.part" "{file}"; sleep 300')
    code = (
        "import sys; from pathlib import Path; from hpc.cluster.cli import Pcluster; "
        "from hpc.cluster.install import Environment; p = Path(sys.argv[1]); "
        "Pcluster(Environment(p, '3.16.1', p, ''), {'AWS_DEFAULT_REGION': 'r'}).describe('demo')"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "plugins")}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "environment")], env=environment) as task:
        _await(file.exists, 30)
        task.send_signal(signal.SIGKILL)

    _await(lambda: not _is_running(int(file.read_text())))
