"""What newer Slurms print for the very questions of `watch`, and how it is judged. Slurm 22.05 is in test_waits.py.

Each capture is of one small cluster made of Debian's packages; the name of a job tells what was done to it. The memory
was limited by a control group. A cloud node that never booted is a NODE_FAIL there, and nothing that was tried made a
BOOT_FAIL or, without a federation of clusters, a REVOKED: these two are as squeue(1) describes them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc.errors import JobFailedError
from hpc.slurm.events import raise_for_end
from hpc.slurm.identity import SubmittedJob
from hpc.slurm.on_head_node import INDEX, NAME, SEPARATOR, STATE, look_at_array, look_at_one, parse_queue
from hpc.slurm.parse import parse_row, parse_sinfo
from hpc.slurm.reasons import RESUME_TIMEOUT, explain, failure_code
from hpc.slurm.record import JobRecord, judge

DATA = Path(__file__).parents[1] / "data"
VERSIONS = ("24.11.5", "26.05.5")
ENDS = {
    "cancelled": ("CANCELLED", "was cancelled"),
    "deadline": ("DEADLINE", "DeadLine"),
    "failed": ("FAILED", "NonZeroExitCode"),
    "signalled": ("FAILED", "RaisedSignal:11"),
    "node_fail": ("NODE_FAIL", "lost a node"),
    "boot_fail": ("NODE_FAIL", "lost a node"),
    "preempted": ("PREEMPTED", "make place for another job"),
    "timeout": ("TIMEOUT", "at its walltime"),
}
CASES = [(version, name, *end) for version in VERSIONS for name, end in ENDS.items()]


def queue(version: str) -> dict[str, list[list[str]]]:
    return parse_queue((DATA / f"slurm-{version}-squeue-all.txt").read_text())


def verdict(name: str, row: list[str]) -> str:
    """Say how a job ended that left no record, by the code that a wait goes through."""
    sight = look_at_one({"told": None, "record": "/nowhere"}, row[:-1])
    result = judge(int(row[0]), JobRecord(), parse_row(sight["row"]), unchanged=1e6)
    assert result is not None
    job = SubmittedJob("c", "0123456789ab", 1, int(row[0]), name, "/fsx", "/fsx/.slurm", "/fsx/log", {name: 0})
    raise_for_end({"result": result.as_dict(), "last_lines": []}, job)
    return result.state


@pytest.mark.parametrize(
    ("version", "name", "state", "said"), [*CASES, ("24.11.5", "memory", "OUT_OF_MEMORY", "memory")]
)
def test_an_end_that_is_no_success(version: str, name: str, state: str, said: str) -> None:
    (row,) = queue(version)[name]
    with pytest.raises(JobFailedError, match=f"is {state}: ") as caught:
        verdict(name, row)
    assert said in str(caught.value)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_success(version: str) -> None:
    (row,) = queue(version)["completed"]
    assert verdict("completed", row) == "COMPLETED"


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [("BOOT_FAIL", "NodeDown", "a node did not boot"), ("REVOKED", "None", "taken over by another cluster")],
)
def test_an_end_that_squeue_only_describes(state: str, reason: str, said: str) -> None:
    line = SEPARATOR.join(("7", "N/A", state, reason, "n1", "described", "2026-11-25T07:20:56", "INVALID"))
    (row,) = parse_queue(line)["described"]
    with pytest.raises(JobFailedError, match=f"is {state}: it .*{said}"):
        verdict("described", row)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_array(version: str, tmp_path: Path) -> None:
    rows = [(0, row) for row in queue(version)["array"]]
    assert {row[INDEX]: row[STATE] for _, row in rows} == {
        "0": "COMPLETED",
        "1": "FAILED",
        "2": "COMPLETED",
        "3": "FAILED",
    }
    seen = look_at_array({"record": str(tmp_path)}, rows)
    assert seen["broken"] == {"0": "COMPLETED", "1": "FAILED", "2": "COMPLETED", "3": "FAILED"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_reason_has_its_row(version: str) -> None:
    rows = [row for rows in queue(version).values() for row in rows]
    assert {row[NAME]: row[3] for row in rows if row[STATE] == "PENDING"} == {
        "boot_requeue": "BeginTime",
        "dependency": "DependencyNeverSatisfied",
        "held": "JobHeldUser",
        "later": "BeginTime",
    }
    assert [row for row in rows if "not in the table" in explain(row[3]).meaning] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_node_that_did_not_boot(version: str) -> None:
    nodes = parse_sinfo((DATA / f"slurm-{version}-sinfo.txt").read_text())
    assert {node.node_list: failure_code(node.reason) for node in nodes} == {"n1": None, "n[2-3]": RESUME_TIMEOUT}
