"""Jobs in the queue of a shared cluster that no run has sent: a person has, and they count like a run's."""

from __future__ import annotations

from collections.abc import Sequence

from hpc.head_node.address import find_head_node
from hpc.head_node.session import Completed, Session, run_session
from hpc.head_node.shell import quote
from hpc.slurm.identity import is_of_a_run
from hpc.slurm.parse import QueuedJob, parse_squeue, squeue_command

#: Jobs that a line names.
_SHOWN = 3


def jobs_by_hand(
    cluster_name: str, ssh_conn_id: str, *, aws_conn_id: str | None, region_name: str | None
) -> list[QueuedJob]:
    """Return those that are pending or running, of jobs with the same name the last.

    Raises what AWS, the connection and the head node raise.
    """
    address = find_head_node(cluster_name, aws_conn_id=aws_conn_id, region_name=region_name)

    async def ask(session: Session) -> Completed:
        return await session.run(quote(squeue_command()))

    queue = parse_squeue(run_session(address, ssh_conn_id, ask).stdout)
    return [job for job in queue.values() if not is_of_a_run(job.name)]


def describe_jobs(jobs: Sequence[QueuedJob]) -> str:
    """Return some of the jobs in words, and how many more there are."""
    shown = [f"job {job.job_id} ({job.name}, {job.state.slurm_name})" for job in jobs[:_SHOWN]]
    more = [f"{len(jobs) - _SHOWN} more"] if len(jobs) > _SHOWN else []
    return ", ".join([*shown, *more])
