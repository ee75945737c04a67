"""Who a job is: decided before anything is sent, from what Airflow will say again after any crash."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hpc.errors import ConfigurationError

_DIRECTORY = re.compile(r"/[^\x00-\x1f\x7f\\\ud800-\udfff]*")


def job_token(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """Return the short name of one task instance: the same for every retry, another one for everything else."""
    text = "\0".join([dag_id, run_id, task_id, str(map_index)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


#: A token and an attempt at the end of a job's name, of a sweep's part also its first point.
_OF_A_RUN = re.compile(r".+\.[0-9a-f]{12}\.\d+(\.\d+)?")


def is_of_a_run(job_name: str) -> bool:
    """Say whether a job has such a name in Slurm as the jobs of runs have: see `JobPlaces.job_name`."""
    return _OF_A_RUN.fullmatch(job_name) is not None


def readable_name(*parts: str) -> str:
    """Return parts joined by dots, of characters only that are safe in a job's and in a file's name."""
    text = ".".join(part for part in parts if part)
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text).lstrip("-.")[:80] or "job"


@dataclass(frozen=True)
class JobPlaces:
    """Where the parts of one task's job are: all below the job's folder on the shared file system."""

    directory: str
    token: str
    name: str

    @classmethod
    def of_task(cls, task: Any, *, directory: str, task_id: str = "", job_name: str = "") -> JobPlaces:
        """Return the places of a task instance's job, or of the job of another task of the same run, `task_id`."""
        map_index = -1 if task.map_index is None or task_id else task.map_index
        task_id = task_id or task.task_id
        return cls(
            directory=directory.rstrip("/"),
            token=job_token(task.dag_id, task.run_id, task_id, map_index),
            name=readable_name(job_name or f"{task.dag_id}.{task_id}", str(map_index) if map_index >= 0 else ""),
        )

    def __post_init__(self) -> None:
        if not _DIRECTORY.fullmatch(self.directory) or ".." in self.directory.split("/"):
            raise ConfigurationError(
                f"directory = {self.directory!r}: must be an absolute path in valid Unicode, without '..' and control"
                " characters",
                remedy="use a folder on the cluster's shared file system, for example /fsx/runs/…",
            )

    @property
    def root(self) -> str:
        """The folder of all attempts."""
        return f"{self.directory}/.slurm/{self.token}"

    def record_dir(self, attempt: int) -> str:
        """The folder of one attempt: what was sent, and the record of its start and end."""
        return f"{self.root}/attempt-{attempt}"

    @property
    def log(self) -> str:
        """The job's standard output and error, before the attempt's number and `.log`."""
        return f"{self.directory}/{self.name}."

    @property
    def job_name(self) -> str:
        """The name that the job carries in Slurm, before the attempt's number: no other job has it."""
        return f"{self.name}.{self.token}."

    @property
    def comment(self) -> str:
        """The comment that the job carries in Slurm, before the attempt's number."""
        return f"airflow:{self.token}:"

    def submitted(
        self, cluster_name: str, attempt: int, job_id: int, *, parts: Mapping[str, int] | None = None, **points: int
    ) -> SubmittedJob:
        """Return the job that an attempt became."""
        return SubmittedJob(
            cluster_name=cluster_name,
            token=self.token,
            attempt=attempt,
            job_id=job_id,
            name=f"{self.job_name}{attempt}",
            directory=self.directory,
            record_dir=self.record_dir(attempt),
            log=f"{self.log}{attempt}.log",
            parts=dict(parts or {f"{self.job_name}{attempt}": 0}),
            **points,
        )


@dataclass(frozen=True)
class SubmittedJob:
    """A job that Slurm has taken, as it travels between tasks.

    `parts` are its names in Slurm with the first point of each; a job that is no sweep has one. Of a sweep, `sent` are
    the points that this attempt computes, `done` those that attempts before have computed, `tolerated` those that may
    fail; all are 0 otherwise.
    """

    cluster_name: str
    token: str
    attempt: int
    job_id: int
    name: str
    directory: str
    record_dir: str
    log: str
    parts: Mapping[str, int]
    sent: int = 0
    done: int = 0
    tolerated: int = 0

    @property
    def places(self) -> JobPlaces:
        """Where the parts of its task's jobs are."""
        return JobPlaces(self.directory, self.token, self.name.partition(f".{self.token}.")[0])

    @property
    def is_sweep(self) -> bool:
        """It is a job array, an element a point."""
        return self.sent > 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> SubmittedJob:
        """Read what `as_dict` made."""
        texts = {key: str(value[key]) for key in ("cluster_name", "token", "name", "directory", "record_dir", "log")}
        numbers = {key: int(value[key]) for key in ("attempt", "job_id", "sent", "done", "tolerated")}
        parts = {str(name): int(offset) for name, offset in value["parts"].items()}
        return cls(**texts, **numbers, parts=parts)  # type: ignore[arg-type]

    def __str__(self) -> str:
        what = f"job array {self.job_id}" if self.is_sweep else f"job {self.job_id}"
        return f"{what} ({self.name}) on {self.cluster_name}"
