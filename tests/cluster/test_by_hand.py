"""Jobs that a person has submitted, in words. How they are found is in test_pool_operators.py, with a real Slurm."""

from __future__ import annotations

from hpc.cluster.by_hand import describe_jobs
from hpc.slurm.parse import QueuedJob
from hpc.slurm.states import JobState


def test_some_jobs_are_named_and_the_others_counted() -> None:
    jobs = [QueuedJob(number, JobState.RUNNING, "None", "node-1", f"mesh{number}", "") for number in range(1, 6)]
    assert describe_jobs(jobs[:1]) == "job 1 (mesh1, RUNNING)"
    assert describe_jobs(jobs) == "job 1 (mesh1, RUNNING), job 2 (mesh2, RUNNING), job 3 (mesh3, RUNNING), 2 more"
