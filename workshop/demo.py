"""The main job, from nothing to nothing: `make demo`.

A local AWS region and an Airflow are started, one simulation is triggered through Airflow's REST API and followed, and
everything is stopped again. The exit code is 0 only if the run succeeded, its receipt is verified and nothing is left.

Environment: `DEMO_SIMULATION` (default lj_melt), `DEMO_KEEP=1` (leave everything up until Ctrl-C), `DEMO_LIMIT`
(seconds that the run may take, default 900), `AIRFLOW_PORT` (default: a free one).
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from airflow_client.client import ApiClient
from airflow_client.client.exceptions import ServiceException

from workshop import LOCAL, live, processes, region, rest
from workshop.airflow import USER, AirflowDownError, LocalAirflow
from workshop.region import Region, RegionError
from workshop.report import DemoReport, download, picture_uris, read_saved
from workshop.stopwatch import Stopwatch

DIRECTORY = LOCAL / "demo"
RESULTS_SHOWN = 10


def run_demo(dag_id: str, directory: Path, *, limit: float, keep: bool) -> int:
    """Run one simulation below `directory` and return the exit code; `limit` is the seconds that the run may take."""
    watch = Stopwatch()
    with watch.part("clean up"):
        clean_up(directory)
    try:
        airflow = start_airflow(directory / "airflow")
        with watch.part("region"):
            account = region.up(directory / "region")
        with watch.part("airflow"):
            airflow.wait_until_ready([dag_id])
            airflow.connect(account)
        say(f"Airflow is at {airflow.access.url}  user {USER}  password {airflow.access.password}")
        with watch.part("run"):
            report = follow(airflow, account, dag_id, limit)
        watch.seconds |= {"all": watch.elapsed()}
        keep_results(report, account, directory / "results")
        tell(report, airflow, directory)
        if keep:
            wait_for_person(airflow)
    except (AirflowDownError, RegionError) as error:
        say(f"The demo failed: {error}")
        return 1
    finally:
        with watch.part("stop"):
            stop(directory)
    write_report(report, directory / "report.json", watch)
    return conclude(report)


def clean_up(directory: Path) -> None:
    """Remove what an earlier demo left: the processes of a killed one, and the files of any."""
    stop(directory)
    for name in ("airflow", "region", "results"):
        region.remove_tree(directory / name)
    (directory / "report.json").unlink(missing_ok=True)


def stop(directory: Path) -> None:
    """Stop Airflow, so that nobody asks the region any more, and then the region with all its clusters."""
    processes.stop_all(directory / "airflow", patience=1)
    region.down(directory / "region")


def start_airflow(directory: Path) -> LocalAirflow:
    """Start an Airflow that makes no scheduled runs: a nightly one could make up for the last night meanwhile."""
    airflow = LocalAirflow(directory, {"AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False"})
    airflow.start()
    return airflow


def follow(airflow: LocalAirflow, account: Region, dag_id: str, limit: float) -> DemoReport:
    """Trigger the simulation with its defaults, show its tasks until the run ends, and collect what it left."""
    client = airflow.client()
    order = rest.task_order(client, dag_id)
    run_id = rest.trigger(client, dag_id)
    end = time.monotonic() + limit
    told: set[tuple[str, int]] = set()
    with live.view_for(f"{dag_id}  {run_id}") as view:
        state = "queued"
        while state not in rest.FINISHED_RUN_STATES and time.monotonic() < end:
            time.sleep(0.5)
            airflow.assert_running()
            try:
                state = rest.run_state(client, dag_id, run_id)
                tasks = rest.task_progress(client, dag_id, run_id, order)
                view.show(tasks)
                for task in tasks:
                    if task.state in {"failed", "up_for_retry"} and (task.task_id, task.try_number) not in told:
                        told.add((task.task_id, task.try_number))
                        view.note(f"{task.task_id}: {rest.task_error(client, dag_id, run_id, task)}")
            except ServiceException:
                continue  # SQLite is locked now and then; the next question is answered
    return collect(client, account, dag_id, run_id, order)


def collect(client: ApiClient, account: Region, dag_id: str, run_id: str, order: list[str]) -> DemoReport:
    """Ask Airflow for the outcome of a run, and the region for what is left in it."""
    results, pictures, deletion = (
        rest.returned(client, dag_id, run_id, task) for task in ("export_results", "export_pictures", "delete_cluster")
    )
    deleted = deletion["leftovers"] if deletion else ["unknown, for delete_cluster did not tell"]
    return DemoReport(
        dag_id=dag_id,
        run_id=run_id,
        state=rest.run_state(client, dag_id, run_id),
        tasks=rest.task_progress(client, dag_id, run_id, order),
        results=read_saved(results, account),
        pictures=read_saved(pictures, account),
        leftovers=[*map(str, deleted), *account.leftovers()],
        failures={
            task.task_id: rest.task_log(client, dag_id, run_id, task.task_id, task.try_number)
            for task in rest.task_progress(client, dag_id, run_id, order)
            if task.state == "failed"
        },
    )


def keep_results(report: DemoReport, account: Region, directory: Path) -> None:
    """Copy receipt and pictures out of the region, which is about to go."""
    if report.results:
        download(account, [report.results.receipt_uri, report.results.page_uri], directory)
    if report.pictures:
        download(account, picture_uris(report.pictures.objects), directory)


def tell(report: DemoReport, airflow: LocalAirflow, directory: Path) -> None:
    """Print what a person wants to know at the end."""
    say("")
    for task_id, log in report.failures.items():
        where = airflow.logs / f"dag_id={report.dag_id}" / f"run_id={report.run_id}" / f"task_id={task_id}"
        say(f"{task_id} failed. The end of its log, the whole of which is in {where}:")
        say("\n".join(f"    {line}" for line in "\n".join(log).splitlines()[-25:]))
    if report.results:
        facts = report.results.summary
        say(
            f"Receipt   {report.results.receipt_uri}  "
            f"{facts['files']} files, {facts['bytes']} bytes, verified: {facts['verified']}"
        )
        results = [uri for uri in report.results.objects if "/." not in uri]  # not the job's own records
        for uri in results[:RESULTS_SHOWN]:
            say(f"Result    {uri}")
        if len(results) > RESULTS_SHOWN:
            say(f"Result    and {len(results) - RESULTS_SHOWN} more, which the receipt lists")
    for uri in picture_uris(report.pictures.objects if report.pictures else ()):
        say(f"Picture   {uri}")
    say(f"Copies    {directory / 'results'}")
    say(f"Left over {', '.join(report.leftovers) or 'nothing: the cluster is gone'}")


def wait_for_person(airflow: LocalAirflow) -> None:
    """Leave everything up until Ctrl-C."""
    say(f"Everything stays up at {airflow.access.url} until Ctrl-C.")
    try:
        signal.pause()
    except KeyboardInterrupt:
        say("")


def write_report(report: DemoReport, file: Path, watch: Stopwatch) -> None:
    """Write report.json, with the seconds of the set-up that came before."""
    set_up = LOCAL / "setup.json"
    timings = {"set-up": json.loads(set_up.read_text()) if set_up.exists() else {}} | watch.seconds
    file.write_text(json.dumps(report.as_dict() | {"timings": timings}, indent=2) + "\n")


def conclude(report: DemoReport) -> int:
    """Print the verdict and return the exit code."""
    if report.problems:
        say("The demo failed: " + "; ".join(report.problems))
        return 1
    say(f"The demo succeeded: {len(report.tasks)} tasks, nothing is left.")
    return 0


@contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Refuse a second demo in the same checkout; the kernel forgets the lock of a killed one."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"A demo is running in {directory} already. Wait for its end, or use another checkout.")
        yield


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Turn a signal into an exception once; what comes while we stop is ignored, so that nothing is left."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def main() -> int:
    """Read the environment and run the demo."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        with only_one(DIRECTORY):
            return run_demo(
                os.environ.get("DEMO_SIMULATION") or "lj_melt",
                DIRECTORY,
                limit=float(os.environ.get("DEMO_LIMIT") or 900),
                keep=bool(os.environ.get("DEMO_KEEP")),
            )
    except KeyboardInterrupt:
        say("Interrupted; everything is stopped.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
