from __future__ import annotations

import pytest

from hpc.slurm.reasons import Action, explain, failure_code


@pytest.mark.parametrize(
    ("text", "name", "action"),
    [
        ("Resources", "Resources", Action.WAIT),
        ("(Priority)", "Priority", Action.WAIT),
        ("None", "None", Action.WAIT),
        ("", "None", Action.WAIT),
        ("BeginTime", "BeginTime", Action.WAIT),
        (
            "(ReqNodeNotAvail, UnavailableNodes:compute-dy-c5xlarge-[1-4])",
            "ReqNodeNotAvail",
            Action.CAPACITY,
        ),
        (
            "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
            "Nodes required for job are DOWN",
            Action.CAPACITY,
        ),
        (
            "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions",
            "Nodes required for job are DOWN",
            Action.CAPACITY,
        ),
        ("launch_failed_requeued_held", "launch_failed_requeued_held", Action.FAIL),
        ("launch failed requeued held", "launch_failed_requeued_held", Action.FAIL),
        ("PartitionInactive", "PartitionInactive", Action.CAPACITY),
        ("BadConstraints", "BadConstraints", Action.FAIL),
        ("DependencyNeverSatisfied", "DependencyNeverSatisfied", Action.FAIL),
        ("PartitionTimeLimit", "PartitionTimeLimit", Action.FAIL),
    ],
)
def test_reasons_have_a_row(text: str, name: str, action: Action) -> None:
    reason = explain(text)
    assert (reason.name, reason.action) == (name, action)


def test_an_unknown_reason_is_waited_for_and_shown() -> None:
    reason = explain("QOSMaxGRESMinutesPerJob")
    assert (reason.name, reason.action) == ("QOSMaxGRESMinutesPerJob", Action.WAIT)
    assert "not in the table" in reason.meaning


def test_what_fails_says_what_to_do() -> None:
    assert explain("BadConstraints").remedy


@pytest.mark.parametrize(
    ("text", "code"),
    [
        # Written by ParallelCluster's clustermgtd.
        ("(Code:InsufficientInstanceCapacity)Temporarily disabling node due to insufficient capacity [root@t]",
         "InsufficientInstanceCapacity"),
        ("(Code:VcpuLimitExceeded)Error", "VcpuLimitExceeded"),
        ("Scheduler health check failed", None),
        ("", None),
    ],
)  # fmt: skip
def test_a_node_says_why_it_could_not_be_launched(text: str, code: str | None) -> None:
    assert failure_code(text) == code
