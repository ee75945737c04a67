"""One run: a task instance's life from its first try to its verdict, with a fault put in; Airflow's part is played.

What Airflow decides is decided by its rules: a killed task process is tried again with the same identity, a trigger
whose triggerer died is started again from its serialized form, an error is retried as `hpc.retries` says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.forks import Forks, Process
from chaos.head_node import RUNS, HeadNode, environment
from chaos.plan import Fault, Kind, Moment, Phase, Plan
from chaos.proxy import Fuse, Proxy
from chaos.verdict import BAD_POINT, Outcome, Violation, violations
from hpc.slurm.identity import job_token
from local_aws.testing import LocalRegion

#: Tries of a task and starts of a trigger before a run counts as lost.
TRIES = 12
#: Seconds for one process: SSH's keepalive notices a silent network after 75.
LONGEST = 150.0
_NOTHING = (Phase.EXECUTE, True)
_ENDS = {Kind.GOOD: "exit 0", Kind.FAILING: "exit 3", Kind.CRASHING: "kill -SEGV $$"}
_SCRIPT = """#!/bin/bash
run="$SLURM_JOB_NAME ${{SLURM_ARRAY_TASK_ID:--}} $SLURM_JOB_ID"
echo "begin $run" >>"$PARAM_RAN"
echo "begin $SLURM_JOB_NAME"
sleep 1
echo "end $SLURM_JOB_NAME"
echo "end $run" >>"$PARAM_RAN"
{end}
"""


@dataclass
class Report:
    """What became of a run: how often the fault hit, and what was wrong."""

    plan: Plan
    hits: int
    found: list[Violation]
    seconds: float
    log: Path
    cleared: int


@dataclass
class Life:
    """One run on a head node; `folder` is its own."""

    plan: Plan
    head_node: HeadNode
    region: LocalRegion
    forks: Forks
    folder: Path
    hits: int = 0
    _left: int = 0
    _process: Process | None = None
    _strikes: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.run_id = f"seed-{self.plan.seed}"
        self.task_id = "job"
        self.token = job_token("chaos", self.run_id, self.task_id, -1)
        self.directory = f"{RUNS}/{self.plan.seed}"
        self.series = 3
        self._left = self.plan.times
        self.folder.mkdir(parents=True)
        self.script = self.folder / "script.sh"
        end = f"[ $POINT != {BAD_POINT} ] || exit 3" if self.plan.kind.points else _ENDS[self.plan.kind]
        self.script.write_text(_SCRIPT.format(end=end))

    async def live(self, slot: asyncio.Semaphore) -> Report:
        """Live it while a slot is free, and then look at what it has left, which may take longer."""
        async with slot, Proxy(self.head_node.address.host, self.head_node.ssh_port) as self.proxy:
            began = time.monotonic()
            outcome, cleared = await self._outcome()
            await asyncio.gather(*self._strikes)
        evidence = await self.head_node.evidence(self.token, self.directory)
        found = violations(self.plan.kind, evidence, outcome)
        self._note(self.plan, outcome, evidence, *found, f"hits: {self.hits}, cleared: {cleared}")
        return Report(self.plan, self.hits, found, time.monotonic() - began, self._log, cleared)

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def _note(self, *what: object) -> None:
        with self._log.open("a") as log:
            print(*what, sep="\n", file=log)

    # ------------------------------------------------------------------------------------------ Airflow's part
    async def _outcome(self) -> tuple[Outcome, int]:
        """Run the one task, or both; a person clears the submitting one where its error asks for that."""
        cleared = 0
        while True:
            outcome = await self._task(self._submission(wait=self.plan.is_one_task))
            if outcome.returned and not self.plan.is_one_task:
                outcome = await self._task({**self._where(), "job": outcome.returned}, task_id="wait")
            if outcome.error != "JobStateUnknownError" or self.plan.is_one_task or cleared == 2:
                return outcome, cleared
            cleared += 1
            self.series += 3

    async def _task(self, arguments: Mapping[str, Any], task_id: str = "job") -> Outcome:
        task = {"run_id": self.run_id, "task_id": task_id, "max_tries": self.series}
        order = {"task": task, "arguments": arguments, "environment": self._environment()}
        last = Outcome()
        for _ in range(TRIES if task_id == "job" else 3):
            answer = await self._run(Phase.EXECUTE, order)
            while answer and "trigger" in answer:
                event = await self._wait({**order, "trigger": answer["trigger"]})
                if event is None:
                    return Outcome()
                answer = await self._run(Phase.REPORT, {**order, "event": event, "kwargs": answer["kwargs"]})
            if answer and "returned" in answer:
                return Outcome(returned=answer["returned"])
            if answer:
                last = Outcome(error=answer["error"], message=answer["message"])
                if answer["action"] == "fail":
                    return last
            await asyncio.sleep(0.2)
        return last

    async def _wait(self, order: Mapping[str, Any]) -> Any:
        for _ in range(TRIES):
            answer = await self._run(Phase.WAIT, order)
            if answer and "event" in answer:
                return answer["event"]
        return None

    async def _run(self, phase: Phase, order: Mapping[str, Any]) -> dict[str, Any] | None:
        """Run one process of Airflow's; in the phase that is chosen, the fault is armed meanwhile."""
        # A sensor's worker has nothing to do with the head node.
        is_armed = phase is self.plan.phase and self._left > 0 and (phase, "job" in order["arguments"]) != _NOTHING
        if is_armed:
            self._left -= 1
            self._arm()
        self._process = await self.forks.start({**order, "phase": phase}, self._log)
        if is_armed and phase is Phase.REPORT:
            self._strike()
        answer = await self._process.ended(LONGEST)
        self._note(f"{phase} carried {self.proxy.carried[True]} bytes there and {self.proxy.carried[False]} back")
        self._process = self.proxy.fuse = None
        self.proxy.carried = {True: 0, False: 0}
        if is_armed and self._is_order and self.head_node.take_back(self.token):
            self.hits += 1
        return answer

    def _where(self) -> dict[str, Any]:
        address = self.head_node.address.as_dict() | {"host": "127.0.0.1"}
        return {"cluster_name": self.head_node.address.cluster_name, "head_node": address}

    def _submission(self, *, wait: bool) -> dict[str, Any]:
        tolerate = 0.5 if self.plan.kind is Kind.TOLERANT else 0.0
        points = [{"size": point} for point in range(self.plan.kind.points)]
        return {
            **self._where(),
            "job_script": str(self.script),
            "directory": self.directory,
            "job_name": "chaos.job",
            "parameters": {"ran": f"{self.directory}/ran"},
            "sweep": {"points": points, "tolerate": tolerate} if points else None,
            "wait_for_completion": wait,
        }

    def _environment(self) -> Mapping[str, str]:
        return environment(self.head_node, self.region, self.proxy.port)

    # ------------------------------------------------------------------------------------------ the fault
    @property
    def _is_order(self) -> bool:
        return self.plan.fault is Fault.PROGRAM and self.plan.moment is not Moment.ANY

    def _arm(self) -> None:
        if self._is_order:
            self.head_node.order(self.token, self.plan.moment)
        elif self.plan.phase is not Phase.REPORT:
            self.proxy.fuse = Fuse(self.plan.up, self.plan.byte, self._strike)

    def _strike(self) -> None:
        """Do it: now, for what is at a byte, or soon."""
        if self.plan.fault in (Fault.CUT_UP, Fault.CUT_DOWN):
            self.hits += 1
            self.proxy.cut()
        elif self.plan.fault is Fault.SILENCE:
            self.hits += 1
            self.proxy.fall_silent()
        else:
            self._strikes.append(asyncio.create_task(self._strike_later()))

    async def _strike_later(self) -> None:
        process = self._process
        if self.plan.fault is not Fault.PROGRAM:  # its delay is counted from when it is seen on the head node
            await asyncio.sleep(self.plan.delay)
        self.hits += await self._kill(process)

    async def _kill(self, process: Process | None) -> bool:
        """Kill; return whether there was something to kill."""
        match self.plan.fault:
            case Fault.TASK | Fault.TRIGGERER:
                return process is not None and process.kill()
            case Fault.SESSION:
                return await self.head_node.kill_in_session("sessions", self.proxy.ports)
            case Fault.PROGRAM:
                return await self.head_node.kill_in_session(self.plan.delay, self.proxy.ports)
            case _:
                return await self.head_node.kill_slurmctld()
