"""Runs at the same time, until faults have hit often enough."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, TypeVar

R = TypeVar("R")


async def live_all(
    lives: Iterable[Coroutine[Any, Any, R]], at_once: int, hits: Callable[[R], int], wanted: int
) -> AsyncGenerator[R, None]:
    """Yield the report of each run as it ends, `at_once` at a time, until `wanted` faults have hit or no run is left.

    `hits` says how many faults have hit the run of a report. `lives` is only read as far as runs begin.
    """
    waiting = map(asyncio.create_task, lives)
    running = set(itertools.islice(waiting, at_once))
    found = 0
    try:
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                report = task.result()
                found += hits(report)
                yield report
                if found < wanted:
                    running |= set(itertools.islice(waiting, 1))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
