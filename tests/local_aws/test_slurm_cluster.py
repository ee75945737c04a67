"""Real Slurm on the region's machines, as a user of a ParallelCluster head node meets it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from local_aws.testing import LocalRegion
from tests.local_aws.conftest import HeadNode, until

pytestmark = [pytest.mark.region, pytest.mark.slurm]

MPI_PROGRAM = """
import socket
from mpi4py import MPI
world = MPI.COMM_WORLD
print(world.rank, socket.gethostname(), world.allreduce(world.rank))
"""


def state(head: HeadNode, job: str) -> str:
    """The job's state, asked of slurmctld."""
    found = re.search(r"JobState=(\w+)", head.answer(f"scontrol --oneliner show job {job}"))
    assert found is not None
    return found[1]


def batch_host(head: HeadNode, job: str) -> str:
    found = re.search(r"BatchHost=(\S+)", head.answer(f"scontrol --oneliner show job {job}"))
    assert found is not None
    return found[1]


def submit(head: HeadNode, script: str, *options: str) -> str:
    """Submit `script` from /fsx; answers the job id."""
    command = f"cd /fsx && sbatch --parsable {' '.join(options)} <<'SCRIPT'\n#!/bin/bash\n{script}\nSCRIPT"
    return head.answer(command)


def test_a_head_node_is_ready_within_a_few_seconds(region: LocalRegion) -> None:
    started = time.monotonic()
    instance, address = region.start_cluster("quick", nodes=2, cpus=1)
    assert time.monotonic() - started < 30
    assert HeadNode(region, address).answer("sinfo --noheader --format %D") == "2"
    description = region.client("ec2").describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    assert description["PublicIpAddress"] == address
    assert {"Key": "parallelcluster:node-type", "Value": "HeadNode"} in description["Tags"]
    region.stop_cluster("quick")
    assert "quick" not in region.status()["clusters"]


def test_a_cluster_without_a_stack_has_the_settings_that_were_asked_for(region: LocalRegion) -> None:
    _, address = region.start_cluster("settings", nodes=1, cpus=1, settings={"MaxJobCount": "20000"})
    assert HeadNode(region, address).answer("scontrol show config | awk '$1 == \"MaxJobCount\" {print $3}'") == "20000"
    region.stop_cluster("settings")


def test_the_head_node_looks_as_on_aws(head: HeadNode) -> None:
    assert head.answer("id --user --name") == "ec2-user"
    assert head.answer("pwd") == "/home/ec2-user"
    assert head.answer("hostname").startswith("ip-127-")
    assert head.answer("command -v sbatch") == "/opt/slurm/bin/sbatch"
    assert head.answer("command -v python3") == "/opt/software/bin/python3"
    assert head.answer("stat --format %a /fsx") == "1777"
    assert head.answer("test -r /etc/ssl/certs/ca-certificates.crt && echo visible") == "visible"
    assert "root" not in head.answer("cat /etc/passwd | cut -d: -f1 | grep ubuntu || echo none")
    assert head.run("test -w /etc/passwd || test -w /usr/bin").returncode == 1


def test_two_nodes_compute_one_mpi_job(head: HeadNode, region: LocalRegion) -> None:
    head.answer(f"cat > /fsx/ranks.py <<'PROGRAM'\n{MPI_PROGRAM}\nPROGRAM")
    job = submit(head, "mpirun python3 ranks.py", "--nodes=2", "--ntasks-per-node=1", "--output=ranks.txt")
    until(lambda: state(head, job) == "RUNNING")
    tags = {
        tag["Value"]
        for reservation in region.client("ec2").describe_instances()["Reservations"]
        for instance in reservation["Instances"]
        if instance["State"]["Name"] == "running"
        for tag in instance["Tags"]
        if tag["Key"] == "parallelcluster:compute-resource-name"
    }
    assert tags == {"c5l"}
    until(lambda: state(head, job) == "COMPLETED")
    lines = sorted(head.answer("cat /fsx/ranks.txt").splitlines())
    assert [line.split()[0] for line in lines] == ["0", "1"]
    assert len({line.split()[1] for line in lines}) == 2
    assert {line.split()[2] for line in lines} == {"1"}


