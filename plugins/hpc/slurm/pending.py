"""What to do about a pending job: wait, use another partition, start the fleet, or give it up. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from hpc import errors
from hpc.aws_errors import CAPACITY, PERMISSION, QUOTA
from hpc.durations import format_duration
from hpc.slurm.parse import NodeReason
from hpc.slurm.reasons import RESUME_TIMEOUT, Action, Reason, explain, failure_code

#: Seconds for which a reason that cannot pass has to last: Slurm can give it for a moment after a node was lost.
FAIL_GRACE = 20.0


@dataclass(frozen=True)
class Move:
    """Put the job into another partition."""

    partition: str


@dataclass(frozen=True)
class StartFleet:
    """Have the cluster's compute fleet started."""


Step = Move | StartFleet | errors.HpcError


@dataclass(frozen=True)
class PendingPolicy:
    """What a simulation wants done when its job cannot start; `grace` in seconds.

    `on_no_capacity` is fail, wait or next_partition, the first of `partitions`; `on_stopped_fleet` is fail, wait or
    start.
    """

    grace: float = 1800.0
    on_no_capacity: str = "fail"
    on_stopped_fleet: str = "fail"
    partitions: tuple[str, ...] = ()


@dataclass
class PendingClock:
    """Follows one pending job.

    `refused` are the nodes that could not be started for this job, with EC2's code or RESUME_TIMEOUT; `can_last` says
    whether what was seen last may go on for any time.
    """

    policy: PendingPolicy
    refused: dict[str, str] = field(default_factory=dict)
    can_last: bool = True
    _submitted: str = ""
    _no_capacity_since: float | None = None

    def judge(
        self,
        text: str,
        reason: str,
        submitted: str,
        nodes: Iterable[NodeReason],
        unchanged: float,
        *,
        has_run: bool = False,
    ) -> Step | None:
        """Return what is to be done; None while there is nothing but to wait.

        `text` describes the job for people, `reason` is Slurm's, `unchanged` for how many seconds both are the same.
        `has_run` tells a job that was put back: its nodes satisfied its constraints before, and will again.
        """
        # A node keeps the reason of an older failure: only one after this job was first submitted is this job's.
        self._submitted = min(self._submitted or submitted, submitted)
        young = (node for node in nodes if node.since >= self._submitted)
        self.refused = {node.node_list: code for node in young if (code := failure_code(node.reason)) is not None}
        why = explain(reason)
        action = Action.CAPACITY if has_run and why.name == "BadConstraints" else why.action
        self.can_last = action is Action.WAIT and not self.refused
        if action is Action.FAIL and unchanged >= FAIL_GRACE:
            return errors.JobRejectedError(f"{text}. It will never start", remedy=why.remedy)
        if action is Action.FLEET:
            return self._judge_fleet(text, why, unchanged)
        if action is Action.CAPACITY and unchanged >= self.policy.grace:
            return self._without_capacity(errors.CapacityError(text, remedy=why.remedy))
        return self._judge_launches(text)

    def _judge_fleet(self, text: str, why: Reason, unchanged: float) -> Step | None:
        if self.policy.on_stopped_fleet == "start" and unchanged >= min(FAIL_GRACE, self.policy.grace):
            return StartFleet()
        if self.policy.on_stopped_fleet == "wait" or unchanged < self.policy.grace:
            return None
        return errors.CapacityError(text, remedy=why.remedy)

    def _judge_launches(self, text: str) -> Step | None:
        """Return what to do about launches that failed: an error at once if it cannot pass, else after the grace."""
        codes = set(self.refused.values())
        text += f"; its nodes could not be started: {', '.join(sorted(codes))}"
        if codes & QUOTA:
            return errors.QuotaError(text, remedy="ask for a higher quota in Service Quotas, or use fewer nodes")
        if codes & PERMISSION:
            remedy = "compare the head node's role with docs/running-on-aws.md"
            return errors.PermissionDeniedError(text, remedy=remedy)
        if not codes & (CAPACITY | {RESUME_TIMEOUT}):
            self._no_capacity_since = None
            return None
        now = time.monotonic()
        self._no_capacity_since = self._no_capacity_since or now
        if now - self._no_capacity_since < self.policy.grace:
            return None
        grace = format_duration(timedelta(seconds=self.policy.grace))
        if not codes & CAPACITY:
            return errors.ClusterError(
                f"no node joined the cluster for {grace}: {text}",
                remedy="read the nodes' cloud-init and slurmd logs in CloudWatch Logs: custom actions, image, network",
            )
        error = errors.CapacityError(f"no capacity for {grace}: {text}", remedy="wait, or use other instance types")
        return self._without_capacity(error)

    def _without_capacity(self, error: errors.CapacityError) -> Step | None:
        if self.policy.on_no_capacity == "next_partition" and self.policy.partitions:
            return Move(self.policy.partitions[0])
        return None if self.policy.on_no_capacity == "wait" else error
