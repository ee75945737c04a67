"""How much of a run was somebody else's time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from benchmarks.intervals import Interval, covered, of_jobs, of_stack

STACK = "arn:aws:cloudformation:us-east-1:1:stack/demo/1"


@pytest.mark.parametrize(
    ("intervals", "seconds"),
    [
        ([], 0),
        ([Interval(12, 15)], 3),
        ([Interval(12, 15), Interval(16, 18)], 5),
        ([Interval(16, 18), Interval(12, 17)], 6),
        ([Interval(12, 18), Interval(13, 14)], 6),
        ([Interval(0, 11), Interval(19, 99)], 2),
        ([Interval(0, 5), Interval(30, 40)], 0),
        ([Interval(0, 99), Interval(3, 4)], 10),
    ],
)
def test_a_second_counts_once_and_only_within_the_run(intervals: list[Interval], seconds: float) -> None:
    assert covered(intervals, 10, 20) == seconds


def told(second: int, status: str, logical_id: str = "demo") -> dict[str, Any]:
    return {
        "Timestamp": datetime.fromtimestamp(second, UTC),
        "StackId": STACK,
        "PhysicalResourceId": STACK if logical_id == "demo" else logical_id,
        "ResourceStatus": status,
    }


def test_a_stack_is_made_and_deleted() -> None:
    events = [
        *(told(9, "DELETE_COMPLETE"), told(8, "DELETE_COMPLETE", "HeadNode"), told(7, "DELETE_IN_PROGRESS")),
        *(told(5, "CREATE_COMPLETE"), told(3, "CREATE_COMPLETE", "HeadNode"), told(1, "CREATE_IN_PROGRESS")),
    ]
    assert of_stack(events) == [Interval(1, 5), Interval(7, 9)]


def test_a_job_is_slurms_from_its_submission_to_its_end() -> None:
    log = [
        "[2026-11-27T00:00:01.250] _slurm_rpc_submit_batch_job: JobId=1 InitPrio=4294901759 usec=300",
        "[2026-11-27T00:00:02.000] _slurm_rpc_submit_batch_job: JobId=2 InitPrio=4294901758 usec=300",
        "[2026-11-27T00:00:02.000] sched: Allocate JobId=1 NodeList=compute-dy-nodes-1 #CPUs=2 Partition=compute",
        "[2026-11-27T00:00:04.500] _job_complete: JobId=1 WEXITSTATUS 0",
        "[2026-11-27T00:00:04.750] _job_complete: JobId=1 done",
    ]
    (found,) = of_jobs(log)
    assert found.end - found.begin == 3.5
