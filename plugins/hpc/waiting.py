"""Waiting without a triggerer: for tasks with `deferrable=False`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger


def run_trigger(trigger: BaseTrigger) -> dict[str, Any]:
    """Wait in the task's own process; return what the trigger's first event carries."""

    async def first_event() -> dict[str, Any]:
        async for event in trigger.run():
            payload: dict[str, Any] = event.payload
            return payload
        raise RuntimeError(f"{trigger!r} ended without an event")

    return asyncio.run(first_event())
