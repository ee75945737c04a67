"""One run of a simulation, from its first task to its verdict, with faults put in; Airflow's part is played."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaos.forks import Process
from chaos.lifecycle import look, processes
from chaos.lifecycle.alerts import Alerts
from chaos.lifecycle.dags import dag_of
from chaos.lifecycle.endpoint import Armed, Endpoint, open_endpoint
from chaos.lifecycle.plan import (
    BY_PEOPLE,
    OF_DELETION,
    OF_REGION,
    ON_THE_WAY,
    ON_WRITES,
    Fault,
    Injection,
    Moment,
    Phase,
    Plan,
)
from chaos.lifecycle.played import RETRIES, Player, end_process
from chaos.lifecycle.record import Record
from chaos.lifecycle.rules import Step, next_step, run_state, steps_of
from chaos.lifecycle.simulation import partition_of, result_of, simulation_of
from chaos.lifecycle.verdict import Evidence, Violation, violations
from hpc.names import cluster_name
from local_aws.testing import LocalRegion

if TYPE_CHECKING:
    from chaos.lifecycle.campaign import Site

#: Seconds for a run, with all of its faults, and processes that work for it, after which it counts as stuck.
LONGEST_RUN, MOST_PROCESSES = 1800.0, 250
AIRFLOW_URL = "http://airflow.example.org"


@dataclass
class Report:
    """What became of a run: which faults hit it, and what was wrong."""

    plan: Plan
    hits: list[Injection]
    found: list[Violation]
    seconds: float
    log: Path
    run: str
    visited: bool


def environment(region: LocalRegion, endpoint_url: str, alerts: Alerts) -> dict[str, str]:
    """Return Airflow's connections, its Variable and its URL, for tasks that reach AWS by `endpoint_url`."""
    aws = {
        "conn_type": "aws",
        "login": region.access_key_id,
        "password": region.secret_access_key,
        "extra": {"endpoint_url": endpoint_url, "region_name": region.region},
    }
    ssh = {
        "conn_type": "ssh",
        "login": region.ssh_user,
        "port": region.ssh_port,
        "extra": {"key_file": str(region.private_key)},
    }
    facts = ("region", "head_node_subnet_id", "compute_subnet_id", "key_name", "bucket")
    site = {name: getattr(region, name) for name in facts} | {"notify": {"slack": "people"}}
    return {
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
        "AIRFLOW_CONN_HPC_HEAD_NODE": json.dumps(ssh),
        "AIRFLOW_CONN_PEOPLE": alerts.connection(),
        "AIRFLOW_VAR_HPC_SITE": json.dumps(site),
        "AIRFLOW__API__BASE_URL": AIRFLOW_URL,
    }


