"""Airflow's real API server, alone, with our plugin in it: three users, and the connections to the local region."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from hpc.cluster.install import describe_environment, install
from hpc.names import cluster_name
from workshop import ROOT, processes, rest
from workshop.airflow import Access, component_environment, free_port
from workshop.database import provide_database
from workshop.region import Region

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

DAG = "lj_melt"
RUN = "manual__2026-11-23T02:12:00+00:00"
PASSWORD = "correct horse"  # pragma: allowlist secret
ROLES = ("admin", "user", "viewer")
START_LIMIT = 120


@dataclass(frozen=True)
class ApiServer:
    url: str
    log: Path

    def browser(self, role: str | None = None) -> httpx.Client:
        """A client that sends what a browser sends: the session's cookie, if logged in as `role`."""
        cookies = {}
        if role is not None:
            answer = httpx.post(f"{self.url}/auth/token", json={"username": role, "password": PASSWORD})
            cookies["_token"] = answer.raise_for_status().json()["access_token"]
        return httpx.Client(base_url=self.url, cookies=cookies, timeout=120)


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    directory = tmp_path_factory.mktemp("api-server")
    dags = directory / "dags"
    dags.mkdir()
    access = Access(free_port(), PASSWORD, fernet_key="", jwt_secret="not a secret, but long enough for a signature")
    environment = component_environment(directory, access, dags, ROOT / "plugins") | {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{role}:{role}" for role in ROLES),
        "AIRFLOW__API__WORKERS": "1",
    }
    passwords = directory / "simple_auth_manager_passwords.json.generated"
    passwords.write_text(json.dumps(dict.fromkeys(ROLES, PASSWORD)))
    provide_database(directory / "airflow.db")
    log = directory / "api-server.log"
    airflow = str(Path(sys.executable).with_name("airflow"))
    name = "api-server"
    try:
        processes.start(name, [airflow, name], records=directory, environment=environment, log=log)
        end = time.monotonic() + START_LIMIT
        while not rest.health(access.url):
            assert processes.is_running(name, directory), log.read_text()
            assert time.monotonic() < end, f"no answer within {START_LIMIT} s\n{log.read_text()}"
            time.sleep(0.1)
        yield ApiServer(access.url, log)
    finally:
        processes.stop_all(directory, patience=10)


@pytest.fixture(scope="session")
def api_server_of_region(api_server: ApiServer, region: LocalRegion) -> ApiServer:
    """The API server, told of the local region as a person would tell it: in its database."""
    client = rest.log_in(api_server.url, "admin", PASSWORD)
    account = Region(json.loads((region.directory / "region.json").read_text()))
    for conn_id, fields in account.connections().items():
        rest.set_connection(client, conn_id, fields)
    rest.set_variable(client, "hpc_site", account.site())
    return api_server


@pytest.fixture(scope="session")
def parallelcluster() -> None:
    """ParallelCluster's own environment, installed if it is not."""
    install(describe_environment())


@pytest.fixture(scope="session")
def cluster(region: LocalRegion) -> Iterator[str]:
    """A head node for the run that the tests open sessions for."""
    name = cluster_name(DAG, RUN)
    instance_id, _ = region.start_cluster(name)
    # ParallelCluster's template tags its head nodes so; `dcv-connect` reads the user's name off it.
    tag = {"Key": "parallelcluster:attributes", "Value": "alinux2023, slurm, 3.16.1, x86_64"}
    region.client("ec2").create_tags(Resources=[instance_id], Tags=[tag])
    yield name
    region.stop_cluster(name)
