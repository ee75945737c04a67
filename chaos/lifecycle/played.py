"""Airflow's scheduler and triggerer, played by their rules: which process works for which task, and what follows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.forks import Forks, Process
from chaos.lifecycle.plan import Moment, Phase
from chaos.lifecycle.record import Record, key_of, task_of
from chaos.lifecycle.rules import DONE, Step, verdict_before

#: Seconds for one process; the longest wait of a trigger is shorter.
LONGEST = 180.0
#: Retries of a task: the policies' own would last ten hours.
RETRIES = 3
#: Seconds between SIGTERM and SIGKILL, of which Airflow's supervisor lets five pass.
SECONDS_TO_END = 1.0


@dataclass
class Player:
    """Plays Airflow for the tasks of one run. `order` is what each process is told, beside its task."""

    record: Record
    forks: Forks
    log: Path
    order: Mapping[str, Any]

    async def advance(self, step: Step, map_index: int = -1) -> None:
        """Bring a task on by one process, or to the state that its trigger rule gives it."""
        key = key_of(step.task_id, map_index)
        states = self.record.states()
        state = states.get(key)
        if state is None and (verdict := verdict_before(step, unmapped(states, map_index))):
            self.record.set_state(key, verdict)
        elif state == "deferred":
            await self._process(step, Phase.WAIT, key, map_index)
        else:
            phase = self._begin(step, key)
            await self._process(step, phase, key, map_index)
            self._settle(key)

    async def finish(self, step: Step, map_index: int = -1) -> None:
        """Bring a task to its end."""
        while self.record.states().get(key_of(step.task_id, map_index)) not in DONE:
            await self.advance(step, map_index)

    def _begin(self, step: Step, key: str) -> Phase:
        with self.record.changing() as document:
            task = task_of(document, key)
            if task["max_tries"] is None:
                task["max_tries"] = min(step.retries, RETRIES)
            is_resumed = task["state"] == "scheduled"
            if not is_resumed:
                task.update(try_number=task["try_number"] + 1, next_method=None, next_kwargs=None)
            task["state"] = "running"
        return Phase.RESUME if is_resumed else Phase.EXECUTE

    def _settle(self, key: str) -> None:
        """A process that ended without a report has failed, and is tried again if it may be."""
        with self.record.changing() as document:
            task = document["tasks"].get(key)
            if task and task["state"] == "running":
                may_retry = task["try_number"] <= task["max_tries"]
                task.update(state="up_for_retry" if may_retry else "failed", next_method=None, next_kwargs=None)

    async def _process(self, step: Step, phase: Phase, key: str, map_index: int) -> None:
        task = {"task_id": step.task_id, "map_index": map_index, "key": key, "phase": phase}
        order = {**self.order, **task, "record": str(self.record.path), "moment": self.moment(step, phase)}
        process = await self.forks.start(order, self.log)
        around = asyncio.create_task(self.around(process, step, phase))
        answer = await process.ended(LONGEST)
        around.cancel()
        (outcome,) = await asyncio.gather(around, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome
        self.ended(step, phase, answer)

    # ------------------------------------------------------------------------------------------ where faults come in
    def moment(self, step: Step, phase: Phase) -> Moment:
        """Return where a process is to kill itself."""
        return Moment.NEVER

    async def around(self, process: Process, step: Step, phase: Phase) -> None:
        """Do something while a process runs."""

    def ended(self, step: Step, phase: Phase, answer: Mapping[str, Any] | None) -> None:
        """Note that a process has ended; `answer` is None if it was killed."""


def unmapped(states: Mapping[str, str | None], map_index: int) -> dict[str, str | None]:
    """Return states by task id as one of several mapped tasks sees them: its own neighbours', and those before."""
    end = f"_{map_index}"
    own = {key.removesuffix(end): state for key, state in states.items() if map_index >= 0 and key.endswith(end)}
    return {**states, **own}


async def end_process(process: Process) -> None:
    """End a task's process as its supervisor does when somebody took the task from it."""
    process.terminate()
    await asyncio.sleep(SECONDS_TO_END)
    process.kill()
