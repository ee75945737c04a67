"""Runs of a really running Airflow, all of whose processes are killed at once, again and again, and started again."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.lifecycle import look
from chaos.lifecycle.life import Report, environment
from chaos.lifecycle.plan import WHOLE, Injection, Plan
from chaos.lifecycle.record import Record
from chaos.lifecycle.simulation import result_of, simulation_of
from chaos.lifecycle.verdict import Evidence, violations
from chaos.whole_airflow import QUICK, lose_power
from hpc.names import cluster_name
from workshop import ROOT, rest
from workshop.airflow import LocalAirflow

if TYPE_CHECKING:
    from chaos.lifecycle.campaign import Site

DAG_ID: str = simulation_of(WHOLE)["name"]
#: Seconds for all runs together, with all of the kills.
LONGEST = 900.0
#: A worker that imports all of AWS while six others do is silent for longer than the jobs' own.
_PATIENT = {"AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "45"}
_ACTIVE = frozenset({"queued", "running", "deferred", "up_for_retry"})


@dataclass
class _Run:
    """A run of the real Airflow."""

    plan: Plan
    run_id: str
    hits: list[Injection] = field(default_factory=list)
    finished: bool = False

    @property
    def cluster(self) -> str:
        return cluster_name(DAG_ID, self.run_id)

    @property
    def injection(self) -> Injection:
        return self.plan.injections[0]


async def live_whole(site: Site, plans: Iterable[Plan]) -> AsyncGenerator[Report, None]:
    """Live runs in one Airflow at the same time; it is killed once for each, when the run is at its plan's step."""
    plans = list(plans)
    if not plans:
        return
    folder = site.folder / "whole"
    await asyncio.to_thread(folder.mkdir, parents=True)
    settings = environment(site.region, site.region.endpoint_url, site.alerts)
    settings |= {**QUICK, **_PATIENT, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])}
    server = LocalAirflow(folder / "airflow", settings, dags=Path(__file__).parent / "airflow")
    try:
        server.start()
        await asyncio.to_thread(server.wait_until_ready, [DAG_ID])
        began = time.monotonic()
        client = await asyncio.to_thread(server.client)
        runs = [_Run(plan, await asyncio.to_thread(rest.trigger, client, DAG_ID)) for plan in plans]
        watches = [asyncio.create_task(_watch(site, run)) for run in runs]
        states = await _until_over(server, runs)
        for run in runs:
            yield await _report(site, run, states[run.run_id], began)
        for watch in watches:
            watch.cancel()
    finally:
        await asyncio.to_thread(server.stop)


async def _watch(site: Site, run: _Run) -> None:
    await look.until_result_is_written(site.region, run.cluster)
    run.finished = True


async def _until_over(server: LocalAirflow, runs: list[_Run]) -> dict[str, dict[str, str]]:
    """Kill Airflow while each run is at its step; return the states of all runs' tasks when all are over."""
    states: dict[str, dict[str, str]] = {run.run_id: {} for run in runs}
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        client = await asyncio.to_thread(server.client)
        # First the runs, then their tasks: those of a run that is over are as they stay.
        over = [await asyncio.to_thread(rest.run_state, client, DAG_ID, run.run_id) for run in runs]
        for run in runs:
            progress = await asyncio.to_thread(rest.task_progress, client, DAG_ID, run.run_id, [])
            states[run.run_id] = {task.task_id: task.state for task in progress}
            if not run.hits and states[run.run_id].get(run.injection.step) in _ACTIVE:
                await asyncio.sleep(run.injection.delay)
                run.hits += [run.injection] if await asyncio.to_thread(lose_power, server, DAG_ID) else []
                break
        else:
            if rest.FINISHED_RUN_STATES.issuperset(over):
                break
        await asyncio.sleep(0.3)
    return states


async def _report(site: Site, run: _Run, states: dict[str, str], began: float) -> Report:
    log = site.runs / f"whole-{run.plan.seed}" / "log"
    await asyncio.to_thread(log.parent.mkdir, parents=True)
    record = Record(log.parent / "run.json")
    record.make(DAG_ID, run.run_id, "2000-01-01T00:00:00+00:00", {})
    ended = states.get("report")
    with record.changing() as document:
        document["state"] = "running" if ended is None else ended
    left = await asyncio.to_thread(look.what_is_left, site.region, run.cluster)
    if left:
        await site.janitor.visit([run.cluster], is_expired=False)
    evidence = Evidence(
        names=[run.cluster],
        run=ended if ended in ("success", "failed") else "stuck",
        states=states,
        abandoned=bool(left),
        left=await asyncio.to_thread(look.what_is_left, site.region, run.cluster),
        finished=run.finished,
        discarded=False,
        saved=await asyncio.to_thread(
            look.is_saved, site.region, [f"{DAG_ID}/{run.cluster}"], run.cluster, result_of(WHOLE)
        ),
        alerts=site.alerts.about([run.cluster]),
    )
    found = violations(evidence)
    with suppress(OSError):
        log.write_text("\n".join(map(str, (run.plan, evidence, *found, *evidence.alerts))))
    return Report(run.plan, run.hits, found, time.monotonic() - began, log, evidence.run, bool(left))
