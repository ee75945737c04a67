"""The real `pcluster` command, SSH, and clusters to try them on."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpc.cluster.install import Environment
from local_aws.testing import LocalRegion


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait until `condition` answers something true, and answer it."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain; the last answer was {answer!r}")
        time.sleep(0.1)
    return answer


@dataclass(frozen=True)
class HeadNode:
    """A head node to log in to."""

    region: LocalRegion
    address: str
    user: str = "ec2-user"

    def run(self, command: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"]
        ssh = ["ssh", "-i", self.region.private_key, "-p", str(self.region.ssh_port)]
        ssh += [part for option in options for part in ("-o", option)]
        destination = f"{self.user}@{self.address}"
        return subprocess.run(
            [*ssh, destination, command], capture_output=True, text=True, timeout=timeout, check=False
        )

    def answer(self, command: str) -> str:
        """The output of a command that must succeed."""
        done = self.run(command)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout.strip()


@dataclass(frozen=True)
class Pcluster:
    """The unmodified command line of the pinned ParallelCluster."""

    region: LocalRegion
    home: Path
    programs: Path

    def run(self, verb: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Answer (exit code, parsed answer)."""
        environment = self.region.environment() | {"HOME": str(self.home)}
        environment["PATH"] = f"{self.programs}:{os.environ['PATH']}"
        command = [str(self.programs / "pcluster"), verb, "--region", self.region.region, *arguments]
        done = subprocess.run(
            command, env=environment, cwd=self.home, capture_output=True, text=True, timeout=120, check=False
        )
        start = done.stdout.find("{")
        assert start >= 0, done.stdout + done.stderr
        return done.returncode, json.loads(done.stdout[start:])

    def describe(self, name: str) -> dict[str, Any]:
        return self.run("describe-cluster", "--cluster-name", name)[1]

    def create(self, name: str, configuration: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
        return self.run(
            "create-cluster", "--cluster-name", name, "--cluster-configuration", str(configuration), *arguments
        )

    def delete(self, name: str) -> tuple[int, dict[str, Any]]:
        return self.run("delete-cluster", "--cluster-name", name)

    def stack_status(self, name: str) -> str | None:
        """The status of the stack, asked of CloudFormation itself; None when there is no such stack."""
        cloudformation = self.region.client("cloudformation")
        stacks = [stack for stack in cloudformation.describe_stacks()["Stacks"] if stack["StackName"] == name]
        return stacks[0]["StackStatus"] if stacks else None

    def wait_for_stack(self, name: str, status: str | None, seconds: float = 30.0) -> None:
        until(lambda: self.stack_status(name) == status, seconds)


def cluster_document(region: LocalRegion, minimum: int = 0, maximum: int = 4) -> dict[str, Any]:
    """A cluster with FSx for Lustre, logs, dashboard, alarms and DCV."""
    resource = {"Name": "c5l", "InstanceType": "c5.large", "MinCount": minimum, "MaxCount": maximum}
    queue = {
        "Name": "compute",
        "ComputeResources": [resource],
        "Networking": {"SubnetIds": [region.compute_subnet_id]},
    }
    lustre = {"StorageCapacity": 1200, "DeploymentType": "SCRATCH_2"}
    return {
        "Region": region.region,
        "Image": {"Os": "alinux2023"},
        "HeadNode": {
            "InstanceType": "t3.small",
            "Networking": {"SubnetId": region.head_node_subnet_id},
            "Ssh": {"KeyName": region.key_name},
            "Dcv": {"Enabled": True},
        },
        "Scheduling": {"Scheduler": "slurm", "SlurmQueues": [queue]},
        "SharedStorage": [{"MountDir": "/fsx", "Name": "fsx", "StorageType": "FsxLustre", "FsxLustreSettings": lustre}],
        "Monitoring": {"Logs": {"CloudWatch": {"Enabled": True, "RetentionInDays": 14}}},
        "Tags": [{"Key": "project", "Value": "test"}],
    }


@pytest.fixture
def pcluster(region: LocalRegion, tmp_path: Path, parallelcluster: Environment) -> Pcluster:
    return Pcluster(region, tmp_path, parallelcluster.bin)


@pytest.fixture
def configuration(region: LocalRegion, tmp_path: Path) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(cluster_document(region)))
    return path


@pytest.fixture
def faults(region: LocalRegion) -> Iterator[LocalRegion]:
    """The region, whose faults are taken back at the end of the test."""
    yield region
    region.fault("clear")


@pytest.fixture(scope="module")
def head(region: LocalRegion) -> Iterator[HeadNode]:
    """The head node of a cluster without a stack."""
    _, address = region.start_cluster("slurm", nodes=4, cpus=2)
    yield HeadNode(region, address)
    region.stop_cluster("slurm")