class Life(Player):
    """One run; its folder is its own."""

    def __init__(self, plan: Plan, site: Site) -> None:
        self.plan = plan
        self.site = site
        self.region = site.region
        self.folder = site.runs / str(plan.seed)
        self.folder.mkdir(parents=True)
        self.simulation = simulation_of(plan)
        self.run_id = f"manual__{plan.seed}"
        self.cluster = cluster_name(self.simulation["name"], self.run_id)
        self.hits: list[Injection] = []
        self.run = ""
        self._armed: list[Armed] = []
        self._finished = False
        self._count = 0
        super().__init__(Record(self.folder / "run.json"), site.forks, self.folder / "log", {})

    async def live(self, slot: asyncio.Semaphore) -> Report:
        """Live it while a slot is free; return what it has left."""
        async with slot, open_endpoint(self.region.endpoint_url) as self.endpoint:
            began = time.monotonic()
            self.order = self._order(self.endpoint)
            self.dag = dag_of(self.order)
            self.steps = steps_of(self.dag)
            self._order_faults_of_region()
            self.record.make(self.simulation["name"], self.run_id, datetime.now(UTC).isoformat(), {})
            watch = asyncio.create_task(self._watch_job())
            await self._run()
            states = self.record.states()
            self._note_hits(states)
            is_proven = states.get("delete_cluster") == "success"
            left = [] if is_proven else await asyncio.to_thread(look.what_is_left, self.region, self.cluster)
            if left:
                await self.site.janitor.visit(self.cluster, is_expired=self.run == "gone")
            watch.cancel()
            evidence = await asyncio.to_thread(self._evidence, states, abandoned=bool(left))
            found = violations(evidence)
            hits = [str(injection) for injection in self.hits]
            self.note(self.plan, evidence, *found, *evidence.alerts, f"hits: {hits}")
            await asyncio.to_thread(self._clean_up, evidence)
            seconds = time.monotonic() - began
            return Report(self.plan, self.hits, found, seconds, self.log, self.run, bool(left))

    def _order(self, endpoint: Endpoint) -> Mapping[str, Any]:
        return {
            "simulation": self.simulation,
            "environment": environment(self.region, endpoint.url, self.site.alerts),
            "checks": any(injection.step == "render_cluster_config" for injection in self.plan.injections),
            "runs": str(self.site.runs),
            "expired": [],
        }

    def note(self, *what: object) -> None:
        """Add lines to the log."""
        with self.log.open("a") as log:
            print(*what, sep="\n", file=log)

    # ------------------------------------------------------------------------------------------ Airflow's part
    async def _run(self) -> None:
        end = time.monotonic() + LONGEST_RUN
        while not self.run and (step := next_step(self.steps, self.record.states())):
            if time.monotonic() > end or self._count > MOST_PROCESSES:
                self.run = "stuck"
                return
            await self.advance(step)
        if not self.run:
            self.run = run_state(self.steps, self.record.states())
            with self.record.changing() as document:
                document["state"] = self.run

    async def _watch_job(self) -> None:
        await look.until_result_is_written(self.region, self.cluster)
        self._finished = True

    def _evidence(self, states: Mapping[str, str | None], *, abandoned: bool) -> Evidence:
        return Evidence(
            cluster=self.cluster,
            run=self.run,
            states=states,
            abandoned=abandoned,
            left=look.what_is_left(self.region, self.cluster),
            finished=self._finished,
            discarded=self.plan.is_discarded,
            saved=look.is_saved(self.region, f"{self.simulation['name']}/{self.cluster}", result_of(self.plan)),
            alerts=self.site.alerts.about(self.cluster),
        )

    def _clean_up(self, evidence: Evidence) -> None:
        """Leave room for other runs: what was left has been judged."""
        for injection in self.plan.injections:
            if injection.fault in OF_DELETION:
                self.region.fault(
                    "deletion", target=f"{self.cluster}/{injection.target}", reason="the last time", times=1
                )
        if evidence.left:
            look.remove(self.region, self.cluster)

    # ------------------------------------------------------------------------------------------ the faults
    def _order_faults_of_region(self) -> None:
        for injection in self.plan.injections:
            target = f"{self.cluster}/{injection.target}"
            reason = f"resource {injection.target} refuses to go"
            match injection.fault:
                case Fault.BOOTSTRAP:
                    self.region.fault("bootstrap", cluster=self.cluster, reason="Failed to run chef recipe chaos")
                case Fault.CAPACITY:
                    self.region.fault("capacity", target=partition_of(self.plan), code="InsufficientInstanceCapacity")
                case Fault.DELETION_ONCE:
                    self.region.fault("deletion", target=target, reason=reason, times=1)
                case Fault.DELETION_ALWAYS:
                    self.region.fault("deletion", target=target, reason=reason, times=_ALWAYS)
                case Fault.DELETION_FEIGNED:
                    self.region.fault("deletion", target=target, reason="", times=1)

    def _note_hits(self, states: Mapping[str, str | None]) -> None:
        """Count what struck on the way to AWS and in the region."""
        self.hits += [armed.injection for armed in self._armed if armed.hits]
        deletions = self.region.status()["faults"]["deletions"]
        for injection in self.plan.injections:
            if injection.fault in OF_DELETION:
                fault = deletions.get(f"{self.cluster}/{injection.target}", {"times": 0})
                struck = fault["times"] < (_ALWAYS if injection.fault is Fault.DELETION_ALWAYS else 1)
            elif injection.fault in OF_REGION:
                place = "wait_for_stack" if injection.fault is Fault.BOOTSTRAP else "wait_for_allocation"
                struck = states.get(place) == "failed"
            else:
                continue
            self.hits += [injection] if struck else []

    def _waiting(self, step: Step, phase: Phase) -> list[Injection]:
        """Return the faults that are to strike in a process."""
        return [
            injection
            for injection in self.plan.injections
            if injection not in self.hits and (injection.step, injection.phase) == (step.task_id, phase)
        ]

    def moment(self, step: Step, phase: Phase) -> Moment:
        """Let a process kill itself at a step's boundary."""
        self._count += 1
        return next((each.moment for each in self._waiting(step, phase) if each.moment), Moment.NEVER)

    async def around(self, process: Process, step: Step, phase: Phase) -> None:
        """Let the faults of a process strike, each at its instant."""
        async with asyncio.TaskGroup() as strikes:
            for injection in self._waiting(step, phase):
                if injection.fault in ON_THE_WAY | ON_WRITES:
                    if all(armed.injection is not injection for armed in self._armed):
                        self._armed.append(self.endpoint.arm(injection))
                elif not injection.moment:
                    strikes.create_task(self._strike(injection, process, step))

    def ended(self, step: Step, phase: Phase, answer: Mapping[str, Any] | None) -> None:
        """Count the process that killed itself."""
        self.note(f"-- {step.task_id} {phase}: {self.record.states().get(step.task_id)}")
        if answer is None:
            self.hits += [injection for injection in self._waiting(step, phase) if injection.moment]

    async def _strike(self, injection: Injection, process: Process, step: Step) -> None:
        if injection.fault is Fault.PCLUSTER:
            while not any(map(processes.is_pcluster, processes.descendants(process.pid))):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await asyncio.sleep(injection.delay)
        if injection.fault in BY_PEOPLE:
            self.hits.append(injection)
            await self._act(injection, process, step)
        elif self._kill(injection, process):
            self.hits.append(injection)

    def _kill(self, injection: Injection, process: Process) -> bool:
        below = processes.descendants(process.pid)
        match injection.fault:
            case Fault.PCLUSTER:
                return processes.kill(below) > 0
            case Fault.WORKER:
                was_alive = process.kill()
                processes.kill(below)
                return was_alive
        return process.kill()

    async def _act(self, injection: Injection, process: Process, step: Step) -> None:
        """Do to the run what a person does in the UI, or the end of its Airflow."""
        match injection.fault:
            case Fault.MARKED_FAILED:
                self.record.mark_failed(self.steps)
                is_ended = not step.is_teardown
            case Fault.CLEARED:
                chosen = self.dag.partial_subset([injection.clears], include_downstream=True, include_upstream=False)
                names = list(chosen.task_dict)
                self.record.clear(names, {name: min(self.steps[name].retries, RETRIES) for name in names})
                is_ended = step.task_id in names
            case Fault.DELETED:
                self.run = "deleted"
                self.record.delete()
                is_ended = True
            case _:
                self.run = "gone"
                processes.kill(processes.descendants(process.pid))
                process.kill()
                return
        if is_ended:
            # Not by this strike's own task, which ends with the process.
            await asyncio.shield(end_process(process))


#: Times that a deletion fails always.
_ALWAYS = 1_000_000
