"""Runs at the same time: as many as asked, and no more once enough faults have hit."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from chaos.parallel import live_all


async def test_runs_end_when_enough_faults_have_hit_and_never_more_are_alive_than_asked() -> None:
    begun, alive, most = list[int](), 0, 0

    async def live(number: int) -> int:
        nonlocal alive, most
        begun.append(number)
        alive, most = alive + 1, max(most, alive + 1)
        await asyncio.sleep(0)
        alive -= 1
        return 2

    reports = [report async for report in live_all(map(live, range(100)), 3, int, wanted=10)]
    assert (most, len(reports)) == (3, len(begun))
    assert 10 <= sum(reports) < 20


async def test_what_still_lives_when_nobody_looks_any_more_is_ended() -> None:
    ended = asyncio.Event()

    async def live(number: int) -> int:
        if number == 0:
            return number
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return number

    async with aclosing(live_all(map(live, range(2)), 2, int, wanted=9)) as reports:
        assert await anext(reports) == 0
    assert ended.is_set()
