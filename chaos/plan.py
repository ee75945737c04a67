"""What happens in one run, decided by its seed: the job, who waits for it, the fault and its instant. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import StrEnum


class Fault(StrEnum):
    """What is done to a task instance's life. Each name is a row of the report."""

    TASK = "task process killed"
    TRIGGERER = "triggerer killed"
    SESSION = "sshd session killed"
    CUT_UP = "network cut on the way there"
    CUT_DOWN = "network cut on the way back"
    SILENCE = "network falls silent"
    SLURMCTLD = "slurmctld killed"
    PROGRAM = "head node program killed"
    AIRFLOW = "whole Airflow killed"  # a real one: scheduler, triggerer, API server and workers at once
    SCHEDULER = "scheduler killed"  # a real Airflow's: the workers of its executor go on alone


class Phase(StrEnum):
    """A process of Airflow's that works for the task instance."""

    EXECUTE = "execute"  # the worker's: it submits, or begins to wait
    WAIT = "wait"  # the triggerer's
    REPORT = "report"  # the worker's again: it turns the event into a verdict


class Moment(StrEnum):
    """Where the program on the head node is when it is killed."""

    BEFORE_SBATCH = "before"  # the attempt is recorded, and nothing is sent
    DURING_SBATCH = "during"
    AFTER_SBATCH = "after"  # the job is in the queue, and nobody has noted its id
    ANY = "any"


class Kind(StrEnum):
    """A job with a known end."""

    GOOD = "exit 0"
    FAILING = "exit 3"
    CRASHING = "a signal"
    SWEEP = "a sweep of three points, of which one fails"
    TOLERANT = "the same sweep, which may fail"

    @property
    def points(self) -> int:
        """Points of the sweep; 0 for a job that is none."""
        return 3 if self in (Kind.SWEEP, Kind.TOLERANT) else 0

    @property
    def may_run_again(self) -> bool:
        """A new attempt is right when the one before has ended: some of it failed."""
        return self is not Kind.GOOD


#: Bytes of one execute or of a wait's first seconds: (to the head node, from it). Handshake, requests, answers.
TRAFFIC = {Phase.EXECUTE: (11_000, 3_300), Phase.WAIT: (6_500, 4_700)}
_PHASES = {
    Fault.TASK: (Phase.EXECUTE, Phase.EXECUTE, Phase.EXECUTE, Phase.REPORT),
    Fault.TRIGGERER: (Phase.WAIT,),
}
#: Silence is noticed by SSH's keepalive only, after a minute and more: so it is a rare row.
_ROUND = (
    *(Fault.TASK, Fault.TRIGGERER, Fault.SESSION, Fault.CUT_UP, Fault.CUT_DOWN, Fault.SLURMCTLD, Fault.PROGRAM) * 5,
    Fault.SILENCE,
)


#: What is done to a real Airflow.
WHOLE = (Fault.AIRFLOW, Fault.SCHEDULER)
#: Seconds of a run of the whole Airflow: from before its tasks are queued to when its jobs compute.
_RUN_OF_AIRFLOW = 6.0


@dataclass(frozen=True)
class Plan:
    """One run. The fault strikes in `phase` once `byte` bytes have gone `up` (to the head node) or down, and `delay`
    seconds later; `times` says in how many processes of that phase, one after the other.
    """

    seed: int
    kind: Kind
    is_one_task: bool
    fault: Fault
    phase: Phase
    up: bool
    byte: int
    delay: float
    times: int
    moment: Moment

    @classmethod
    def of_seed(cls, seed: int, faults: tuple[Fault, ...] = _ROUND) -> Plan:
        """Return the run of a seed. Successive seeds take the faults in turn."""
        chance = random.Random(seed)
        fault = faults[seed % len(faults)]
        phase = chance.choice(_PHASES.get(fault, (Phase.EXECUTE, Phase.WAIT)))
        is_at_sbatch = fault is Fault.PROGRAM and phase is Phase.EXECUTE
        moment = chance.choice(list(Moment)) if is_at_sbatch else Moment.ANY
        up = {Fault.CUT_UP: True, Fault.CUT_DOWN: False}.get(fault, chance.random() < 0.5)
        most = TRAFFIC[phase][0 if up else 1] if phase in TRAFFIC else 0
        return cls(
            seed=seed,
            kind=chance.choice(list(Kind)),
            is_one_task=chance.random() < 0.6,
            fault=fault,
            phase=phase,
            up=up,
            byte=chance.randrange(most // 2 if fault is Fault.PROGRAM else most) if most else 0,
            delay=_delay(chance, fault, phase),
            times=1 if fault in (Fault.SILENCE, Fault.SLURMCTLD) else chance.choice((1, 1, 2)),
            moment=moment,
        )

    @classmethod
    def of_whole_airflow(cls, seed: int) -> Plan:
        """Return a run of a real Airflow that is killed as a whole, or whose scheduler is, once or twice."""
        plan = cls.of_seed(seed, WHOLE)
        return replace(plan, kind=Kind.GOOD, delay=random.Random(seed).uniform(0.0, _RUN_OF_AIRFLOW))

    def __str__(self) -> str:
        if self.fault in WHOLE:
            return f"seed {self.seed}: {self.fault} {self.delay:.2f} s after the trigger, {self.times}x"
        way = f"byte {self.byte} {'there' if self.up else 'back'}, {self.delay:.2f} s later"
        instant = f"{self.moment} sbatch" if self.moment is not Moment.ANY else way
        tasks = "one task" if self.is_one_task else "a task and a sensor"
        return f"seed {self.seed}: {self.fault} in {self.phase} ({instant}), {self.times}x; {self.kind}, by {tasks}"


def _delay(chance: random.Random, fault: Fault, phase: Phase) -> float:
    """Seconds: none for a cut, which is at a byte; up to a poll's interval for what the traffic alone would not hit."""
    if fault in (Fault.CUT_UP, Fault.CUT_DOWN, Fault.SILENCE):
        return 0.0
    if phase is Phase.REPORT:
        return chance.uniform(0.0, 0.03)
    if fault is Fault.PROGRAM:
        return chance.uniform(0.0, 0.1)
    longest = 0.5 if phase is Phase.EXECUTE else 1.5
    return chance.choice((0.0, chance.uniform(0.0, 0.1), chance.uniform(0.0, longest)))