def test_idle_nodes_lose_their_instances(region: LocalRegion) -> None:
    _, address = region.start_cluster("idle", nodes=1, cpus=1)
    head = HeadNode(region, address)
    head.answer("cd /fsx && srun true")
    assert list(region.status()["clusters"]["idle"]["instances"]) == ["compute-dy-c5l-1"]
    until(lambda: region.status()["clusters"]["idle"]["instances"] == {}, 60)
    until(lambda: "POWERED_DOWN" in head.answer("scontrol show node compute-dy-c5l-1"))
    region.stop_cluster("idle")


def test_a_cancelled_job_ends(head: HeadNode) -> None:
    job = submit(head, "sleep 600")
    until(lambda: state(head, job) == "RUNNING")
    head.answer(f"scancel {job}")
    until(lambda: state(head, job) == "CANCELLED")


def test_a_job_is_requeued_when_its_node_is_lost(head: HeadNode, region: LocalRegion) -> None:
    job = submit(head, 'echo "run ${SLURM_RESTART_COUNT:-0}"; sleep 8; echo done', "--requeue", "--output=requeued.txt")
    until(lambda: state(head, job) == "RUNNING")
    region.fault("node", cluster="slurm", node=batch_host(head, job))
    until(lambda: "Restarts=1" in head.answer(f"scontrol --oneliner show job {job}"), 90)
    until(lambda: state(head, job) == "COMPLETED", 90)
    assert head.answer("cat /fsx/requeued.txt") == "run 1\ndone"


def test_a_job_that_may_not_requeue_fails_with_its_node(head: HeadNode, region: LocalRegion) -> None:
    job = submit(head, "sleep 600", "--no-requeue")
    until(lambda: state(head, job) == "RUNNING")
    node = batch_host(head, job)
    instance = region.status()["clusters"]["slurm"]["instances"][node]
    region.client("ec2").terminate_instances(InstanceIds=[instance])
    until(lambda: state(head, job) == "NODE_FAIL", 90)


@pytest.fixture
def capacity_fault(region: LocalRegion) -> Iterator[None]:
    region.fault("capacity", target="c5l", code="InsufficientInstanceCapacity")
    yield
    region.fault("clear")


def test_insufficient_capacity_sets_the_nodes_down_and_says_so(region: LocalRegion, capacity_fault: None) -> None:
    _, address = region.start_cluster("scarce", nodes=2, cpus=1)
    head = HeadNode(region, address)
    job = submit(head, "hostname", "--nodes=2", "--output=scarce.txt")
    until(lambda: "InsufficientInstanceCapacity" in head.answer("scontrol show node compute-dy-c5l-1"))
    assert state(head, job) in {"PENDING", "CONFIGURING"}
    assert region.status()["clusters"]["scarce"]["instances"] == {}
    region.fault("clear")
    until(lambda: state(head, job) == "COMPLETED", 120)
    region.stop_cluster("scarce")


def test_many_sessions_at_once(head: HeadNode) -> None:
    command = "for i in $(seq 20); do (sinfo --version >/dev/null && echo ok) & done; wait"
    assert head.answer(command).splitlines() == ["ok"] * 20


def test_files_go_to_and_fro_by_sftp(
    head: HeadNode, region: LocalRegion, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import subprocess

    local = tmp_path_factory.mktemp("sftp") / "file"
    local.write_text("content\n")
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-P", str(region.ssh_port)]
    command = ["sftp", "-i", region.private_key, *options, "-b", "-", f"ec2-user@{head.address}"]
    subprocess.run(command, input=f"put {local} /fsx/file\n", text=True, check=True, capture_output=True, timeout=30)
    assert head.answer("cat /fsx/file") == "content"
