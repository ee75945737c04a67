"""A really running Airflow, all of whose processes are killed with SIGKILL and started again while it has jobs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workshop import processes, rest
from workshop.airflow import PROCESS, LocalAirflow
from workshop.region import Region

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

CLUSTER = "chaos-airflow"
PLACES = ("triggerer", "worker")
#: Airflow notices a dead component after minutes; the tests have seconds.
QUICK = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "5",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
}


@pytest.fixture
def server(region: LocalRegion, tmp_path: Path) -> Iterator[LocalAirflow]:
    """Airflow with the DAG of these tests only, beside a cluster."""
    region.start_cluster(CLUSTER, nodes=2)
    server = LocalAirflow(tmp_path / "airflow", QUICK, dags=Path(__file__).with_name("dags"))
    try:
        server.start()
        server.wait_until_ready(["killed"])
        server.connect(Region(asdict(region.facts)))
        yield server
    finally:
        server.stop()
        region.stop_cluster(CLUSTER)


def kill_everything(server: LocalAirflow) -> int:
    """Kill scheduler, triggerer, API server, workers and tasks at once, as a loss of power does; say how many died."""
    session = processes.parse_stat((server.directory / f"{PROCESS}.process").read_text()).pid
    killed = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if processes.parse_stat((folder / "stat").read_text()).session == session:
                os.kill(int(folder.name), signal.SIGKILL)
                killed += 1
    return killed


def until(condition: Callable[[], object], limit: float) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.airflow
@pytest.mark.slurm
@pytest.mark.timeout(400)
def test_a_loss_of_power_doubles_and_loses_no_job(server: LocalAirflow, region: LocalRegion) -> None:
    runs = region.directory / "clusters" / CLUSTER / "root" / "fsx" / "runs"
    run_id = rest.trigger(server.client(), "killed")
    moments: list[Callable[[], object]] = [
        lambda: list(runs.glob("*/.slurm/*/attempt-1")),  # recorded: sbatch is next
        lambda: all((runs / place / "ran").exists() for place in PLACES),  # both wait
    ]
    for moment in moments:
        until(moment, 90)
        assert kill_everything(server) > 4
        server.start()
        server.wait_until_ready(["killed"])
    for place in PLACES:
        (runs / place / "go").touch()
    until(lambda: rest.run_state(server.client(), "killed", run_id) in rest.FINISHED_RUN_STATES, 120)
    assert rest.run_state(server.client(), "killed", run_id) == "success"
    for place in PLACES:
        job = rest.returned(server.client(), "killed", run_id, place)
        assert (job["attempt"], job["result"]["exit_code"]) == (1, 0)
        assert (runs / place / "ran").read_text() == f"{job['name']}\n"
