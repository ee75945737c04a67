"""A cluster of the local region to put faults into: what is done to its head node, and what can be read there."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from chaos.verdict import Evidence, SlurmJob
from hpc.head_node.address import HeadNodeAddress, parse_host_keys
from local_aws.testing import LocalRegion

HERE = Path(__file__).parent
#: Where the jobs of the runs are, and what `sbatch.sh` reads and writes, on the head node.
RUNS, ORDERS = "/fsx/runs", "/fsx/chaos"
_QUEUE = "squeue --noheader --states=all --array --format='%F %K %T %j'"
#: Seconds for Slurm to find out that a job has ended whose end it was told, and forgot when it was killed: not while it
#: is killed again and again.
LONGEST_END = 300
#: What clustermgtd does on AWS: a node that Slurm has taken out of service comes back as a new instance. And after a
#: kill the nodes tell what they run, by which slurmctld finds out about jobs that nobody has: in minutes, otherwise.
_CLUSTERMGTD = """while sleep 1; do
    age=$(ps -o etimes= -C slurmctld | head -n 1)
    if [ $((SECONDS % 5)) = 0 ] && [ "${age:-0}" -lt 60 ]; then scontrol reconfigure; fi
    nodes=$(sinfo --noheader --states=drain,down --format=%N)
    if [ -n "$nodes" ]; then scontrol update nodename="$nodes" state=resume; fi
done"""
#: Slurm's own log of jobs that have ended.
JOBS_LOG = "/var/log/jobs.log"
_RECORDS = ("owner", "start", "end", "terminated", "withdrawn", "sent_as", "before")
_OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE"}


@dataclass
class HeadNode:
    """One head node; `root` is its file system as this computer sees it."""

    address: HeadNodeAddress
    ssh_port: int
    root: Path
    connection: asyncssh.SSHClientConnection

    async def run(self, command: str, *, input: str = "") -> str:
        """Run a command over a connection that no fault hits; return its output."""
        done = await self.connection.run(f'export PATH="/opt/slurm/bin:$PATH"; {command}', input=input, check=False)
        return str(done.stdout or "")

    def path(self, path: str) -> Path:
        """Return where a file of the head node's shared file system is on this computer."""
        return self.root / path.lstrip("/")

    # ------------------------------------------------------------------------------------------ faults
    async def kill_slurmctld(self) -> bool:
        """Kill it; the head node starts it again, as systemd does."""
        return "killed" in await self.run("pkill -9 -x slurmctld && echo killed")

    async def kill_in_session(self, target: str | float, ports: list[int]) -> bool:
        """Kill the `sessions` behind ports of our side; or our program in them, so many seconds after it is seen."""
        numbers = " ".join(str(port) for port in (self.ssh_port, *ports))
        program = (HERE / "kill_session.py").read_text()
        return int(await self.run(f"python3 -IS - {target} {numbers}", input=program) or 0) > 0

    def order(self, token: str, moment: str) -> None:
        """Order that the program that next calls sbatch for this task is killed."""
        self.path(f"{ORDERS}/{token}").write_text(f"{moment}\n")

    def take_back(self, token: str) -> bool:
        """Take an order back; return whether it was carried out."""
        order = self.path(f"{ORDERS}/{token}")
        was_done = not order.exists()
        order.unlink(missing_ok=True)
        return was_done

    # ------------------------------------------------------------------------------------------ evidence
    async def queue(self, token: str) -> list[SlurmJob]:
        """Return all that Slurm knows of a task's jobs; asks until slurmctld answers."""
        for _ in range(100):
            told = await self.run(f"{_QUEUE} && echo answered")
            if told.endswith("answered\n"):
                rows = [line.split(None, 3) for line in told.splitlines()[:-1]]
                return [SlurmJob(row[3], row[0], row[1], row[2]) for row in rows if f".{token}." in row[3]]
            await asyncio.sleep(0.2)
        raise RuntimeError(f"slurmctld of {self.address.cluster_name} does not come back")

    async def evidence(self, token: str, directory: str) -> Evidence:
        """Look at what a run has left, once nothing of it runs any more, or after LONGEST_END seconds."""
        deadline = time.monotonic() + LONGEST_END
        while True:
            jobs = await self.queue(token)
            if all(job.state in _OVER for job in jobs) or time.monotonic() > deadline:
                break
            await asyncio.sleep(1)
        folder = self.path(directory)
        records = folder / ".slurm" / token
        return Evidence(
            queue=jobs,
            alive=[f"{job.name} is {job.state}" for job in jobs if job.state not in _OVER],
            completed=self._completed(token),
            submitted=[line for line in _lines(self.path(f"{ORDERS}/submitted")) if f".{token}." in line],
            ran=_lines(folder / "ran"),
            outputs={str(file.relative_to(folder)): _lines(file) for file in folder.rglob("*.log")},
            records={
                int(record.name.partition("-")[2]): {
                    str(file.relative_to(record)): file.read_text()
                    for file in record.rglob("*")
                    if file.is_file() and file.name in _RECORDS
                }
                for record in records.glob("attempt-*")
            },
        )

    def _completed(self, token: str) -> list[SlurmJob]:
        """Read Slurm's own log of jobs that have ended (JobCompType=jobcomp/filetxt)."""
        logs = self.root.parent.glob(f"machines/ip-*{JOBS_LOG}")
        found = [
            re.match(r"JobId=(\d+) .* Name=(\S+) JobState=(\S+) .*", line)
            for log in logs
            for line in _lines(log)
            if f".{token}." in line
        ]
        return [SlurmJob(match[2], match[1], "", match[3]) for match in found if match]


