"""How operators and sensors wait: deferred in the triggerer, or in the worker for who has no triggerer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hpc.slurm.triggers import SlurmTrigger
from hpc.waiting import run_trigger

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


def wait_for(
    task: BaseOperator,
    trigger: SlurmTrigger,
    *,
    deferrable: bool,
    looks_first: bool = False,
    kwargs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Defer to the task's `execute_complete`, which gets `event` and `kwargs`; or wait here and return the event.

    Who `looks_first` is not deferred for what is there already: the way through the triggerer takes Airflow 3 seconds.
    """
    if not deferrable:
        return run_trigger(trigger)
    event = asyncio.run(trigger.first_look()) if looks_first else None
    if event is None:
        task.defer(trigger=trigger, method_name="execute_complete", kwargs=kwargs)
    return event
