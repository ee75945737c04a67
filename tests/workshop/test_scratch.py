"""What a test run leaves, and what the next one makes of it. The runs are processes of their own, and die hard."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.local_aws.test_region import processes_of
from workshop import ROOT, processes, scratch

BEGIN = (
    "import os, sys; from pathlib import Path; from workshop import scratch\nrun = scratch.begin(Path(sys.argv[1]))\n"
)
START_SLEEPER = (
    "from workshop import processes\n"
    "processes.start('sleeper', ['sleep', '321'], records=run / 'server', environment=dict(os.environ),"
    " log=run / 'log')\n"
)
START_REGION = (
    "from local_aws.testing import LocalRegion\nLocalRegion(run / 'region').__enter__().start_cluster('left')\n"
)
DIE = "os.kill(os.getpid(), 9)"
LIVE = "print(run, flush=True); sys.stdin.read()"


def command(code: str, parent: Path) -> list[str]:
    return [sys.executable, "-c", BEGIN + code, str(parent)]


def folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()]


def test_the_next_run_ends_and_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    killed = subprocess.run(command(START_SLEEPER + DIE, tmp_path), cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = folders(tmp_path)
    assert processes.is_running("sleeper", left / "server")
    leader = processes._read(left / "server" / "sleeper.process")
    assert leader

    ours = scratch.begin(tmp_path)

    assert folders(tmp_path) == [ours]
    assert list(processes._session(leader)) == []


@pytest.mark.region
@pytest.mark.slurm
def test_a_region_of_a_killed_run_goes_with_its_machines(tmp_path: Path) -> None:
    killed = subprocess.run(command(START_REGION + DIE, tmp_path), cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = folders(tmp_path)
    assert len(processes_of(left)) > 3

    scratch.begin(tmp_path)

    assert processes_of(left) == []
    assert not left.exists()


def test_a_run_beside_ours_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(
        command(START_SLEEPER + LIVE, tmp_path), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        theirs = Path(other.stdout.readline().strip())
        try:
            ours = scratch.begin(tmp_path)

            assert ours != theirs
            assert processes.is_running("sleeper", theirs / "server")
        finally:
            processes.stop_all(theirs / "server")
            other.communicate()


def test_the_tests_write_below_the_checkouts_local_folder(tmp_path: Path) -> None:
    assert tmp_path.is_relative_to(scratch.DIRECTORY)
