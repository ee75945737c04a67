"""How operators and sensors wait: deferred in the triggerer, or in the worker for who has no triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.slurm.triggers import SlurmTrigger
from hpc.waiting import run_trigger

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


def wait_for(
    task: BaseOperator, trigger: SlurmTrigger, *, deferrable: bool, kwargs: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Defer to the task's `execute_complete`, which gets `event` and `kwargs`; or wait here and return the event."""
    if deferrable:
        task.defer(trigger=trigger, method_name="execute_complete", kwargs=kwargs)
    return run_trigger(trigger)
