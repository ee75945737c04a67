"""What a job wrote about itself, and the verdict on it together with what Slurm says.

A job's own end record decides. Without one, only a terminal state of Slurm does: an empty queue decides nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hpc.slurm.parse import QueuedJob
from hpc.slurm.states import JobState, Phase

#: Seconds for the record of an ended job to appear on the shared file system.
RECORD_GRACE = 15.0
#: Seconds after which a job that neither Slurm nor a record knows counts as lost.
LOST_AFTER = 180.0


@dataclass(frozen=True)
class JobRecord:
    """The record of one attempt; times are seconds since 1970 on the compute node, None is not written yet."""

    job_id: int | None = None
    start: int | None = None
    end: int | None = None
    seconds: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    node_list: str = ""
    restarts: int = 0
    terminated: int | None = None
    continued: int = 0
    unfinished: int = 0


def parse_record(text: str) -> JobRecord:
    """Read what the wrapper wrote: lines of `name=value`."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    numbers = ("job_id", "start", "end", "seconds", "exit_code", "signal", "terminated", "continued", "unfinished")
    return JobRecord(
        **{name: int(values[name]) for name in numbers if name in values},
        node_list=values.get("node_list", ""),
        restarts=int(values.get("restarts", 0)),
    )


@dataclass(frozen=True)
class JobResult:
    """How a job ended. `exit_code` and `signal` are None if only Slurm, or nobody, saw the end."""

    job_id: int
    state: str
    exit_code: int | None
    signal: int | None
    node_list: str
    start: int | None
    end: int | None
    seconds: int | None
    restarts: int
    continued: int
    reason: str

    @property
    def succeeded(self) -> bool:
        """The job's script ended with exit code 0."""
        return self.state == JobState.COMPLETED.slurm_name

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def judge(job_id: int, record: JobRecord, queued: QueuedJob | None, unchanged: float) -> JobResult | None:
    """Say how a job ended; None while it has not, or while that is not known.

    `queued` is its row in an squeue that succeeded, None if there is none. `unchanged` is for how many seconds both
    have said the same: what they say may be on its way.
    """
    phase = queued.state.phase if queued else None
    if record.end is not None and (record.terminated is None or phase is None):
        # Its own script ended. A terminated one may be put back into the queue: Slurm has to say that first.
        return _result(job_id, _own_state(record), record, queued)
    if queued is None:
        if record.terminated is not None and unchanged >= RECORD_GRACE:
            return _result(job_id, JobState.CANCELLED, record, queued)
        if unchanged >= LOST_AFTER:
            return _result(job_id, JobState.UNKNOWN, record, queued)
        return None
    if not queued.state.is_terminal:
        return None
    record_may_come = phase is Phase.SUCCEEDED or record.start is not None
    if record.end is None and record_may_come and unchanged < RECORD_GRACE:
        return None
    return _result(job_id, queued.state, record, queued)


def _own_state(record: JobRecord) -> JobState:
    if record.unfinished:
        return JobState.TIMEOUT
    if record.exit_code == 0:
        return JobState.COMPLETED
    return JobState.CANCELLED if record.terminated is not None else JobState.FAILED


def _result(job_id: int, state: JobState, record: JobRecord, queued: QueuedJob | None) -> JobResult:
    return JobResult(
        job_id=job_id,
        state=state.slurm_name,
        exit_code=record.exit_code,
        signal=record.signal,
        node_list=record.node_list or (queued.node_list if queued else ""),
        start=record.start,
        end=record.end,
        seconds=record.seconds,
        restarts=record.restarts,
        continued=record.continued,
        reason=queued.reason if queued else "",
    )
