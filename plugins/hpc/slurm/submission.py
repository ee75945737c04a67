"""Submitting and cancelling: what is asked of `on_head_node.py`, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.errors import ClusterError, ConfigurationError, HeadNodeCommandError, HpcError, JobRejectedError
from hpc.head_node.program import Program
from hpc.head_node.session import Session
from hpc.slurm.identity import JobPlaces
from hpc.slurm.script import (
    Checkpoint,
    SlurmRequest,
    leading_directives,
    render_job,
    render_parameters,
    render_points,
    sbatch_options,
)

PROGRAM = Program(Path(__file__).with_name("on_head_node.py"))
#: Seconds for a submission: it may have to wait until a cancelled attempt is dead.
SUBMIT_TIMEOUT = 180


@dataclass(frozen=True)
class Submission:
    """All that is decided before anything is sent. `series` grows when a person clears the task, not by a retry.

    With `points`, the parameters of each, it is a sweep: a job array. `inputs` are names in the job's folder.
    """

    places: JobPlaces
    series: int
    script: str
    parameters: Mapping[str, Any]
    resources: SlurmRequest
    again_after_failure: bool
    points: Sequence[Mapping[str, Any]] = ()
    max_running: int | None = None
    tolerate: float = 0.0
    checkpoint: Checkpoint | None = None
    inputs: Sequence[str] = ()

    def options(self) -> list[str]:
        """Return sbatch's options, without those that hold the attempt's number."""
        options = sbatch_options(self.resources, self.places.directory, leading_directives(self.script))
        return options + (self.checkpoint.options() if self.checkpoint else [])

    def request(self) -> dict[str, Any]:
        """Build the request of `on_head_node.py`. Raises ConfigurationError for what cannot be sent as it is."""
        return {
            "root": self.places.root,
            "series": self.series,
            "again_after_failure": self.again_after_failure,
            "job_name": self.places.job_name,
            "comment": self.places.comment,
            "log": self.places.log.replace("%", "%%"),
            "options": self.options(),
            "points": len(self.points),
            "max_running": self.max_running,
            "files": {
                "job.sh": render_job(leading_directives(self.script)),
                "script": self.script,
                "parameters.sh": render_parameters(self.parameters),
                **({"checkpoint": self.checkpoint.render()} if self.checkpoint else {}),
                **({"points.sh": render_points(self.points), "inputs": self._inputs()} if self.points else {}),
            },
        }

    def _inputs(self) -> str:
        return "".join(f"{name}\n" for name in self.inputs)

    def rendered(self) -> str:
        """Return what will run, for people: the command line, the parameters, the script."""
        command = " \\\n    ".join(["# sbatch", *self.options()]).replace("\n", "\n#")
        points = f"# {len(self.points):,} points, of which this is the first:\n" if self.points else ""
        points += render_parameters(self.points[0]) if self.points else ""
        return f"{command}\n\n{render_parameters(self.parameters)}{points}\n{self.script}"


@dataclass(frozen=True)
class Accepted:
    """An attempt that Slurm has taken. `found` says that it was there already; `said` is sbatch's warning, if any.

    `parts`, `sent` and `done` are those of `SubmittedJob`.
    """

    attempt: int
    job_id: int
    parts: Mapping[str, int]
    found: bool
    said: str
    sent: int
    done: int


def parse_answer(line: str) -> Accepted | None:
    """Read the program's answer: a job, or None for none.

    Raises JobRejectedError, ClusterError, ConfigurationError, HeadNodeCommandError.
    """
    answer = json.loads(line)
    if "error" in answer:
        raise _error(answer["kind"], answer["error"])
    if "job_id" not in answer:
        return None
    return Accepted(
        attempt=answer["attempt"],
        job_id=answer["job_id"],
        parts=answer["parts"],
        found=answer["how"] == "found",
        said=answer.get("said", ""),
        sent=answer.get("sent", 0),
        done=answer.get("done", 0),
    )


def _error(kind: str, said: str) -> HpcError:
    if "inactive or drain" in said:
        return ClusterError(
            f"sbatch refused the job: {said}",
            remedy="the compute fleet is stopped, or ParallelCluster protects the queue after failed starts: read the"
            " head node's clustermgtd log, then pcluster update-compute-fleet --status START_REQUESTED",
        )
    if kind == "rejected":
        return JobRejectedError(
            f"sbatch refused the job: {said}",
            remedy="compare the simulation's resources with the cluster's queues: sinfo on the head node",
        )
    if kind == "stale":
        return ConfigurationError(f"this try of the task is out of date: {said}")
    return HeadNodeCommandError(f"Slurm cannot take a job now: {said}", remedy="it is tried again by itself")


async def find_job(session: Session, submission: Submission) -> Accepted | None:
    """Return the job that is there already; None once no attempt before can disturb a new one."""
    return parse_answer(await _ask(session, "prepare", submission.request()))


async def submit(session: Session, submission: Submission) -> Accepted:
    """Submit once. A lost answer is no harm: whoever asks again finds the job."""
    accepted = parse_answer(await _ask(session, "submit", submission.request()))
    if accepted is None:
        raise HeadNodeCommandError("the head node answered no job to a submission")
    return accepted


async def cancel_attempt(session: Session, places: JobPlaces) -> int | None:
    """Cancel the last attempt of a task, and return its job's id once it is dead; None if nothing was alive.

    A retry of the task wants a new attempt then. Raises HeadNodeCommandError while Slurm does not answer.
    """
    answer = json.loads(await _ask(session, "cancel", {"root": places.root, "job_name": places.job_name}))
    if "error" in answer:
        raise _error(answer["kind"], answer["error"])
    cancelled: int | None = answer["cancelled"]
    return cancelled


async def move_job(session: Session, places: JobPlaces, partition: str) -> list[str]:
    """Put what is pending of a job into another partition; return the ids of the jobs that were moved.

    Raises JobRejectedError if Slurm refuses that.
    """
    request = {"root": places.root, "job_name": places.job_name, "partition": partition}
    answer = json.loads(await _ask(session, "move", request))
    if "error" in answer:
        raise _error(answer["kind"], answer["error"])
    moved: list[str] = answer["moved"]
    return moved


async def _ask(session: Session, verb: str, request: Mapping[str, Any]) -> str:
    done = await PROGRAM.run(session, verb, input=json.dumps([request]), timeout=SUBMIT_TIMEOUT)
    return done.stdout
