"""The janitor's hourly visit, played: the shipped DAG, a task after the other."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chaos.lifecycle import look
from chaos.lifecycle.dags import dag_of
from chaos.lifecycle.life import environment
from chaos.lifecycle.played import Player
from chaos.lifecycle.record import Record
from chaos.lifecycle.rules import steps_of

if TYPE_CHECKING:
    from chaos.lifecycle.campaign import Site

_FIND, _EACH = "find", "cluster."


class JanitorsVisits:
    """Visits, one at a time, as `max_active_runs` has it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._one_at_a_time = asyncio.Lock()
        self.count = 0

    async def visit(self, clusters: list[str], *, is_expired: bool) -> None:
        """Let the janitor look after clusters, unless it has come meanwhile for others and found these too."""
        async with self._one_at_a_time:
            if await asyncio.to_thread(look.what_is_left_of, self._site.region, clusters):
                self.count += 1
                await self._visit(clusters if is_expired else [])

    async def _visit(self, expired: list[str]) -> None:
        site = self._site
        folder = site.folder / "janitor" / str(self.count)
        folder.mkdir(parents=True)
        order = {
            "simulation": None,
            "environment": environment(site.region, site.region.endpoint_url, site.alerts),
            "checks": True,
            "runs": str(site.runs),
            "expired": expired,
        }
        record = Record(folder / "run.json")
        record.make("janitor", f"scheduled__{self.count}", datetime.now(UTC).isoformat(), {})
        player = Player(record, site.forks, folder / "log", order)
        steps = steps_of(dag_of({**order, "expired": []}))
        mapped = [step for step in steps.values() if step.task_id.startswith(_EACH)]
        for name in ("install_parallelcluster", _FIND):
            await player.finish(steps[name])
        found = record.read()["xcoms"].get(_FIND, {}).get("return_value") or []
        for number in range(len(found)):
            for step in mapped:
                await player.finish(step, number)
        for step in mapped:
            record.set_state(step.task_id, "success" if found else "skipped")
        await player.finish(steps["report"])
