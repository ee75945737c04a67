"""Cancel jobs by the names that only they bear: a job id may by now be another job's."""

from __future__ import annotations

from hpc.head_node.address import HeadNodeAddress
from hpc.head_node.session import open_session
from hpc.head_node.shell import quote
from hpc.slurm.identity import SubmittedJob


async def cancel_job(address: HeadNodeAddress, ssh_conn_id: str, job: SubmittedJob) -> None:
    """Cancel a job with all its parts; one that has ended is left as it is."""
    async with open_session(address, ssh_conn_id) as session:
        await session.run(quote(["scancel", f"--name={','.join(job.parts)}"]), timeout=20)