def _lines(file: Path) -> list[str]:
    return file.read_text(errors="replace").splitlines() if file.exists() else []


@asynccontextmanager
async def open_head_node(region: LocalRegion, name: str, nodes: int) -> AsyncIterator[HeadNode]:
    """Start a cluster whose sbatch can be ordered to kill and whose Slurm logs each job's end; stop it afterwards."""
    instance_id, host = await asyncio.to_thread(region.start_cluster, name, nodes)
    console = region.client("ec2").get_console_output(InstanceId=instance_id)["Output"]
    address = HeadNodeAddress(name, instance_id, host, parse_host_keys(console))
    keys = [asyncssh.import_public_key(key) for key in address.host_keys]
    root = region.directory / "clusters" / name / "root"
    async with asyncssh.connect(
        host,
        port=region.ssh_port,
        username=region.ssh_user,
        client_keys=[str(region.private_key)],
        known_hosts=(keys, [], []),
        config=None,
        agent_path=None,
    ) as connection:
        head_node = HeadNode(address, region.ssh_port, root, connection)
        await _prepare(head_node)
        try:
            await connection.create_process(f'export PATH="/opt/slurm/bin:$PATH"; {_CLUSTERMGTD}')
            yield head_node
        finally:
            await asyncio.to_thread(region.stop_cluster, name)


async def _prepare(head_node: HeadNode) -> None:
    await head_node.run(f"mkdir -p {ORDERS} {RUNS}")
    sbatch = head_node.path("/opt/slurm/bin/sbatch")
    sbatch.unlink()
    sbatch.write_bytes((HERE / "sbatch.sh").read_bytes())
    sbatch.chmod(0o755)
    conf = head_node.path("/opt/slurm/etc/slurm.conf")
    text = conf.read_text().replace("JobCompType=jobcomp/none", f"JobCompType=jobcomp/filetxt\nJobCompLoc={JOBS_LOG}")
    text = text.replace("BatchStartTimeout=60", "BatchStartTimeout=5").replace("cred_expire=15", "cred_expire=5")
    conf.write_text(text)
    await head_node.kill_slurmctld()
    await asyncio.sleep(0.5)
    await head_node.queue("none")


def environment(head_node: HeadNode, region: LocalRegion, port: int) -> Mapping[str, str]:
    """Return Airflow's connection to a head node by another port."""
    connection: dict[str, Any] = {
        "conn_type": "ssh",
        "login": region.ssh_user,
        "port": port,
        "extra": {"key_file": str(region.private_key)},
    }
    return {"AIRFLOW_CONN_HPC_HEAD_NODE": json.dumps(connection)}
