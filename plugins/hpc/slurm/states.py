"""Every state that Slurm gives a job, and what it means to whoever waits.

Source: squeue(1), JOB STATE CODES, and the states of slurm.h, Slurm 22.05 to 25.05.
"""

from __future__ import annotations

import logging
from enum import Enum

log = logging.getLogger(__name__)


class Phase(Enum):
    """How far a job is."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"


class JobState(Enum):
    """A job's state as squeue's %T and scontrol's JobState write it, its phase, and its meaning for people."""

    PENDING = ("PENDING", Phase.WAITING, "waits for its turn or for nodes")
    REQUEUED = ("REQUEUED", Phase.WAITING, "was put back into the queue")
    REQUEUE_FED = ("REQUEUE_FED", Phase.WAITING, "was put back into the queue by a federation")
    REQUEUE_HOLD = ("REQUEUE_HOLD", Phase.WAITING, "was put back into the queue and is held")
    SPECIAL_EXIT = ("SPECIAL_EXIT", Phase.WAITING, "was put back into the queue after a special exit, and is held")
    RESV_DEL_HOLD = ("RESV_DEL_HOLD", Phase.WAITING, "is held because its reservation was deleted")
    EXPEDITING = ("EXPEDITING", Phase.WAITING, "is put back and will start before all others")
    CONFIGURING = ("CONFIGURING", Phase.STARTING, "has its nodes, which boot")
    POWER_UP_NODE = ("POWER_UP_NODE", Phase.STARTING, "has its nodes, which boot")
    RUNNING = ("RUNNING", Phase.RUNNING, "computes")
    SUSPENDED = ("SUSPENDED", Phase.RUNNING, "was suspended with its nodes kept")
    STOPPED = ("STOPPED", Phase.RUNNING, "was stopped by a signal with its nodes kept")
    SIGNALING = ("SIGNALING", Phase.RUNNING, "is being sent a signal")
    RESIZING = ("RESIZING", Phase.RUNNING, "is changing its size")
    UPDATE_DB = ("UPDATE_DB", Phase.RUNNING, "is being updated")
    COMPLETING = ("COMPLETING", Phase.ENDING, "is ending; some of its processes may still run")
    STAGE_OUT = ("STAGE_OUT", Phase.ENDING, "is writing its burst buffer out")
    COMPLETED = ("COMPLETED", Phase.SUCCEEDED, "ended with exit code 0")
    FAILED = ("FAILED", Phase.FAILED, "ended with another exit code than 0, or by a signal")
    TIMEOUT = ("TIMEOUT", Phase.FAILED, "was ended at its walltime")
    CANCELLED = ("CANCELLED", Phase.FAILED, "was cancelled by a user or an administrator")
    NODE_FAIL = ("NODE_FAIL", Phase.FAILED, "lost a node")
    OUT_OF_MEMORY = ("OUT_OF_MEMORY", Phase.FAILED, "used more memory than it asked for")
    PREEMPTED = ("PREEMPTED", Phase.FAILED, "had to make place for another job")
    BOOT_FAIL = ("BOOT_FAIL", Phase.FAILED, "could not start because a node did not boot")
    DEADLINE = ("DEADLINE", Phase.FAILED, "was ended at its deadline")
    LAUNCH_FAILED = ("LAUNCH_FAILED", Phase.FAILED, "could not be launched on its node")
    RECONFIG_FAIL = ("RECONFIG_FAIL", Phase.FAILED, "lost nodes that could not be configured")
    REVOKED = ("REVOKED", Phase.FAILED, "was taken over by another cluster of the federation")
    UNKNOWN = ("UNKNOWN", Phase.UNKNOWN, "is in a state that this version does not know")

    def __init__(self, slurm_name: str, phase: Phase, meaning: str) -> None:
        self.slurm_name = slurm_name
        self.phase = phase
        self.meaning = meaning

    @property
    def is_terminal(self) -> bool:
        """The job has ended and will not start again by itself."""
        return self.phase in {Phase.SUCCEEDED, Phase.FAILED}

    @property
    def is_success(self) -> bool:
        """The job ended with exit code 0."""
        return self.phase is Phase.SUCCEEDED

    @property
    def is_failure(self) -> bool:
        """The job ended, and not with exit code 0."""
        return self.phase is Phase.FAILED

    @property
    def has_started(self) -> bool:
        """The job's script runs, or has run."""
        return self.phase in {Phase.RUNNING, Phase.ENDING} or self.is_terminal


_BY_NAME = {state.slurm_name: state for state in JobState}


def parse_state(text: str) -> JobState:
    """Read a state as Slurm prints it. `CANCELLED by 1000` is CANCELLED; a name that is not in the table is UNKNOWN."""
    words = text.split()
    state = _BY_NAME.get(words[0].rstrip("+").upper(), JobState.UNKNOWN) if words else JobState.UNKNOWN
    if state is JobState.UNKNOWN:
        log.warning(
            "Slurm reports the job state %r, which is not in the table; it counts as neither running nor done", text
        )
    return state
