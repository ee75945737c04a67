"""What every room's tests share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from workshop import LOCAL, scratch

#: Where this process of the tests puts everything that it makes.
SCRATCH = scratch.begin()
# Airflow reads this when it is imported, so it has to stand before any test module does that. Tests that run at the
# same time, in several processes, inherit the first one's.
os.environ["AIRFLOW_HOME"] = str(SCRATCH / "airflow")
os.environ.setdefault("AIRFLOW__CORE__UNIT_TEST_MODE", "True")
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(LOCAL / "cache" / "hypothesis"))

# An example may start a process, and the machine may be busy: no test is wrong because an example took 200 ms.
settings.register_profile("the project", deadline=None)
settings.load_profile("the project")

if TYPE_CHECKING:
    from hpc.cluster.install import Environment
    from local_aws.testing import LocalRegion


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Let `tmp_path` be below our folder, unless the command line says where."""
    told = config.option.basetemp
    if told is None or Path(told).is_relative_to(scratch.DIRECTORY):  # a process of several is told the first one's
        config.option.basetemp = str(SCRATCH / "t")


@pytest.fixture(scope="session")
def parallelcluster() -> Environment:
    """ParallelCluster's own environment, installed if it is not."""
    from hpc.cluster import install

    environment = install.describe_environment()
    install.install(environment)
    return environment


@pytest.fixture(scope="session")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegion]:
    """One local AWS region for the whole test run; each test makes clusters of its own in it."""
    from local_aws.testing import LocalRegion

    directory: Path = tmp_path_factory.mktemp("region")
    with LocalRegion(directory) as region:
        yield region


@pytest.fixture(scope="session")
def airflow_connections(region: LocalRegion) -> dict[str, str]:
    """Environment variables that are Airflow's connections `aws_default` and `hpc_head_node` to the local region."""
    aws = {
        "conn_type": "aws",
        "login": region.access_key_id,
        "password": region.secret_access_key,
        "extra": {"endpoint_url": region.endpoint_url, "region_name": region.region},
    }
    ssh = {
        "conn_type": "ssh",
        "login": region.ssh_user,
        "port": region.ssh_port,
        "extra": {"key_file": str(region.private_key)},
    }
    return {"AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws), "AIRFLOW_CONN_HPC_HEAD_NODE": json.dumps(ssh)}


@pytest.fixture
def connections(airflow_connections: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Set those connections for one test."""
    for variable, value in airflow_connections.items():
        monkeypatch.setenv(variable, value)


MakeFileSystem = Callable[..., str]


@pytest.fixture
def linked_file_system(region: LocalRegion) -> Iterator[MakeFileSystem]:
    """Return the function that makes an FSx for Lustre of a cluster, with FSx's own call, and returns its id."""
    fsx, made = region.client("fsx"), list[str]()

    def make(cluster: str, **lustre: str) -> str:
        answer = fsx.create_file_system(
            FileSystemType="LUSTRE",
            StorageCapacity=1200,
            SubnetIds=[region.compute_subnet_id],
            LustreConfiguration=lustre,
            Tags=[{"Key": "parallelcluster:cluster-name", "Value": cluster}],
        )
        made.append(answer["FileSystem"]["FileSystemId"])
        return made[-1]

    yield make
    for file_system_id in made:
        fsx.delete_file_system(FileSystemId=file_system_id)
