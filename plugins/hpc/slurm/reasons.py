"""Why a job is pending: every reason that Slurm gives, what it means here, and what to do about it.

Source: job_reason_codes.html and the `job_state_reason` table of Slurm 22.05 to 25.05. Reasons that differ only in what
they limit share a row, whose name is a pattern. A reason of a later Slurm is waited for, and shown as Slurm writes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase


class Action(Enum):
    """What whoever waits should do about a pending reason, and after how long."""

    #: It passes by itself, when others are done or a time has come.
    WAIT = "wait"
    #: It passes if AWS or a person helps; given up after the simulation's grace.
    CAPACITY = "capacity"
    #: The cluster's compute fleet does not start anything; the simulation may have it started.
    FLEET = "fleet"
    #: It cannot pass; given up after FAIL_GRACE seconds, for Slurm can say so for a moment after a node was lost.
    FAIL = "fail"


@dataclass(frozen=True)
class Reason:
    """A pending reason: its meaning for people, what to do, and the remedy if it does not pass by itself."""

    name: str
    meaning: str
    action: Action = Action.WAIT
    remedy: str = ""


_LIMITS = "no account limits exist on a cluster without an accounting database: ask who configured them"
_SINFO = "see `sinfo -R` on the head node"
_FLEET = (
    "pcluster update-compute-fleet --status START_REQUESTED, after reading the head node's clustermgtd log; or let the"
    " simulation do it: pending: {on_stopped_fleet: start}"
)

_TABLE = (
    # Its turn.
    Reason("None", "Slurm has not looked at it yet"),
    Reason("Priority", "other jobs are before it"),
    Reason("Resources", "waits for nodes: they are busy, or are being started"),
    Reason("SchedDefer", "is scheduled with the others of the next round"),
    Reason("BeginTime", "starts at a later time, or was put back into the queue a moment ago"),
    Reason("Dependency", "waits for another job to end"),
    Reason("JobArrayTaskLimit", "as many elements of the array run as its limit allows"),
    Reason("Prolog", "its nodes are being prepared"),
    Reason("Cleaning", "was put back; what is left of its last run is being cleaned up"),
    Reason("Licenses", "waits for a licence"),
    Reason("Reservation", "waits for its reservation"),
    Reason("FedJobLock", "waits for the other clusters of its federation"),
    Reason("BurstBuffer*", "waits for its burst buffer"),
    Reason("Power*", "waits for electrical power that is reserved or not available"),
    # Held.
    Reason("JobHeldUser", "is held by a user", remedy="release it: scontrol release <job id>"),
    Reason("JobHeldAdmin", "is held by an administrator or after a failed start", remedy="scontrol release <job id>"),
    Reason(
        "JobHoldMaxRequeue",
        "was put back into the queue too often and is held",
        Action.FAIL,
        "see why its nodes are lost: the slurmd logs in CloudWatch Logs",
    ),
    Reason(
        "launch_failed_requeued_held",
        "could not be launched, was put back and is held",
        Action.FAIL,
        "see slurmd's log",
    ),
    Reason("ReservationDeleted", "its reservation was deleted", Action.FAIL, "submit it without --reservation"),
    # Nodes.
    Reason("NodeDown", "a node that it needs is down", Action.CAPACITY, _SINFO),
    Reason("ReqNodeNotAvail", "nodes that it needs are down, drained or could not be started", Action.CAPACITY, _SINFO),
    Reason(
        "Nodes required for job are DOWN",
        "nodes that it needs are down, drained, or kept for others",
        Action.CAPACITY,
        _SINFO,
    ),
    Reason("FrontEndDown", "no front end is available", Action.CAPACITY, "see scontrol show frontend"),
    Reason("PartitionDown", "its partition is down", Action.CAPACITY, "scontrol update partitionname=… state=up"),
    Reason(
        "PartitionInactive",
        "its partition is inactive: the cluster's compute fleet is stopped, or ParallelCluster protects the queue after"
        " too many failed starts",
        Action.FLEET,
        _FLEET,
    ),
    # Impossible.
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
    Reason("MaxMemPerLimit", "asks for more memory than is allowed", Action.FAIL, "ask for less memory"),
    Reason("DeadLine", "cannot end before its deadline", Action.FAIL, "leave out --deadline, or shorten the walltime"),
    Reason("InvalidAccount", "its account is not valid", Action.FAIL, "leave out --account, or have it made"),
    Reason("InvalidQOS", "its quality of service is not valid", Action.FAIL, "leave out --qos, or have it made"),
    Reason("AccountNotAllowed", "its account may not use the partition", Action.FAIL, "use another partition"),
    Reason("QOSNotAllowed", "its quality of service may not use the partition", Action.FAIL, "use another partition"),
    Reason("BlockMaxError", "its nodes have had too many errors", Action.FAIL, _SINFO),
    Reason("BlockFreeAction", "its nodes are being freed"),
    # It ran, and ended.
    Reason(
        "JobLaunchFailure", "could not be launched", Action.FAIL, "see the slurmd log of its node in CloudWatch Logs"
    ),
    Reason("SystemFailure", "ended by a failure of Slurm itself", Action.FAIL, "see the slurmctld log"),
    Reason("NonZeroExitCode", "ended with another exit code than 0", Action.FAIL, "read its output"),
    Reason("RaisedSignal", "was ended by a signal", Action.FAIL, "read its output"),
    Reason("TimeLimit", "reached its walltime", Action.FAIL, "ask for a longer walltime"),
    Reason("InactiveLimit", "was inactive for too long", Action.FAIL, "see InactiveLimit of slurm.conf"),
    Reason("OutOfMemory", "used more memory than it asked for", Action.FAIL, "ask for more memory"),
    # Limits of accounts. Of one job alone they cannot pass; the others pass when other jobs end.
    Reason("*PerJob", "asks for more than a limit allows one job", Action.FAIL, _LIMITS),
    Reason("*PerJobLimit", "asks for more than a limit allows one job", Action.FAIL, _LIMITS),
    Reason("*PerNode", "asks for more than a limit allows on one node", Action.FAIL, _LIMITS),
    Reason("QOSMin*", "asks for less than its quality of service wants", Action.FAIL, _LIMITS),
    Reason("Assoc*", "waits until its association is below its limit", remedy=_LIMITS),
    Reason("QOS*", "waits until its quality of service is below its limit", remedy=_LIMITS),
    Reason("Max*PerAccount", "waits until its account is below its limit", remedy=_LIMITS),
    Reason("AccountingPolicy", "waits until a limit of the accounting allows it", remedy=_LIMITS),
)


def _plain(text: str) -> str:
    """Return a reason in one spelling: where one release of Slurm writes blanks, another writes underscores."""
    return text.strip().strip("()").replace("_", " ").lower()


_BY_NAME = {_plain(reason.name): reason for reason in _TABLE if "*" not in reason.name}
_PATTERNS = tuple((_plain(reason.name), reason) for reason in _TABLE if "*" in reason.name)

#: ParallelCluster writes EC2's error code into the reason of a node that it could not start.
_NODE_CODE = re.compile(r"\(Code:(?P<code>[A-Za-z.]+)\)")
#: Slurm's own words for a node whose instance was launched, but did not join the cluster in time.
RESUME_TIMEOUT = "ResumeTimeout"


def explain(text: str) -> Reason:
    """Return the row of a reason as squeue prints it, for example `(ReqNodeNotAvail, UnavailableNodes:a-1)`."""
    plain = _plain(text)
    if not plain:
        return _BY_NAME["none"]
    names = (re.split(r"[,:(]", plain, maxsplit=1)[0].strip(), plain.split(" ", 1)[0])
    for name in names:
        if name in _BY_NAME:
            return _BY_NAME[name]
    for name in names:
        for pattern, reason in _PATTERNS:
            if fnmatchcase(name, pattern):
                return reason
    return Reason(text.strip().strip("()"), "has a reason that is not in the table")


def failure_code(node_reason: str) -> str | None:
    """Return why a node could not be started: EC2's error code, for example InsufficientInstanceCapacity, or
    RESUME_TIMEOUT; None if its reason is another one.
    """
    match = _NODE_CODE.search(node_reason)
    if match:
        return match["code"]
    return RESUME_TIMEOUT if "resumetimeout" in node_reason.replace(" ", "").lower() else None
