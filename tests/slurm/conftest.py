"""A cluster with a real Slurm and sshd, and tasks without a scheduler."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpc.head_node.address import HeadNodeAddress, find_head_node
from hpc.head_node.session import Session, run_session
from hpc.slurm.operators import SlurmJobOperator

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

CLUSTER = "slurm-tests"
SSH = "hpc_head_node"


@pytest.fixture(scope="session")
def _head_node(region: LocalRegion, airflow_connections: dict[str, str]) -> Iterator[HeadNodeAddress]:
    region.start_cluster(CLUSTER, nodes=4)
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in airflow_connections.items():
            patch.setenv(variable, value)
        address = find_head_node(CLUSTER)
    yield address
    region.stop_cluster(CLUSTER)


@pytest.fixture
def head_node(_head_node: HeadNodeAddress, connections: None) -> HeadNodeAddress:
    """The head node of a cluster with four nodes of two CPUs, and Airflow connections to reach it."""
    return _head_node


def on_head_node(address: HeadNodeAddress, command: str, *, input: str = "") -> str:
    """Run a command on the head node and return its output."""

    async def run(session: Session) -> str:
        return (await session.run(command, input=input)).stdout

    return run_session(address, SSH, run)


@dataclass
class TaskInstance:
    """As much of Airflow's task instance as a job's identity is made of. Clearing raises `max_tries`."""

    dag_id: str = "simulation"
    run_id: str = field(default_factory=lambda: f"manual__{uuid.uuid4()}")
    task_id: str = "submit_job"
    map_index: int = -1
    max_tries: int = 1

    @property
    def context(self) -> Any:
        return {"ti": self}


@dataclass
class Tasks:
    """Makes tasks that submit shell scripts to one cluster."""

    address: HeadNodeAddress
    folder: Path

    def operator(self, script: str, **arguments: Any) -> SlurmJobOperator:
        path = self.folder / f"{uuid.uuid4()}.sh"
        path.write_text(f"#!/bin/bash\n{script}\n")
        arguments = {"directory": f"/fsx/runs/{path.stem}", "job_script": path, "waiter_delay": 1, **arguments}
        return SlurmJobOperator(
            task_id="submit_job",
            cluster_name=self.address.cluster_name,
            head_node=self.address.as_dict(),
            **arguments,
        )

    def submit(self, script: str, ti: TaskInstance | None = None, **arguments: Any) -> dict[str, Any]:
        """Submit without waiting; return the job."""
        operator = self.operator(script, wait_for_completion=False, **arguments)
        return operator.execute((ti or TaskInstance()).context)

    def run(self, script: str, ti: TaskInstance | None = None, **arguments: Any) -> dict[str, Any]:
        """Submit and wait in this process; return the job with its result."""
        return self.operator(script, deferrable=False, **arguments).execute((ti or TaskInstance()).context)


@pytest.fixture
def tasks(head_node: HeadNodeAddress, tmp_path: Path) -> Tasks:
    return Tasks(head_node, tmp_path)


@pytest.fixture
def another_cluster(region: LocalRegion, connections: None, tmp_path: Path) -> Iterator[Tasks]:
    """A cluster of one node for one test."""
    name = f"alone-{uuid.uuid4().hex[:8]}"
    region.start_cluster(name, nodes=1)
    yield Tasks(find_head_node(name), tmp_path)
    region.stop_cluster(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses a head node needs the region and Slurm."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and {"head_node", "another_cluster"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.region)
            item.add_marker(pytest.mark.slurm)
