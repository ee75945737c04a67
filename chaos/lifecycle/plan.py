"""What happens in one run, decided by its seed: the job, the faults and their instants. Pure."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What is done to a run. Each name is a row of the report."""

    TASK = "task process killed"
    BOUNDARY = "task process killed at a step's boundary"
    WORKER = "worker lost in a teardown"
    TRIGGERER = "triggerer killed"
    PCLUSTER = "pcluster killed"
    THROTTLED = "AWS throttles"
    ERROR = "AWS answers 500"
    CUT = "connection to AWS cut"
    UNHEARD = "AWS's answer lost"
    SILENT = "AWS does not answer in time"
    EXPIRED = "credentials expired"
    BOOTSTRAP = "head node's bootstrap fails"
    CAPACITY = "no capacity for compute nodes"
    DELETION_ONCE = "deletion fails once"
    DELETION_ALWAYS = "deletion fails always"
    DELETION_FEIGNED = "deletion leaves a resource alive"
    S3_DENIED = "S3 denies writes"
    S3_CORRUPTED = "a write to S3 corrupted"
    SSH = "head node does not answer by SSH"
    MARKED_FAILED = "run marked failed"
    CLEARED = "run cleared"
    DELETED = "run deleted"
    GONE = "Airflow down for good"
    AIRFLOW = "whole Airflow killed"  # a real one: scheduler, triggerer, API server and workers at once


class Phase(StrEnum):
    """A process of Airflow's that works for a task."""

    EXECUTE = "execute"  # the worker's
    WAIT = "wait"  # the triggerer's
    RESUME = "resume"  # the worker's again, with the trigger's event


class Moment(StrEnum):
    """Where a process kills itself."""

    NEVER = ""
    BEGINNING = "at its beginning"
    BEFORE_REPORT = "before it reports its outcome"
    AFTER_REPORT = "after it has reported its outcome"


#: Seconds that a process of each step takes, about.
_SECONDS = {
    "install_parallelcluster": 0.4,
    "render_cluster_config": 8.0,
    "create_cluster": 9.0,
    "wait_for_stack": 6.0,
    "verify_cluster": 1.5,
    "connect": 1.0,
    "submit_job": 1.0,
    "wait_for_allocation": 4.0,
    "run_job": 2.0,
    "watch_alarms": 1.5,
    "export_results": 2.0,
    "wait_for_empty_queue": 1.0,
    "hold_cluster": 0.4,
    "delete_cluster": 5.0,
    "report": 0.4,
}
STEPS = tuple(_SECONDS)
_DEFERRED = (
    *("wait_for_stack", "wait_for_allocation", "run_job", "watch_alarms", "export_results"),
    *("wait_for_empty_queue", "delete_cluster"),
)
#: When a neighbour comes: to make the cluster together, while it is used, and while it is deleted.
_MEETINGS = ("create_cluster", "wait_for_stack", "run_job", "wait_for_empty_queue", "delete_cluster", "delete_cluster")
_TEARDOWNS = ("export_results", "hold_cluster", "delete_cluster", "report")
_WITH_PCLUSTER = ("render_cluster_config", "create_cluster", "delete_cluster")
_WITH_SSH = (
    *("verify_cluster", "connect", "submit_job", "wait_for_allocation", "run_job", "export_results", "export_results"),
    "wait_for_empty_queue",
)
#: Steps that ask AWS, the more often the more calls they make.
_ASKING = (
    *("create_cluster", "create_cluster", "wait_for_stack", "verify_cluster", "connect", "watch_alarms"),
    *("export_results", "export_results", "delete_cluster", "delete_cluster", "delete_cluster"),
)
ON_THE_WAY = frozenset({Fault.THROTTLED, Fault.ERROR, Fault.CUT, Fault.UNHEARD, Fault.SILENT, Fault.EXPIRED})
ON_WRITES = frozenset({Fault.S3_DENIED, Fault.S3_CORRUPTED})
OF_DELETION = frozenset({Fault.DELETION_ONCE, Fault.DELETION_ALWAYS, Fault.DELETION_FEIGNED})
#: Faults that are there from the beginning: the local region has them.
OF_REGION = OF_DELETION | {Fault.BOOTSTRAP, Fault.CAPACITY}
#: What hits the cluster of a run, and with it all that share it, or all of Airflow.
SHARED_FATE = frozenset({Fault.BOOTSTRAP, Fault.CAPACITY, Fault.SSH, Fault.DELETION_ALWAYS, Fault.GONE})
BY_PEOPLE = frozenset({Fault.MARKED_FAILED, Fault.CLEARED, Fault.DELETED, Fault.GONE})
#: Every fault that is played comes first in its turn; what comes in addition leaves a run that goes on.
_ROUND = tuple(fault for fault in Fault if fault is not Fault.AIRFLOW)
_ADDED = (
    *(Fault.TASK, Fault.BOUNDARY, Fault.BOUNDARY, Fault.WORKER, Fault.TRIGGERER, Fault.PCLUSTER),
    *(Fault.THROTTLED, Fault.ERROR, Fault.CUT, Fault.UNHEARD, Fault.EXPIRED),
    *(Fault.DELETION_ONCE, Fault.S3_DENIED, Fault.S3_CORRUPTED, Fault.SSH, Fault.MARKED_FAILED),
)
#: What refuses to go: the logical id or the type of a resource.
_REFUSING = ("HeadNode", "AWS::EC2::SecurityGroup", "AWS::IAM::Role", "AWS::EC2::Volume", "AWS::DynamoDB::Table")
_STAYING = (
    *("HeadNode", "AWS::EC2::Volume", "AWS::EC2::NetworkInterface", "AWS::Route53::HostedZone"),
    *("AWS::CloudWatch::Alarm", "AWS::DynamoDB::Table"),
)
#: Seconds for which a head node does not answer; the last one is for good.
OUTAGES = (1.0, 5.0, 15.0, math.inf)


