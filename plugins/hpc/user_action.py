"""Who ended a deferred task: a person, or a triggerer that took it over from another one."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)

#: The task goes on by itself, or a person said that it is fine as it is: what it waits for is left alone.
_LEFT_ALONE = frozenset({"deferred", "success"})


async def was_ended(task: Any) -> bool:
    """Say in a trigger's `on_kill` whether a person wants what the task waits for ended as well.

    Airflow calls `on_kill` for a mark in the UI, but also when a triggerer that was late with its heartbeat finds that
    another one has its triggers: then the task is still deferred. `task` is the trigger's `task_instance`. Whoever
    cannot be asked is taken to have changed nothing: a job of hours must not end for a lost answer.
    """
    if task is None:
        return True
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    from asgiref.sync import sync_to_async

    key = task.task_id if task.map_index is None or task.map_index < 0 else f"{task.task_id}_{task.map_index}"
    try:
        states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
            dag_id=task.dag_id, run_ids=[task.run_id], task_ids=[task.task_id]
        )
    except Exception as error:
        log.warning("Airflow did not say what became of task %s, so nothing is ended: %s", key, error)
        return False
    state = states.get(task.run_id, {}).get(key)
    if state in _LEFT_ALONE:
        log.info("Task %s is %s: what it waits for is left alone.", key, state)
        return False
    return True
