"""Cancel jobs by the name that only they bear: a job id may by now be another job's."""

from __future__ import annotations

from hpc.head_node.address import HeadNodeAddress
from hpc.head_node.session import Session, open_session
from hpc.head_node.shell import quote
from hpc.slurm.parse import parse_squeue, squeue_command


async def cancel_job(address: HeadNodeAddress, ssh_conn_id: str, name: str) -> None:
    """Cancel the job of this name; one that has ended is left as it is."""
    async with open_session(address, ssh_conn_id) as session:
        await session.run(quote(["scancel", f"--name={name}"]), timeout=20)


async def cancel_attempts(session: Session, stem: str) -> list[str]:
    """Cancel every job whose name begins with a task's own stem, whatever its attempt; return their names."""
    answer = await session.run(quote(squeue_command(all_states=False)), timeout=20)
    names = [name for name in parse_squeue(answer.stdout) if name.startswith(stem)]
    for name in names:
        await session.run(quote(["scancel", f"--name={name}"]), timeout=20)
    return names