@dataclass(frozen=True)
class Injection:
    """One fault. It strikes in a process of `step` and `phase`, `delay` seconds after its beginning or at a `moment`.

    On the way to AWS it strikes at the `call`-th call from then on, `calls` times; in the region it hits `target`; who
    clears does so from the step `clears` on; the head node does not answer for so many seconds of an `outage`.
    """

    fault: Fault
    step: str = ""
    phase: Phase = Phase.EXECUTE
    delay: float = 0.0
    moment: Moment = Moment.NEVER
    call: int = 0
    calls: int = 0
    target: str = ""
    clears: str = ""
    outage: float = 0.0

    def __str__(self) -> str:
        if self.fault in OF_REGION:
            return f"{self.fault} {self.target}".strip()
        where = f"{self.fault} in {self.step} ({self.phase})"
        if self.calls:
            return f"{where} at call {self.call}, {self.calls}x"
        instant = self.moment or f"after {self.delay:.2f} s"
        more = f", from {self.clears} on" if self.clears else f", for {self.outage} s" if self.outage else ""
        return f"{where} {instant}{more}"


@dataclass(frozen=True)
class Plan:
    """One run: its job's exit code, whether its results are discarded, and the faults.

    Somebody `answers` when told that a cluster is kept for its results: he clears the export, once. A run that shares
    its cluster has a `neighbour` that nothing is done to: it is triggered when the run comes to that step.
    """

    seed: int
    exit_code: int
    is_discarded: bool
    injections: tuple[Injection, ...]
    answers: bool = False
    neighbour: str = ""

    @classmethod
    def of_seed(cls, seed: int, faults: tuple[Fault, ...] = _ROUND) -> Plan:
        """Return the run of a seed. Successive seeds take the faults in turn."""
        chance = random.Random(seed)
        first = injection(faults[seed % len(faults)], chance)
        added = chance.sample(_ADDED, chance.choice((0, 1, 1, 2, 2, 2)))
        others = [injection(fault, chance) for fault in dict.fromkeys(added) if fault is not first.fault]
        exit_code = chance.choice((0, 0, 0, 0, 3))
        is_discarded = chance.random() < 0.1
        answers = chance.random() < 0.7
        # Whatever the region does to the cluster of both, it does to both.
        can_share = not any(each.fault in SHARED_FATE for each in (first, *others))
        neighbour = chance.choice(_MEETINGS) if can_share and chance.random() < 0.3 else ""
        exit_code = 0 if neighbour else exit_code
        return cls(seed, exit_code, is_discarded, (first, *others), answers, neighbour)

    @classmethod
    def of_whole_airflow(cls, seed: int) -> Plan:
        """Return a run of a real Airflow that is killed as a whole while the run is at a step."""
        chance = random.Random(seed)
        step = STEPS_OF_WHOLE[seed % len(STEPS_OF_WHOLE)]
        killed = Injection(Fault.AIRFLOW, step, delay=chance.uniform(0.0, _SECONDS[step]))
        return cls(seed=seed, exit_code=0, is_discarded=False, injections=(killed,))

    def __str__(self) -> str:
        job = f"exit {self.exit_code}{', discarded' if self.is_discarded else ''}"
        job += f"; shared from {self.neighbour} on" if self.neighbour else ""
        return f"seed {self.seed}: {'; '.join(map(str, self.injections))}; job: {job}"


