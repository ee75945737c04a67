"""One run of a simulation, from its first task to its verdict, with faults put in; Airflow's part is played.

A run that shares its cluster has a neighbour, to which nothing is done: whatever hits the one must not harm the other.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaos.forks import Process
from chaos.lifecycle import look, outage, processes
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
from chaos.lifecycle.record import Record, task_of
from chaos.lifecycle.rules import Step, next_step, run_state, steps_of
from chaos.lifecycle.simulation import partition_of, result_of, simulation_of
from chaos.lifecycle.verdict import Evidence, Violation, violations
from hpc.names import cluster_name, pool_cluster_name
from local_aws.testing import LocalRegion

if TYPE_CHECKING:
    from chaos.lifecycle.campaign import Site

#: Seconds for a run, with all of its faults, and processes that work for it, after which it counts as stuck.
LONGEST_RUN, MOST_PROCESSES = 1800.0, 250
AIRFLOW_URL = "http://airflow.example.org"


@dataclass
class Report:
    """What became of a run: which faults hit it, and what was wrong with it or its neighbour.

    `answered` says that somebody cleared the export of a cluster that was kept.
    """

    plan: Plan
    hits: list[Injection]
    found: list[Violation]
    seconds: float
    log: Path
    run: str
    visited: bool
    answered: bool = False

    def hit_by(self, fault: str) -> int:
        """Return how many of its faults are of a kind."""
        return sum(injection.fault == fault for injection in self.hits)


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
    """One run; its folder is its own. `name` is that of the run, and of its cluster unless it shares one."""

    def __init__(self, plan: Plan, site: Site, *, simulation: dict[str, Any], suffix: str = "") -> None:
        self.plan = plan
        self.site = site
        self.region = site.region
        self.folder = site.runs / f"{plan.seed}{suffix}"
        self.folder.mkdir(parents=True)
        self.simulation = simulation
        self.pool: str = simulation["cluster"].get("name", "")
        self.run_id = f"manual__{plan.seed}{suffix}"
        self.name = cluster_name(simulation["name"], self.run_id)
        self.hits: list[Injection] = []
        self.run = ""
        self.answered = self.held_in_vain = False
        self._armed: list[Armed] = []
        self._finished = False
        self._count = 0
        self._met = asyncio.Event()
        super().__init__(Record(self.folder / "run.json"), site.forks, self.folder / "log", {})

    @classmethod
    def of_plan(cls, plan: Plan, site: Site) -> Life:
        """Return the run that faults are put into."""
        return cls(plan, site, simulation=simulation_of(plan))

    def clusters(self) -> list[str]:
        """Return the names of its clusters: of its own one, or of all that its pool has had."""
        return look.clusters_of(self.region, self.pool) if self.pool else [self.name]

    async def live(self, slot: asyncio.Semaphore) -> Report:
        """Live it while a slot is free; return what it has left."""
        async with slot:
            began = time.monotonic()
            self._order_faults_of_region()
            neighbour = self._neighbour()
            beside = asyncio.create_task(neighbour.live_beside(self)) if neighbour else None
            await self._live_alone()
            await asyncio.gather(*([beside] if beside else []))
            states = self.record.states()
            self._note_hits(states)
            # Of a pool, the last one proves the deletion, whoever that is.
            is_proven = not self.pool and states.get("delete_cluster") == "success"
            clusters = await asyncio.to_thread(self.clusters)
            left = [] if is_proven else await asyncio.to_thread(look.what_is_left_of, self.region, clusters)
            if left:
                await self.site.janitor.visit(clusters, is_expired=self.run == "gone")
            found = await self._judge(clusters, neighbour, abandoned=bool(left))
            await asyncio.to_thread(self._clean_up, clusters)
            seconds = time.monotonic() - began
            return Report(self.plan, self.hits, found, seconds, self.log, self.run, bool(left), self.answered)

    async def live_beside(self, other: Life) -> None:
        """Live it as the neighbour of a run that has come to the step at which they meet."""
        await other._met.wait()
        await self._live_alone()

    async def _live_alone(self) -> None:
        async with open_endpoint(self.region.endpoint_url) as self.endpoint:
            self.order = self._order(self.endpoint)
            self.dag = dag_of(self.order)
            self.steps = steps_of(self.dag)
            self.record.make(self.simulation["name"], self.run_id, datetime.now(UTC).isoformat(), {})
            self._watch = asyncio.create_task(self._watch_job())
            try:
                await self._run()
            finally:
                self._met.set()

    def _neighbour(self) -> Life | None:
        if not self.plan.neighbour:
            return None
        harmless = replace(self.plan, injections=(), neighbour="")
        return Life(harmless, self.site, simulation=self.simulation, suffix="-neighbour")

    async def _judge(self, clusters: list[str], neighbour: Life | None, *, abandoned: bool) -> list[Violation]:
        """Return what is wrong with this run, and with its neighbour."""
        found: list[Violation] = []
        lives = [self, neighbour] if neighbour else [self]
        folders = [f"pools/{self.pool}/{life.name}" for life in lives]
        for life in lives:
            life._watch.cancel()
            folder = f"{self.simulation['name']}/{life.name}"
            evidence = await asyncio.to_thread(life._evidence, clusters, [folder, *folders], abandoned=abandoned)
            of_life = violations(evidence)
            if life is neighbour and life.run != "success":
                of_life.append(Violation("loss", f"the neighbour, to which nothing was done, ends as {life.run}"))
            life.note(life.plan, evidence, *of_life, *evidence.alerts, f"hits: {list(map(str, life.hits))}")
            found += of_life
        return found

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
            if step.task_id == self.plan.neighbour:
                self._met.set()
            if step.task_id != "hold_cluster" or not self._answer_hold():
                await self.advance(step)
        if not self.run:
            self.run = run_state(self.steps, self.record.states())
            with self.record.changing() as document:
                document["state"] = self.run

    def _answer_hold(self) -> bool:
        """Do what a person does who is told that a cluster is kept for its results: clear the export, once."""
        task = task_of(self.record.read(), "hold_cluster")
        if task["state"] != "deferred" or "did not verify its results" not in json.dumps(task["next_kwargs"]):
            return False
        if self.plan.answers and not self.answered:
            self.answered = True
            self.note("-- the export is cleared: the cluster is kept for its results")
            self._clear("export_results")
            return True
        self.held_in_vain = True
        return False

    def _clear(self, first: str) -> list[str]:
        """Clear a task and all after it; return which."""
        chosen = self.dag.partial_subset([first], include_downstream=True, include_upstream=False)
        names = list(chosen.task_dict)
        self.record.clear(names, {name: min(self.steps[name].retries, RETRIES) for name in names})
        return names

    async def _watch_job(self) -> None:
        await look.until_result_is_written(self.region, self.name, self.pool)
        self._finished = True

    def _evidence(self, clusters: list[str], folders: list[str], *, abandoned: bool) -> Evidence:
        names = [f"Run {self.run_id} of {self.simulation['name']},", self.name, *clusters]
        return Evidence(
            names=names,
            run=self.run,
            states=self.record.states(),
            abandoned=abandoned,
            left=look.what_is_left_of(self.region, clusters),
            finished=self._finished,
            discarded=self.plan.is_discarded,
            saved=look.is_saved(self.region, folders, self.name, result_of(self.plan)),
            alerts=self.site.alerts.about(names),
            held_in_vain=self.held_in_vain,
        )

    def _clean_up(self, clusters: list[str]) -> None:
        """Leave room for other runs: what was left has been judged."""
        for injection in self.plan.injections:
            if injection.fault in OF_DELETION:
                self.region.fault("deletion", target=self._target(injection), reason="the last time", times=1)
        for cluster in clusters:
            if look.what_is_left(self.region, cluster):
                look.remove(self.region, cluster)

    # ------------------------------------------------------------------------------------------ the faults
    @property
    def _cluster(self) -> str:
        """The name of its first cluster."""
        return pool_cluster_name(self.pool, 1) if self.pool else self.name

    def _target(self, injection: Injection) -> str:
        return f"{self._cluster}/{injection.target}"

    def _order_faults_of_region(self) -> None:
        for injection in self.plan.injections:
            target = self._target(injection)
            reason = f"resource {injection.target} refuses to go"
            match injection.fault:
                case Fault.BOOTSTRAP:
                    self.region.fault("bootstrap", cluster=self._cluster, reason="Failed to run chef recipe chaos")
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
                fault = deletions.get(self._target(injection), {"times": 0})
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
        if injection.fault is Fault.SSH:
            if await outage.begin(self.region.directory / "clusters" / self._cluster, injection.outage):
                self.hits.append(injection)
        elif injection.fault in BY_PEOPLE:
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
                is_ended = step.task_id in self._clear(injection.clears)
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
