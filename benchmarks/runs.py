"""Whole DAG runs on a real Airflow beside a local AWS region, and what of each run's time is whose."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from airflow_client.client import ApiClient
from airflow_client.client.api.dag_run_api import DagRunApi
from airflow_client.client.exceptions import ConflictException, ServiceException

from benchmarks.empty_dag import source_of_empty_dags
from benchmarks.intervals import Interval, covered, of_jobs, of_stack
from benchmarks.processes import PclusterWatch
from benchmarks.report import Row
from hpc.config import SIMULATIONS_DIR, load_simulation
from hpc.lifecycle import build_dag
from hpc.names import cluster_name
from workshop import ROOT, postgres, region, rest
from workshop.airflow import DATABASE, LocalAirflow
from workshop.region import Region

T = TypeVar("T")

#: What is measured: the shipped simulation of one node, with parameters that make its job as short as it can be.
SIMULATION = "ising_2d"
SHORT: Mapping[str, Any] = {"size": 8, "sweeps": 30, "temperatures": 3}
EMPTY, DEFERRING = "empty", "empty_deferring"
PEERS = {EMPTY: "empty DAG", DEFERRING: "empty DAG that defers"}
#: Times that an empty DAG may take: what the whole DAG without AWS, Slurm and jobs has to reach.
TARGET = 1.3
#: Seconds that runs which were started together may take.
LIMIT = 3600.0
#: Airflow's own limits of one DAG would let 50 runs wait for one another; they are the same for all DAGs here.
SETTINGS = {
    "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
    "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "64",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "512",
}


@dataclass(frozen=True)
class Run:
    """A run that succeeded: its seconds, and how many of them had AWS, Slurm or the jobs at work, or `pcluster`."""

    whole: float
    outside: float
    #: `outside`, and whatever else `pcluster` took.
    with_pcluster: float

    @property
    def overhead(self) -> float:
        """What is left without AWS (`pcluster` is AWS's own program), Slurm and the jobs."""
        return self.whole - self.with_pcluster


def patiently(ask: Callable[[], T]) -> T:
    """Return the answer of Airflow's API; if it is an error of its own, tell it, and ask again for ten minutes."""
    end = time.monotonic() + 600
    while True:
        try:
            return ask()
        except ServiceException as error:
            print(f"Airflow's API answered {error.status}", flush=True)
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


class Laboratory:
    """A running Airflow with the shipped DAGs and the empty ones, and its region."""

    def __init__(self, server: LocalAirflow, account: Region, watch: PclusterWatch) -> None:
        self.server = server
        self.account = account
        self.watch = watch

    def run_together(self, dag_id: str, number: int) -> list[Run]:
        """Trigger so many runs at once, wait for all, and return what those took that succeeded.

        The others are told, and are missing in the row that counts them. Raises RuntimeError if all fail.
        """
        client = self.server.client()
        run_ids = [self._trigger(client, dag_id) for _ in range(number)]
        end, waiting = time.monotonic() + LIMIT, set(run_ids)
        while waiting:
            if time.monotonic() > end:
                raise RuntimeError(f"{len(waiting)} of {number} runs of {dag_id} took longer than {LIMIT:.0f} s")
            time.sleep(1)
            self.server.assert_running()
            states = {run_id: patiently(partial(rest.run_state, client, dag_id, run_id)) for run_id in waiting}
            waiting -= {run_id for run_id, state in states.items() if state in rest.FINISHED_RUN_STATES}
        ended = [run for run in (self._look_at_one(dag_id, run_id) for run_id in run_ids) if run]
        if not ended:
            raise RuntimeError(f"all {number} runs of {dag_id} failed")
        return ended

    def _look_at_one(self, dag_id: str, run_id: str) -> Run | None:
        """Return what a run took; None if it failed."""
        try:
            return patiently(partial(self.look, dag_id, run_id))
        except RuntimeError as error:
            print(f"left out: {error}", flush=True)
            return None

    def _trigger(self, client: ApiClient, dag_id: str) -> str:
        parameters = SHORT if dag_id == SIMULATION else {}
        run_id = f"measured-{uuid.uuid4()}"
        try:
            return patiently(partial(rest.trigger, client, dag_id, parameters, run_id))
        except ConflictException:  # of a try whose answer was an error
            return run_id

    def look(self, dag_id: str, run_id: str) -> Run:
        """Return what a run that is over took. Raises RuntimeError if it failed."""
        client = self.server.client()
        run = DagRunApi(client).get_dag_run(dag_id, run_id)
        if run.state.value != "success" or run.queued_at is None or run.end_date is None:
            tasks = [task for task in rest.task_progress(client, dag_id, run_id, []) if task.state == "failed"]
            told = [f"{task.task_id}: {rest.task_error(client, dag_id, run_id, task)}" for task in tasks]
            raise RuntimeError("\n".join([f"run {run_id} of {dag_id} is {run.state.value}", *told]))
        begin, ended = run.queued_at.timestamp(), run.end_date.timestamp()
        if dag_id != SIMULATION:
            return Run(ended - begin, 0.0, 0.0)
        cluster = cluster_name(dag_id, run_id)
        stack_id = rest.returned(client, dag_id, run_id, "create_cluster")["stack_id"]
        outside = [*self._of_stack(stack_id), *self._of_jobs(cluster)]
        pcluster = self.watch.of_cluster(cluster)
        return Run(ended - begin, covered(outside, begin, ended), covered([*outside, *pcluster], begin, ended))

    def _of_stack(self, stack_id: str) -> list[Interval]:
        pages = (
            self.account.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=stack_id)
        )
        found = of_stack([event for page in pages for event in page["StackEvents"]])
        if len(found) < 2:  # more, if it was deleted in several tries
            raise RuntimeError(f"{stack_id}: creation and deletion were expected, not {found}")
        return found

    def _of_jobs(self, cluster: str) -> list[Interval]:
        logs = self.account.client("logs")
        (group,) = logs.describe_log_groups(logGroupNamePrefix=f"/aws/parallelcluster/{cluster}-")["logGroups"]
        streams = logs.describe_log_streams(logGroupName=group["logGroupName"])["logStreams"]
        (stream,) = (each["logStreamName"] for each in streams if each["logStreamName"].endswith(".slurmctld"))
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=group["logGroupName"], logStreamNames=[stream]
        )
        found = of_jobs([event["message"] for page in pages for event in page["events"]])
        if len(found) < 2:  # more, if a job was sent again
            raise RuntimeError(f"{cluster}: the job and its pictures were expected, not {found}")
        return found