#: The steps of a real Airflow during which it is killed, and what its runs have in common.
STEPS_OF_WHOLE = ("create_cluster", "wait_for_stack", "run_job", "export_results", "delete_cluster", "verify_cluster")
WHOLE = Plan(seed=0, exit_code=0, is_discarded=False, injections=())


def injection(fault: Fault, chance: random.Random) -> Injection:
    """Return a fault with its place and instant."""
    if fault in ON_THE_WAY:
        calls = 1 if fault is Fault.SILENT else chance.choice((1, 2, 6, 30, 150))
        return Injection(fault, chance.choice(_ASKING), call=chance.choice((0, 1, 2, 4, 8, 16)), calls=calls)
    if fault in ON_WRITES:
        return Injection(fault, "export_results", call=chance.randrange(4), calls=chance.choice((1, 1, 3, 1000)))
    if fault in OF_DELETION:
        return Injection(fault, target=chance.choice(_STAYING if fault is Fault.DELETION_FEIGNED else _REFUSING))
    if fault in OF_REGION:
        return Injection(fault)
    step = chance.choice(_places(fault))
    phase = _phase(fault, step, chance)
    seconds = chance.uniform(0.0, _SECONDS[step] * (0.5 if phase is Phase.RESUME else 1.0))
    moment = chance.choice(list(Moment)[1:]) if fault is Fault.BOUNDARY else Moment.NEVER
    clears = chance.choice(STEPS[: STEPS.index(step) + 1]) if fault is Fault.CLEARED else ""
    outage = chance.choice(OUTAGES) if fault is Fault.SSH else 0.0
    return Injection(fault, step, phase, seconds, moment, clears=clears, outage=outage)


def _places(fault: Fault) -> tuple[str, ...]:
    places = {
        Fault.WORKER: _TEARDOWNS,
        Fault.TRIGGERER: _DEFERRED,
        Fault.PCLUSTER: _WITH_PCLUSTER,
        Fault.SSH: _WITH_SSH,
    }
    return places.get(fault, STEPS)


def _phase(fault: Fault, step: str, chance: random.Random) -> Phase:
    if fault is Fault.TRIGGERER:
        return Phase.WAIT
    if fault is Fault.PCLUSTER or step not in _DEFERRED:
        return Phase.EXECUTE
    worker = (Phase.EXECUTE, Phase.RESUME)
    return chance.choice((*worker, Phase.WAIT) if fault in BY_PEOPLE else worker)
