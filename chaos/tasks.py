"""What Airflow does with a task instance, in a process each: execute it, run its trigger, resume it with the event."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

# Imported here, before a process forks, as Airflow's executor does: otherwise each run would take seconds.
import asyncssh  # noqa: F401
from airflow.providers.common.compat.connection import get_async_connection  # noqa: F401
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import TaskDeferred

from hpc.retries import SLURM_WAIT
from hpc.slurm import record, triggers
from hpc.slurm.operators import SlurmJobOperator
from hpc.slurm.sensors import SlurmJobSensor

Order = Mapping[str, Any]
#: Seconds after which a job that nobody knows counts as lost: three minutes are too long for hundreds of runs.
LOST_AFTER = 8.0


@dataclass
class TaskInstance:
    """As much of Airflow's as a job's identity is made of. Clearing a task raises `max_tries`."""

    run_id: str
    task_id: str
    max_tries: int
    dag_id: str = "chaos"
    map_index: int = -1


def work(order: Order) -> dict[str, Any]:
    """Do one order; return `returned`, `trigger` with `kwargs`, `event`, or `error` with what Airflow does about it."""
    os.environ.update(order["environment"])
    for module in (record, triggers):
        vars(module)["LOST_AFTER"] = LOST_AFTER
    verbs: dict[str, Callable[[Order], dict[str, Any]]] = {"execute": _execute, "wait": _wait, "report": _report}
    try:
        return verbs[order["phase"]](order)
    except TaskDeferred as deferred:
        return {"trigger": deferred.trigger.serialize(), "kwargs": deferred.kwargs or {}}
    except Exception as error:
        traceback.print_exc()
        action = SLURM_WAIT.by_error.evaluate(error, 1, 9).action.value
        return {"error": type(error).__name__, "message": str(error), "action": action}


def _execute(order: Order) -> dict[str, Any]:
    return {"returned": _operator(order).execute(_context(order))}


def _report(order: Order) -> dict[str, Any]:
    operator: Any = _operator(order)
    return {"returned": operator.execute_complete(_context(order), event=order["event"], **order["kwargs"])}


def _wait(order: Order) -> dict[str, Any]:
    path, arguments = order["trigger"]
    module, _, name = path.rpartition(".")
    trigger = getattr(import_module(module), name)(**arguments)

    async def first() -> dict[str, Any]:
        async for event in trigger.run():
            return {"event": event.payload}
        raise RuntimeError("the trigger ended without an event")

    return asyncio.run(first())


def _context(order: Order) -> Any:
    return {"ti": TaskInstance(**order["task"])}


def _operator(order: Order) -> BaseOperator:
    kind = SlurmJobSensor if "job" in order["arguments"] else SlurmJobOperator
    return kind(task_id=order["task"]["task_id"], waiter_delay=1, waiter_max_attempts=600, **order["arguments"])
