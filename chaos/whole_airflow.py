"""A really running Airflow. All its processes are killed at once, as a loss of power does, or its scheduler alone."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from airflow_client.client import ApiClient

from chaos.head_node import RUNS, HeadNode, open_head_node
from chaos.life import Report
from chaos.plan import Fault, Plan
from chaos.verdict import Outcome, Violation, violations
from hpc.slurm.identity import job_token
from local_aws.testing import LocalRegion
from workshop import processes, rest
from workshop.airflow import PROCESS, LocalAirflow
from workshop.region import Region

CLUSTER, DAG_ID = "chaos-airflow", "killed"
#: Who waits for the job: each is a task of the DAG.
PLACES = ("triggerer", "worker")
#: Seconds for a run, with all of its kills.
LONGEST_RUN = 240.0
#: Airflow notices the death of a component after minutes; here it has seconds, though not fewer than two cores need.
QUICK = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
}


@dataclass
class WholeAirflow:
    """An Airflow with one DAG, and the cluster that it works on; what its runs left is noted in `folder`."""

    server: LocalAirflow
    head_node: HeadNode
    folder: Path

    async def live(self, plan: Plan) -> Report:
        """Live one run: kill after the plan's seconds, as often as it says; look at what both tasks left."""
        began = time.monotonic()
        directory = f"{RUNS}/airflow-{plan.seed}"
        client = await asyncio.to_thread(self.server.client)
        run_id = await asyncio.to_thread(rest.trigger, client, DAG_ID, {"folder": directory})
        hits = 0
        for _ in range(plan.times):
            await asyncio.sleep(plan.delay)
            kill = lose_power if plan.fault is Fault.AIRFLOW else kill_scheduler
            hits += await asyncio.to_thread(kill, self.server, DAG_ID)
        client = await asyncio.to_thread(self.server.client)
        with suppress(TimeoutError):
            await asyncio.to_thread(
                until, lambda: rest.run_state(client, DAG_ID, run_id) in rest.FINISHED_RUN_STATES, LONGEST_RUN
            )
        log, found = self.folder / f"airflow-{plan.seed}.log", list[Violation]()
        for place in PLACES:
            outcome = await asyncio.to_thread(outcome_of, client, run_id, place)
            token = job_token(DAG_ID, run_id, place, -1)
            evidence = await self.head_node.evidence(token, f"{directory}/{place}")
            found += violations(plan.kind, evidence, outcome)
            _note(log, plan, outcome, evidence, *found)
        return Report(plan, hits, found, time.monotonic() - began, log, cleared=0)


def lose_power(server: LocalAirflow, dag_id: str) -> bool:
    """Kill scheduler, triggerer, API server, workers and tasks at once, and start them; say whether any ran."""
    session = processes.parse_stat((server.directory / f"{PROCESS}.process").read_text()).pid
    killed = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if processes.parse_stat((folder / "stat").read_text()).session == session:
                os.kill(int(folder.name), signal.SIGKILL)
                killed += 1
    until(lambda: not processes.is_running(PROCESS, server.directory), 10)
    server.start()
    server.wait_until_ready([dag_id])
    return killed > 0


def kill_scheduler(server: LocalAirflow, dag_id: str) -> bool:
    """Kill the scheduler alone, which is started again; say whether it ran."""
    file = server.logs / "scheduler.pid"
    scheduler = file.read_text()
    try:
        os.kill(int(scheduler), signal.SIGKILL)
    except ProcessLookupError:
        return False
    until(lambda: file.read_text() not in ("", scheduler), 10)
    server.wait_until_ready([dag_id])
    return True


def outcome_of(client: ApiClient, run_id: str, place: str) -> Outcome:
    """Return how a task ended; nothing if it has not."""
    (task,) = (task for task in rest.task_progress(client, DAG_ID, run_id, []) if task.task_id == place)
    if not task.finished:
        return Outcome()
    if task.state != "success":
        return Outcome(error="Failed", message=f"task {place} is {task.state}")
    return Outcome(returned=rest.returned(client, DAG_ID, run_id, place))


def _note(log: Path, *what: object) -> None:
    with log.open("a") as file:
        print(*what, sep="\n", file=file)


def until(condition: Callable[[], object], limit: float) -> None:
    """Return when the condition holds. Raises TimeoutError after `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {limit:.0f} s")
        time.sleep(0.2)


@asynccontextmanager
async def open_whole_airflow(region: LocalRegion, folder: Path) -> AsyncIterator[WholeAirflow]:
    """Start an Airflow and a cluster; stop both afterwards."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    server = LocalAirflow(folder / "airflow", QUICK, dags=Path(__file__).parent / "dags", revive=True)
    async with open_head_node(region, CLUSTER, nodes=2) as head_node:
        try:
            server.start()
            await asyncio.to_thread(server.wait_until_ready, [DAG_ID])
            server.connect(Region(asdict(region.facts)))
            yield WholeAirflow(server, head_node, folder)
        finally:
            await asyncio.to_thread(server.stop)
