"""The cluster that is measured: a local region with one real Slurm and sshd, and the jobs on it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks import proc
from hpc.errors import ConnectionLostError
from hpc.head_node.address import HeadNodeAddress, find_head_node
from hpc.head_node.session import Session, open_session
from hpc.head_node.shell import quote
from hpc.slurm.identity import JobPlaces, SubmittedJob, job_token
from hpc.slurm.script import SlurmRequest
from hpc.slurm.submission import PROGRAM, Accepted, Submission, parse_answer
from local_aws.testing import LocalRegion

SSH = "hpc_head_node"
#: The same head node as the SSH provider's own hook wants it: host key in the connection.
PEERS_SSH = "peers_head_node"
#: One node that runs all jobs that have to run.
CPUS = 16
HELD = "#!/bin/bash\n#SBATCH --hold\ntrue\n"
#: It waits without using the processor until it is told to end, and notes when that was.
ENDS_WHEN_TOLD = "#!/bin/bash\nmkfifo go\nread -r _ <go\ndate +%s.%N >ended\necho 0 >exit_code\n"
#: Requests that one call of our program carries.
BATCH = 1000
#: Times that a connection is tried, a second apart and more.
TRIES = 180


@dataclass(frozen=True)
class BenchmarkCluster:
    """The head node with its processes, as seen from outside."""

    region: LocalRegion
    address: HeadNodeAddress

    def processes(self) -> tuple[list[proc.Process], list[proc.Process]]:
        """Return sshd with all its sessions and what they run, and slurmctld."""
        everything = proc.all_processes()
        ours = proc.tree(everything, [self.region.pid])
        daemons = [process.pid for process in ours if process.name == "sshd"]
        return proc.tree(everything, daemons), [process for process in ours if process.name == "slurmctld"]

    def stop(self) -> None:
        """End it with all its jobs."""
        self.region.stop_cluster(self.address.cluster_name)

    def run(self, work: Callable[[Session], Awaitable[Any]]) -> Any:
        """Open a session, await `work` with it, and return its answer."""

        async def in_session() -> Any:
            async with AsyncExitStack() as stack:
                for tries_left in range(TRIES, -1, -1):
                    try:
                        session = await stack.enter_async_context(open_session(self.address, SSH))
                        break
                    except ConnectionLostError:  # a peer keeps sshd busy
                        if not tries_left:
                            raise
                        await asyncio.sleep(1)
                return await work(session)

        return asyncio.run(in_session())

    def command(self, text: str, **options: Any) -> str:
        """Run a command on the head node, and return its output."""
        return str(self.run(lambda session: session.run(text, **options)).stdout)


def start(region: LocalRegion, name: str, settings: dict[str, str]) -> BenchmarkCluster:
    """Start the cluster, and let Airflow's connections of this process and its children lead to it."""
    region.start_cluster(name, nodes=1, cpus=CPUS, settings=settings)
    aws = {"endpoint_url": region.endpoint_url, "region_name": region.region}
    os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = json.dumps(
        {"conn_type": "aws", "login": region.access_key_id, "password": region.secret_access_key, "extra": aws}
    )
    ssh = {"conn_type": "ssh", "login": region.ssh_user, "port": region.ssh_port}
    key = {"key_file": str(region.private_key)}
    os.environ["AIRFLOW_CONN_HPC_HEAD_NODE"] = json.dumps({**ssh, "extra": key})
    address = find_head_node(name)
    pinned = {**key, "host_key": address.host_keys[0]}
    os.environ["AIRFLOW_CONN_PEERS_HEAD_NODE"] = json.dumps({**ssh, "host": address.host, "extra": pinned})
    return BenchmarkCluster(region, address)


# ------------------------------------------------------------------------------------------------ jobs
def submission(name: str, script: str, points: Sequence[dict[str, Any]] = ()) -> Submission:
    """Return what a task would submit: every job has a folder and a token of its own."""
    places = JobPlaces(f"/fsx/benchmark/{name}", job_token("benchmark", "run", name, -1), "benchmark")
    return Submission(
        places=places,
        series=1,
        script=script,
        parameters={"number": 1, "name": name},
        resources=SlurmRequest(nodes=1),
        again_after_failure=True,
        points=points,
    )


async def submit(session: Session, submissions: Sequence[Submission]) -> list[Accepted]:
    """Submit all in one call of our program."""
    requests = json.dumps([each.request() for each in submissions])
    done = await PROGRAM.run(session, "submit", input=requests, timeout=300)
    accepted = [parse_answer(line) for line in done.stdout.splitlines()]
    if len(accepted) != len(submissions) or None in accepted:
        raise RuntimeError(f"{len(accepted)} answers to {len(submissions)} submissions")
    return [each for each in accepted if each]


def submit_jobs(cluster: BenchmarkCluster, names: Sequence[str], script: str) -> list[SubmittedJob]:
    """Submit a job for each name."""

    async def work(session: Session) -> list[SubmittedJob]:
        jobs = []
        for begin in range(0, len(names), BATCH):
            batch = [submission(name, script) for name in names[begin : begin + BATCH]]
            for each, taken in zip(batch, await submit(session, batch), strict=True):
                jobs.append(each.places.submitted(cluster.address.cluster_name, taken.attempt, taken.job_id))
        return jobs

    return list(cluster.run(work))


def submit_running(cluster: BenchmarkCluster, names: Sequence[str]) -> list[SubmittedJob]:
    """Submit jobs that end when they are told, and return once all of them run."""
    jobs = submit_jobs(cluster, names, ENDS_WHEN_TOLD)
    pipes = quote([f"{job.directory}/go" for job in jobs])
    cluster.command(f"for pipe in {pipes}; do until [ -p $pipe ]; do sleep 0.2; done; done", timeout=120)
    return jobs


def end_jobs(cluster: BenchmarkCluster, jobs: Sequence[SubmittedJob], seconds: float) -> None:
    """Let jobs end one after the other, evenly over `seconds`."""

    async def work(session: Session) -> None:
        for job in jobs:
            await asyncio.sleep(seconds / len(jobs))
            await session.run(f"echo >{quote([job.directory + '/go'])}")

    cluster.run(work)


def ends(cluster: BenchmarkCluster, jobs: Sequence[SubmittedJob]) -> list[float]:
    """Return when jobs ended by their own account, in seconds since 1970."""
    return [float(line) for line in cluster.command(f"cat {quote([f'{job.directory}/ended' for job in jobs])}").split()]
