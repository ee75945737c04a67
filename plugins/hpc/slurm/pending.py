"""When a pending job is given up: its reason can never pass, or AWS has no instances for it for too long. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from hpc import errors
from hpc.aws_errors import CAPACITY, PERMISSION, QUOTA
from hpc.durations import format_duration
from hpc.slurm.parse import NodeReason
from hpc.slurm.reasons import Action, explain, failure_code

#: Seconds for which a reason that cannot pass has to last: Slurm can give it for a moment after a node was lost.
FAIL_GRACE = 20.0


@dataclass
class PendingClock:
    """Follows one pending job; `capacity_grace` are the seconds for which AWS may have no capacity.

    `refused` are the nodes that AWS refused to launch for this job, with its code; `can_last` says whether what was
    seen last may go on for any time.
    """

    capacity_grace: float
    refused: dict[str, str] = field(default_factory=dict)
    can_last: bool = True
    _submitted: str = ""
    _no_capacity_since: float | None = None

    def judge(
        self, text: str, reason: str, submitted: str, nodes: Iterable[NodeReason], unchanged: float
    ) -> errors.HpcError | None:
        """Return why the wait is over; None while it is not.

        `text` describes the job for people, `reason` is Slurm's, `unchanged` for how many seconds both are the same.
        """
        # A node keeps the reason of an older failure: only one after this job was first submitted is this job's.
        self._submitted = min(self._submitted or submitted, submitted)
        young = (node for node in nodes if node.since >= self._submitted)
        self.refused = {node.node_list: code for node in young if (code := failure_code(node.reason)) is not None}
        why = explain(reason)
        self.can_last = why.action is Action.WAIT and not self.refused
        if why.action is Action.FAIL and unchanged >= FAIL_GRACE:
            return errors.JobRejectedError(f"{text}. It will never start", remedy=why.remedy)
        if why.action is Action.CAPACITY and unchanged >= self.capacity_grace:
            return errors.CapacityError(text, remedy=why.remedy)
        return self._judge_launches(text)

    def _judge_launches(self, text: str) -> errors.HpcError | None:
        """Return the error of launches that AWS refused: at once if it cannot pass, else after the grace."""
        codes = set(self.refused.values())
        text += f"; AWS refused to launch its nodes: {', '.join(sorted(codes))}"
        if codes & QUOTA:
            return errors.QuotaError(text, remedy="ask for a higher quota in Service Quotas, or use fewer nodes")
        if codes & PERMISSION:
            remedy = "compare the head node's role with docs/running-on-aws.md"
            return errors.PermissionDeniedError(text, remedy=remedy)
        if not codes & CAPACITY:
            self._no_capacity_since = None
            return None
        now = time.monotonic()
        self._no_capacity_since = self._no_capacity_since or now
        if now - self._no_capacity_since < self.capacity_grace:
            return None
        grace = format_duration(timedelta(seconds=self.capacity_grace))
        return errors.CapacityError(f"no capacity for {grace}: {text}", remedy="wait, or use other instance types")
