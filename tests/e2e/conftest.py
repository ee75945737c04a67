"""A running Airflow beside a local AWS region, made once for all tests that use it as its users do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from airflow_client.client import ApiClient

from benchmarks.processes import PclusterWatch
from benchmarks.runs import write_empty_dags
from workshop import ROOT, postgres, region, rest
from workshop.airflow import DATABASE, USER, LocalAirflow
from workshop.region import Region


@dataclass(frozen=True)
class RunningAirflow:
    """What a test needs of it."""

    server: LocalAirflow
    region: Region
    directory: Path
    pcluster: PclusterWatch

    @property
    def url(self) -> str:
        """Where the UI is; the REST API is below /api/v2."""
        return self.server.access.url

    @property
    def user(self) -> str:
        """An administrator."""
        return USER

    @property
    def password(self) -> str:
        """The administrator's password."""
        return self.server.access.password

    @property
    def client(self) -> ApiClient:
        """A freshly logged-in client of the REST API."""
        return self.server.client()

    def fault(self, *arguments: str) -> None:
        """Do what `python -m local_aws fault` does, to this Airflow's region."""
        subprocess.run(
            [sys.executable, "-m", "local_aws", "fault", *arguments, "--dir", str(self.directory / "region")],
            check=True,
            cwd=ROOT,
        )

    def logs(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Return the log of a task's last attempt, as the UI shows it."""
        tasks = rest.task_progress(self.client, dag_id, run_id, [])
        last = max(task.try_number for task in tasks if task.task_id == task_id)
        return "\n".join(rest.task_log(self.client, dag_id, run_id, task_id, last))


def all_dags(folder: Path) -> Path:
    """Make a folder of the project's DAG files, of those for the tests, and of the benchmark's empty DAGs."""
    folder.mkdir()
    for file in (*(ROOT / "dags").glob("*.py"), *(ROOT / "tests" / "e2e" / "dags").iterdir()):
        (folder / file.name).symlink_to(file)
    write_empty_dags(folder)
    return folder


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAirflow]:
    """Start both, and stop both whatever happens. On PostgreSQL, as Airflow is in production."""
    directory = tmp_path_factory.mktemp("airflow")
    with postgres.running() as database:
        server = LocalAirflow(directory / "airflow", {DATABASE: database}, dags=all_dags(directory / "dags"))
        try:
            server.start()
            account = region.up(directory / "region")
            server.wait_until_ready([file.stem for file in (ROOT / "config" / "simulations").glob("*.yaml")])
            server.connect(account)
            with PclusterWatch() as watch:
                yield RunningAirflow(server, account, directory, watch)
        finally:
            server.stop()
            region.down(directory / "region")


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Return the folder whose pictures CI keeps."""
    folder = ROOT / ".local" / "ci" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
