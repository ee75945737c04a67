"""Slurm's text output, read into dataclasses. Text, because it is alike from 22.05 to 25.05 and JSON is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from hpc.slurm.states import JobState, parse_state

#: ASCII's own field separator: no name, comment or reason holds it, for ours are checked and Slurm's are plain text.
SEPARATOR = "\x1f"
#: Id, state, reason, node list, name, time of submission.
_QUEUE_FIELDS = ("%A", "%T", "%r", "%N", "%j", "%V")
#: Nodes, their state, their reason, since when.
_NODE_FIELDS = ("%N", "%T", "%E", "%H")


@dataclass(frozen=True)
class QueuedJob:
    """A row of squeue. `submitted` is local time of the head node, as Slurm writes it: comparable as text."""

    job_id: int
    state: JobState
    reason: str
    node_list: str
    name: str
    submitted: str


@dataclass(frozen=True)
class NodeReason:
    """Nodes in one state for one reason; `since` is written like `QueuedJob.submitted`."""

    node_list: str
    state: str
    reason: str
    since: str


def parse_row(fields: list[str]) -> QueuedJob:
    """Read a row that `on_head_node.py watch` tells: the fields of its squeue as texts."""
    job_id, _, state, reason, node_list, name, submitted = fields
    return QueuedJob(int(job_id), parse_state(state), reason, node_list, name, submitted)


def squeue_command() -> list[str]:
    """Build the command that lists the jobs of the cluster that have not ended."""
    return ["squeue", "--noheader", "--array", f"--format={SEPARATOR.join(_QUEUE_FIELDS)}"]


@lru_cache(maxsize=8)
def parse_squeue(text: str) -> Mapping[str, QueuedJob]:
    """Read the output of `squeue_command`, by name of the job. Lines of another shape, such as warnings, are left out.

    One answer of squeue is read by every trigger that waits: hence the cache.
    """
    jobs = [_queued_job(fields) for fields in _rows(text, len(_QUEUE_FIELDS)) if fields[0].isdigit()]
    return {job.name: job for job in jobs}


def _queued_job(fields: list[str]) -> QueuedJob:
    job_id, state, reason, node_list, name, submitted = fields
    return QueuedJob(int(job_id), parse_state(state), reason, node_list, name, submitted)


def parse_sinfo(text: str) -> list[NodeReason]:
    """Read the sinfo that the head node tells: nodes that have a reason, once, whatever partitions have them."""
    rows = [NodeReason(*fields) for fields in _rows(text, len(_NODE_FIELDS))]
    return list(dict.fromkeys(row for row in rows if row.reason not in {"", "none"}))


def _rows(text: str, count: int) -> list[list[str]]:
    rows = [[field.strip() for field in line.split(SEPARATOR)] for line in text.splitlines() if SEPARATOR in line]
    return [fields for fields in rows if len(fields) == count]
