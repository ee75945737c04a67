from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpc.slurm.on_head_node import look_at_one
from hpc.slurm.parse import QueuedJob
from hpc.slurm.record import LOST_AFTER, RECORD_GRACE, JobRecord, judge, parse_record
from hpc.slurm.states import JobState

START = JobRecord(job_id=7, start=100, node_list="n-1")
END = JobRecord(job_id=7, start=100, end=160, seconds=60, exit_code=0, signal=0, node_list="n-1")
FAILED = JobRecord(job_id=7, start=100, end=160, seconds=60, exit_code=3, signal=0, node_list="n-1")
TERMINATED = JobRecord(job_id=7, start=100, end=160, exit_code=143, signal=15, node_list="n-1", terminated=150)


def row(state: JobState, reason: str = "None") -> QueuedJob:
    return QueuedJob(7, state, reason, "n-1", "name", "2026-11-23T02:41:27")


@pytest.mark.parametrize(
    ("record", "state", "unchanged", "verdict"),
    [
        # Its own record decides, whatever Slurm says or has forgotten.
        (END, JobState.RUNNING, 0, "COMPLETED"),
        (END, None, 0, "COMPLETED"),
        (FAILED, JobState.COMPLETING, 0, "FAILED"),
        (FAILED, None, 0, "FAILED"),
        # Slurm ended it: Slurm's word for it is the better one.
        (TERMINATED, JobState.TIMEOUT, 0, "TIMEOUT"),
        (TERMINATED, JobState.CANCELLED, 0, "CANCELLED"),
        (TERMINATED, None, 0, "CANCELLED"),
        # It may be put back into the queue: that is no end.
        (TERMINATED, JobState.COMPLETING, 1e6, None),
        (TERMINATED, JobState.PENDING, 1e6, None),
        (TERMINATED, JobState.REQUEUED, 1e6, None),
        # No record yet.
        (JobRecord(), JobState.PENDING, 1e6, None),
        (START, JobState.RUNNING, 1e6, None),
        (START, JobState.COMPLETED, 0, None),
        (START, JobState.COMPLETED, RECORD_GRACE, "COMPLETED"),
        (START, JobState.FAILED, 0, None),
        (START, JobState.NODE_FAIL, RECORD_GRACE, "NODE_FAIL"),
        (JobRecord(), JobState.CANCELLED, 0, "CANCELLED"),
        (JobRecord(), JobState.BOOT_FAIL, 0, "BOOT_FAIL"),
        # Unknown is not done.
        (JobRecord(), JobState.UNKNOWN, 1e6, None),
        (JobRecord(), None, LOST_AFTER - 1, None),
        (START, None, LOST_AFTER - 1, None),
        (START, None, LOST_AFTER, "UNKNOWN"),
        (JobRecord(), None, LOST_AFTER, "UNKNOWN"),
    ],
)
def test_the_verdict(record: JobRecord, state: JobState | None, unchanged: float, verdict: str | None) -> None:
    result = judge(7, record, row(state) if state else None, unchanged)
    assert (result.state if result else None) == verdict


def test_a_job_that_ended_for_its_checkpoint_is_not_done() -> None:
    unfinished = replace(END, unfinished=1, continued=10)
    result = judge(7, unfinished, None, 0)
    assert result is not None
    assert (result.state, result.succeeded, result.continued) == ("TIMEOUT", False, 10)


def test_only_exit_code_0_is_success() -> None:
    succeeded = judge(7, END, None, 0)
    failed = judge(7, FAILED, None, 0)
    assert succeeded is not None
    assert succeeded.succeeded
    assert failed is not None
    assert not failed.succeeded


def test_a_result_says_where_when_and_how() -> None:
    result = judge(7, TERMINATED, row(JobState.TIMEOUT, "TimeLimit"), 0)
    assert result is not None
    assert result.as_dict() == {
        "job_id": 7, "state": "TIMEOUT", "exit_code": 143, "signal": 15, "node_list": "n-1", "start": 100, "end": 160,
        "seconds": None, "restarts": 0, "continued": 0, "reason": "TimeLimit",
    }  # fmt: skip


def test_a_record_is_read_whatever_is_there_yet(tmp_path: Path) -> None:
    folder = tmp_path / "a 'record'"
    folder.mkdir()

    def read() -> JobRecord:
        sight = look_at_one({"told": None, "record": str(folder)}, None)
        return parse_record(sight["record"])

    assert read() == JobRecord()
    (folder / "start").write_text("job_id=7\nstart=100\nnode_list=n-[1-2]\nrestarts=1\n")
    assert read() == JobRecord(job_id=7, start=100, node_list="n-[1-2]", restarts=1)
    (folder / "end").write_text("end=160\nseconds=60\nexit_code=0\nsignal=0\n")
    assert read().exit_code == 0
