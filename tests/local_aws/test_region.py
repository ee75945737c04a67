"""Starting and stopping a region, and what is left of it when it is killed."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from local_aws.errors import MissingProgramError, RegionError
from local_aws.processes import is_alive, start_time
from local_aws.region import check_programs, down, read_facts, up
from local_aws.testing import LocalRegion
from tests.local_aws.conftest import HeadNode, until

PROJECT = Path(__file__).parents[2]
pytestmark = [pytest.mark.region, pytest.mark.slurm]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    whole = [sys.executable, "-m", "local_aws", *arguments]
    return subprocess.run(whole, cwd=PROJECT, capture_output=True, text=True, timeout=90, check=False)


def processes_of(directory: Path) -> list[str]:
    """The command lines of all processes that have something to do with a region's directory."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                mounts = (process / "mountinfo").read_text()
            except OSError:
                continue
            if str(directory) in line or str(directory) in mounts:
                found.append(line)
    return found


def test_the_command_line_starts_asks_and_stops(tmp_path: Path) -> None:
    directory = tmp_path / "region"
    arguments = ("--dir", str(directory))
    started = command("up", *arguments)
    assert started.returncode == 0, started.stderr
    facts = json.loads(command("status", "--json", *arguments).stdout)
    assert facts == json.loads((directory / "region.json").read_text())
    assert stat.S_IMODE(Path(facts["private_key"]).stat().st_mode) == 0o600
    assert "OPENSSH PRIVATE KEY" in Path(facts["private_key"]).read_text()

    assert command("up", *arguments).stdout == started.stdout, "a second `up` finds the first"
    assert command("fault", "capacity", "compute", *arguments).returncode == 0
    assert "InsufficientInstanceCapacity" in command("status", *arguments).stdout
    unknown = command("fault", "node", "nobody", "node-1", *arguments)
    assert (unknown.returncode, unknown.stderr) == (1, "There is no cluster named nobody. Running: none.\n")

    assert command("down", *arguments).stdout == "stopped\n"
    assert command("down", *arguments).stdout == "no region was running\n"
    refused = command("status", *arguments)
    assert refused.returncode == 1
    assert "python -m local_aws up" in refused.stderr
    assert processes_of(directory) == []


def test_two_regions_side_by_side_and_one_is_killed(region: LocalRegion, tmp_path: Path) -> None:
    directory = tmp_path / "other"
    with LocalRegion(directory) as other:
        _, address = other.start_cluster("twin", nodes=2)
        _, ours = region.start_cluster("twin", nodes=2)
        assert address != ours
        HeadNode(other, address).answer("cd /fsx && srun -N2 true")
        HeadNode(region, ours).answer("cd /fsx && srun -N2 true")
        assert len([line for line in processes_of(directory) if "slurm" in line]) >= 3

        os.kill(other.pid, signal.SIGKILL)
        until(lambda: processes_of(directory) == [])
        until(lambda: read_facts(directory) is None)  # the facts of a dead region are nobody's
        HeadNode(region, ours).answer("sinfo")
        region.stop_cluster("twin")

        again = up(directory)
        assert not (directory / "clusters").exists()
        assert again.endpoint_url == other.endpoint_url, "a directory keeps its addresses"
    assert processes_of(directory) == []
    assert down(directory) is False


def test_a_stopped_region_leaves_no_mount(tmp_path: Path) -> None:
    with LocalRegion(tmp_path) as region:
        region.start_cluster("mounts")
        assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert not (tmp_path / "clusters").exists()
    assert not (tmp_path / "region.json").exists()


def test_a_region_that_cannot_start_says_why(region: LocalRegion, tmp_path: Path) -> None:
    taken = int(region.endpoint_url.rsplit(":", 1)[1])
    with pytest.raises(RegionError, match="in use"):
        up(tmp_path, port=taken)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("local_aws.region.PROGRAMS", {"no-such-program": "slurmctld", "sh": "dash"})
    with pytest.raises(MissingProgramError, match="apt-get install --no-install-recommends slurmctld`"):
        check_programs()


def test_a_process_is_known_by_its_start_time() -> None:
    process = subprocess.Popen(["sleep", "60"])
    started = start_time(process.pid)
    assert started is not None
    assert is_alive(process.pid, started)
    assert not is_alive(process.pid, started + 1)
    process.kill()
    until(lambda: start_time(process.pid) is None)  # a zombie is dead
    process.wait()
    assert not is_alive(process.pid, started)


def test_a_region_that_does_not_start_in_time_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local_aws.region.START_SECONDS", 0.0)
    with pytest.raises(RegionError, match="did not start"):
        up(tmp_path / "region")
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path / "region") not in listed
