"""Why a job is pending: every reason that concerns a cluster of our own, what it means here, and what to do.

Source: squeue(1), JOB REASON CODES. A reason that is not in the table is waited for, and shown as Slurm writes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Action(Enum):
    """What whoever waits should do about a pending reason."""

    WAIT = "wait"
    CAPACITY = "capacity"
    FAIL = "fail"


@dataclass(frozen=True)
class Reason:
    """A pending reason: its meaning for people, what to do, and the remedy if it does not pass by itself."""

    name: str
    meaning: str
    action: Action = Action.WAIT
    remedy: str = ""


_TABLE = (
    Reason("None", "Slurm has not looked at it yet"),
    Reason("Priority", "other jobs are before it"),
    Reason("Resources", "waits for nodes: they are busy, or are being started"),
    Reason("BeginTime", "starts at a later time, or was put back into the queue a moment ago"),
    Reason("Dependency", "waits for another job to end"),
    Reason("JobArrayTaskLimit", "as many elements of the array run as its limit allows"),
    Reason("Prolog", "its nodes are being prepared"),
    Reason("Cleaning", "was put back; what is left of its last run is being cleaned up"),
    Reason("Licenses", "waits for a licence"),
    Reason("Reservation", "waits for its reservation"),
    Reason("JobHeldUser", "is held by a user", remedy="release it: scontrol release <job id>"),
    Reason("JobHeldAdmin", "is held by an administrator or after a failed start", remedy="scontrol release <job id>"),
    Reason("NodeDown", "a node that it needs is down", Action.CAPACITY, "see `sinfo -R` on the head node"),
    Reason(
        "ReqNodeNotAvail",
        "nodes that it needs are down, drained or could not be started",
        Action.CAPACITY,
        "see `sinfo -R` on the head node",
    ),
    Reason(
        "Nodes required for job are DOWN",
        "nodes that it needs are down, drained, or kept for others",
        Action.CAPACITY,
        "see `sinfo -R` on the head node",
    ),
    Reason("PartitionDown", "its partition is down", Action.CAPACITY, "scontrol update partitionname=… state=up"),
    Reason(
        "PartitionInactive",
        "its partition is inactive: the cluster's compute fleet is stopped, or ParallelCluster protects the queue after"
        " too many failed starts",
        Action.CAPACITY,
        "pcluster update-compute-fleet --status START_REQUESTED, after reading the head node's clustermgtd log",
    ),
    Reason(
        "BadConstraints",
        "no node can ever satisfy its constraints",
        Action.FAIL,
        "ask for what a node of the queue has",
    ),
    Reason(
        "DependencyNeverSatisfied", "the job that it depends on did not end as asked", Action.FAIL, "run that one again"
    ),
    Reason("PartitionNodeLimit", "asks for more nodes than its partition has", Action.FAIL, "use fewer nodes"),
    Reason("PartitionTimeLimit", "asks for more time than its partition allows", Action.FAIL, "shorten the walltime"),
    Reason(
        "PartitionConfig",
        "asks for what its partition does not allow",
        Action.FAIL,
        "compare with scontrol show partition",
    ),
    Reason("InvalidAccount", "its account is not valid", Action.FAIL, "leave out --account, or have it made"),
    Reason("InvalidQOS", "its quality of service is not valid", Action.FAIL, "leave out --qos, or have it made"),
    Reason(
        "JobLaunchFailure", "could not be launched", Action.FAIL, "see the slurmd log of its node in CloudWatch Logs"
    ),
    Reason(
        "launch_failed_requeued_held",
        "could not be launched, was put back and is held",
        Action.FAIL,
        "see slurmd's log",
    ),
    Reason("FrontEndDown", "no front end is available", Action.CAPACITY, "see scontrol show frontend"),
)


def _plain(text: str) -> str:
    """Return a reason in one spelling: where one release of Slurm writes blanks, another writes underscores."""
    return text.strip().strip("()").replace("_", " ").lower()


_BY_NAME = {_plain(reason.name): reason for reason in _TABLE}

#: ParallelCluster writes EC2's error code into the reason of a node that it could not start.
_NODE_CODE = re.compile(r"\(Code:(?P<code>[A-Za-z.]+)\)")


def explain(text: str) -> Reason:
    """Return the row of a reason as squeue prints it, for example `(ReqNodeNotAvail, UnavailableNodes:a-1)`."""
    plain = _plain(text)
    for name in (re.split(r"[,:(]", plain, maxsplit=1)[0].strip(), plain.split(" ", 1)[0]):
        if name in _BY_NAME:
            return _BY_NAME[name]
    return Reason(text.strip().strip("()"), "has a reason that is not in the table") if plain else _BY_NAME["none"]


def failure_code(node_reason: str) -> str | None:
    """Return EC2's error code from a node's reason, for example `InsufficientInstanceCapacity`; None if it has none."""
    match = _NODE_CODE.search(node_reason)
    return match["code"] if match else None
