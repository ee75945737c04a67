"""Submitting: what is sent to the head node's `submit_once.py`, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.errors import ClusterError, ConfigurationError, HeadNodeCommandError, JobRejectedError
from hpc.head_node.session import Session
from hpc.slurm.identity import JobPlaces
from hpc.slurm.script import SlurmRequest, leading_directives, render_job, render_parameters, sbatch_options

_PROGRAM = Path(__file__).with_name("submit_once.py")
#: Seconds for a submission: it may have to wait until a cancelled attempt is dead.
SUBMIT_TIMEOUT = 180


@dataclass(frozen=True)
class Submission:
    """All that is decided before anything is sent. `series` grows when a person clears the task, not by a retry."""

    places: JobPlaces
    series: int
    script: str
    parameters: Mapping[str, Any]
    resources: SlurmRequest
    again_after_failure: bool

    def options(self) -> list[str]:
        """Return sbatch's options, without those that hold the attempt's number."""
        return sbatch_options(self.resources, self.places.directory, leading_directives(self.script))

    def request(self) -> dict[str, Any]:
        """Build the request of `submit_once.py`. Raises ConfigurationError for what cannot be sent as it is."""
        return {
            "root": self.places.root,
            "series": self.series,
            "again_after_failure": self.again_after_failure,
            "job_name": self.places.job_name,
            "comment": self.places.comment,
            "log": self.places.log.replace("%", "%%"),
            "options": self.options(),
            "files": {
                "job.sh": render_job(leading_directives(self.script)),
                "script": self.script,
                "parameters.sh": render_parameters(self.parameters),
            },
        }

    def rendered(self) -> str:
        """Return what will run, for people: the command line, the parameters, the script."""
        command = " \\\n    ".join(["# sbatch", *self.options()]).replace("\n", "\n#")
        return f"{command}\n\n{render_parameters(self.parameters)}\n{self.script}"


@dataclass(frozen=True)
class Accepted:
    """An attempt that Slurm has taken. `found` says that it was there already; `said` is sbatch's warning, if any."""

    attempt: int
    job_id: int
    found: bool
    said: str


def build_program(submission: Submission) -> str:
    """Return the program with its request, as it goes to the standard input of `python3 -`."""
    requests = json.dumps([submission.request()])
    return f"{_PROGRAM.read_text(encoding='utf-8')}\n\nmain(json.loads({requests!r}))\n"


def parse_answer(line: str) -> Accepted:
    """Read the program's answer. Raises JobRejectedError, ClusterError, ConfigurationError, HeadNodeCommandError."""
    answer = json.loads(line)
    if "job_id" in answer:
        return Accepted(
            attempt=answer["attempt"],
            job_id=answer["job_id"],
            found=answer["how"] == "found",
            said=answer.get("said", ""),
        )
    if "inactive or drain" in answer["error"]:
        raise ClusterError(
            f"sbatch refused the job: {answer['error']}",
            remedy="the compute fleet is stopped, or ParallelCluster protects the queue after failed starts: read the"
            " head node's clustermgtd log, then pcluster update-compute-fleet --status START_REQUESTED",
        )
    if answer["kind"] == "rejected":
        raise JobRejectedError(
            f"sbatch refused the job: {answer['error']}",
            remedy="compare the simulation's resources with the cluster's queues: sinfo on the head node",
        )
    if answer["kind"] == "stale":
        raise ConfigurationError(f"this try of the task is out of date: {answer['error']}")
    raise HeadNodeCommandError(f"Slurm cannot take a job now: {answer['error']}", remedy="it is tried again by itself")


async def submit(session: Session, submission: Submission) -> Accepted:
    """Submit once. A lost answer is no harm: whoever asks again finds the job."""
    answer = await session.run("LC_ALL=C.UTF-8 python3 -", input=build_program(submission), timeout=SUBMIT_TIMEOUT)
    return parse_answer(answer.stdout)