@contextmanager
def open_laboratory(folder: Path) -> Iterator[Laboratory]:
    """Start Airflow, its PostgreSQL and a region; stop all afterwards. Only the database is not below `folder`."""
    dags = folder / "dags"
    dags.mkdir(parents=True)
    for file in (ROOT / "dags").glob("*.py"):
        (dags / file.name).symlink_to(file)
    write_empty_dags(dags)
    with postgres.running() as database:
        server = LocalAirflow(folder / "airflow", SETTINGS | {DATABASE: database}, dags=dags)
        try:
            server.start()
            account = region.up(folder / "region")
            server.wait_until_ready([SIMULATION, *PEERS])
            server.connect(account)
            with PclusterWatch() as watch:
                yield Laboratory(server, account, watch)
        finally:
            server.stop()
            region.down(folder / "region")


def write_empty_dags(folder: Path) -> None:
    """Write the files of the empty DAGs, whose shape is that of the simulation's."""
    shape = build_dag(load_simulation(SIMULATIONS_DIR / f"{SIMULATION}.yaml"))
    for name in PEERS:
        (folder / f"{name}.py").write_text(source_of_empty_dags(shape, [name], defers=name == DEFERRING))


def measure(folder: Path, together: Sequence[int], rounds: int) -> Iterator[list[Row]]:
    """Measure so many runs at once; one at a time as often as `rounds` says, in turns with the empty DAGs.

    Yields the rows of each number when they are there: a later one may fail after half an hour.
    """
    with open_laboratory(folder) as laboratory:
        laboratory.run_together(EMPTY, 1)  # Airflow's first run imports what later ones find
        for number in together:
            found: dict[str, list[Run]] = {dag_id: [] for dag_id in (SIMULATION, *PEERS)}
            for _ in range(rounds if number == 1 else 1):
                for dag_id in found:
                    ended = laboratory.run_together(dag_id, number)
                    print(f"{number} at once of {dag_id}: {median(run.whole for run in ended):.1f} s", flush=True)
                    found[dag_id] += ended
            yield rows_of(number, found)


def rows_of(number: int, found: Mapping[str, Sequence[Run]]) -> list[Row]:
    """Return the figures of `number` runs at once: medians over the runs."""
    ours = found[SIMULATION]
    empty = median(run.whole for run in found[EMPTY])
    peers = {title: median(run.whole for run in found[dag_id]) for dag_id, title in PEERS.items()}
    deferring = peers[PEERS[DEFERRING]]
    overhead = median(run.overhead for run in ours)
    what = f"{number:,} run{'s' if number > 1 else ''} at once"
    succeeded = Row(
        f"{what}: succeeded",
        "runs",
        len(ours),
        f">= {number}",
        {title: len(found[dag_id]) for dag_id, title in PEERS.items()},
    )
    return [
        *([succeeded] if number > 1 else []),
        Row(f"{what}: a whole run", "s", median(run.whole for run in ours), None, peers),
        Row(f"{what}: AWS, Slurm and jobs", "s", median(run.outside for run in ours)),
        Row(f"{what}: pcluster beside them", "s", median(run.with_pcluster - run.outside for run in ours)),
        Row(f"{what}: what is left", "s", overhead),
        Row(
            f"{what}: what is left, to an empty DAG",
            "ratio",
            overhead / empty,
            f"<= {TARGET}" if number == 1 else None,
            {PEERS[DEFERRING]: deferring / empty},
        ),
        Row(
            f"{what}: what is left, to an empty DAG that waits where ours does",
            "ratio",
            overhead / deferring,
            f"<= {TARGET}" if number == 1 else None,
        ),
        Row(
            f"{what}: the same with pcluster counted as ours",
            "ratio",
            median(run.whole - run.outside for run in ours) / empty,
        ),
    ]
