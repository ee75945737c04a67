"""What is done about a pending job: told apart by reason, nodes, and what the simulation wants."""

from __future__ import annotations

from typing import Any

import pytest

from hpc.errors import CapacityError, ClusterError, JobRejectedError, PermissionDeniedError, QuotaError
from hpc.slurm import pending
from hpc.slurm.parse import NodeReason
from hpc.slurm.pending import FAIL_GRACE, Move, PendingClock, PendingPolicy, StartFleet

SUBMITTED = "2026-11-25T02:00:00"
LATER = "2026-11-25T02:05:00"


def node(reason: str, since: str = LATER) -> NodeReason:
    return NodeReason("compute-dy-c5l-1", "down~", reason, since)


def judge(reason: str, nodes: list[NodeReason], unchanged: float, *, has_run: bool = False, **policy: Any) -> Any:
    clock = PendingClock(PendingPolicy(**{"grace": 0.0, **policy}))
    return clock.judge("Job 7 is PENDING", reason, SUBMITTED, nodes, unchanged, has_run=has_run)


@pytest.mark.parametrize(
    ("reason", "nodes", "unchanged", "error"),
    [
        ("Resources", [], 1e6, None),
        ("Priority", [], 1e6, None),
        ("Resources", [node("(Code:InsufficientInstanceCapacity)x")], 0, CapacityError),
        ("BeginTime", [node("(Code:InsufficientInstanceCapacity)x")], 0, CapacityError),
        ("Resources", [node("(Code:InsufficientInstanceCapacity)x", "2026-11-25T01:59:59")], 0, None),
        ("Resources", [node("(Code:VcpuLimitExceeded)x")], 0, QuotaError),
        ("Resources", [node("(Code:UnauthorizedOperation)x")], 0, PermissionDeniedError),
        ("Resources", [node("ResumeTimeout reached")], 0, ClusterError),
        ("Resources", [node("Not responding")], 1e6, None),
        ("PartitionInactive", [], 1, CapacityError),
        ("ReqNodeNotAvail, UnavailableNodes:x", [], 1, CapacityError),
        ("BadConstraints", [], FAIL_GRACE - 1, None),
        ("BadConstraints", [], FAIL_GRACE, JobRejectedError),
        ("PartitionNodeLimit", [], FAIL_GRACE, JobRejectedError),
    ],
)
def test_what_cannot_start_is_told_apart(
    reason: str, nodes: list[NodeReason], unchanged: float, error: type[Exception] | None
) -> None:
    step = judge(reason, nodes, unchanged)
    assert step is None if error is None else isinstance(step, error)


def test_bad_constraints_after_a_lost_node_may_pass() -> None:
    """Slurm says so while the lost nodes of a spot requeue are down, though they satisfied the job before."""
    assert judge("BadConstraints", [], 100, has_run=True, grace=1000) is None
    assert isinstance(judge("BadConstraints", [], 1000, has_run=True, grace=1000), CapacityError)


NO_CAPACITY = [node("(Code:InsufficientInstanceCapacity)x")]


@pytest.mark.parametrize(
    ("policy", "step"),
    [
        ({"on_no_capacity": "wait"}, None),
        ({"on_no_capacity": "next_partition", "partitions": ("ondemand", "last")}, Move("ondemand")),
    ],
)
def test_a_simulation_chooses_what_no_capacity_does(policy: dict[str, Any], step: Any) -> None:
    assert judge("Resources", NO_CAPACITY, 0, **policy) == step
    assert judge("ReqNodeNotAvail", [], 10, **policy) == step


def test_after_the_last_partition_it_fails() -> None:
    assert isinstance(judge("Resources", NO_CAPACITY, 0, on_no_capacity="next_partition"), CapacityError)


def test_a_stopped_fleet_is_started_or_waited_for() -> None:
    assert judge("PartitionInactive", [], 10, on_stopped_fleet="start") == StartFleet()
    assert judge("PartitionInactive", [], FAIL_GRACE - 1, on_stopped_fleet="start", grace=1800) is None
    assert judge("PartitionInactive", [], FAIL_GRACE, on_stopped_fleet="start", grace=1800) == StartFleet()
    assert judge("PartitionInactive", [], 1e6, on_stopped_fleet="wait") is None


def test_the_grace_begins_with_the_first_refusal_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(pending, "time", type("Clock", (), {"monotonic": staticmethod(lambda: now)}))
    clock = PendingClock(PendingPolicy(grace=60))

    def look(nodes: list[NodeReason]) -> Any:
        return clock.judge("text", "Resources", SUBMITTED, nodes, 0)

    assert look(NO_CAPACITY) is None
    now += 59
    assert look(NO_CAPACITY) is None
    assert look([]) is None, "it had its instance, and waits for something else"
    now += 3600
    assert look(NO_CAPACITY) is None
    now += 60
    assert isinstance(look(NO_CAPACITY), CapacityError)
