"""How long tasks wait, and waiting without a triggerer: for tasks with `deferrable=False`."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any

from hpc.errors import ConfigurationError
from hpc.names import parse_expiry

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger


def end_of_wait(delay: float, attempts: int, until: str | None = None, started: float | None = None) -> float:
    """Return the end of a wait that may take `attempts` pauses of `delay` seconds, in seconds since 1970.

    `until` is a moment as `hpc.names.expiry` writes it, after which it ends in any case. Raises ConfigurationError if
    it is none.
    """
    return min((time.time() if started is None else started) + delay * attempts, _seconds(until))


def is_past(until: str | None) -> bool:
    """Say whether the moment `until` of `end_of_wait` has come; never, if there is none."""
    return time.time() >= _seconds(until)


def _seconds(until: str | None) -> float:
    moment = parse_expiry(until) if until else None
    if until and moment is None:
        raise ConfigurationError(f"until = {until!r}: is no moment", remedy="write it as 2026-12-31T23:59:59Z, in UTC")
    return math.inf if moment is None else moment.timestamp()


def run_trigger(trigger: BaseTrigger) -> dict[str, Any]:
    """Wait in the task's own process; return what the trigger's first event carries."""

    async def first_event() -> dict[str, Any]:
        async for event in trigger.run():
            payload: dict[str, Any] = event.payload
            return payload
        raise RuntimeError(f"{trigger!r} ended without an event")

    return asyncio.run(first_event())
