"""Many runs, some at a time, in one region; and the table of what they have found."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos.forks import Forks
from chaos.lifecycle.alerts import Alerts, open_alerts
from chaos.lifecycle.life import Life, Report
from chaos.lifecycle.plan import Fault, Plan
from chaos.lifecycle.visit import JanitorsVisits
from chaos.parallel import live_all
from local_aws.testing import LocalRegion

_COLUMNS = ("injections", "leaks", "losses", "silent")
_KINDS = {"leaks": "leak", "losses": "loss", "silent": "silent"}


@dataclass
class Site:
    """Where runs are lived: `runs` has a folder of each."""

    region: LocalRegion
    forks: Forks
    alerts: Alerts
    folder: Path

    def __post_init__(self) -> None:
        self.runs = self.folder / "runs"
        self.janitor = JanitorsVisits(self)

    def live_all(self, plans: Iterable[Plan], injections: int, parallel: int) -> AsyncGenerator[Report, None]:
        """Live runs, `parallel` at a time, until faults have hit `injections` times or no plan is left."""
        slots = asyncio.Semaphore(parallel)
        lives = (Life.of_plan(plan, self).live(slots) for plan in plans)
        return live_all(lives, parallel, lambda report: len(report.hits), injections)


@asynccontextmanager
async def open_site(region: LocalRegion, folder: Path) -> AsyncIterator[Site]:
    """Start what forks Airflow's processes and what listens to them; stop it afterwards."""
    async with AsyncExitStack() as stack:
        forks = await stack.enter_async_context(Forks(folder, "chaos.lifecycle.tasks"))
        alerts = await stack.enter_async_context(open_alerts())
        yield Site(region, forks, alerts, folder)


def table(reports: Iterable[Report]) -> Iterator[str]:
    """Yield the lines of the table: a row a fault, rows of some kinds of runs, and the sum.

    A violation counts in each row that its run is in.
    """
    reports = list(reports)
    rows: dict[str, list[Report]] = {
        **{fault: [report for report in reports if report.hit_by(fault)] for fault in Fault},
        "of these: cluster shared with another run": [report for report in reports if report.plan.neighbour],
        "of these: export cleared as told": [report for report in reports if report.answered],
        "of these: visited by the janitor": [report for report in reports if report.visited],
        "all": reports,
    }
    yield f"{'fault':<44}{'runs':>6}" + "".join(f"{name:>12}" for name in _COLUMNS)
    for name, some in rows.items():
        counted = sum((_counted(report) for report in some), Counter[str]())
        is_fault = name in set(Fault)
        counted["injections"] = sum(report.hit_by(name) if is_fault else len(report.hits) for report in some)
        yield f"{name:<44}{len(some):>6}" + "".join(f"{counted[column]:>12}" for column in _COLUMNS)


def _counted(report: Report) -> Counter[str]:
    kinds = Counter(violation.kind for violation in report.found)
    return Counter({column: kinds[kind] for column, kind in _KINDS.items()})  # type: ignore[index]


def failures(reports: Iterable[Report]) -> Iterator[str]:
    """Yield what was wrong, with the seed, and how to live that run again."""
    for report in reports:
        if report.found:
            yield f"{report.plan}"
            yield from (f"  {violation.kind}: {violation.text}" for violation in report.found)
            again = "WHOLE" if report.plan.injections[0].fault is Fault.AIRFLOW else "SEED"
            yield f"  log: {report.log}; again: make chaos-lifecycle {again}={report.plan.seed}"


def last_line(reports: list[Report]) -> str:
    """Return the sum in one line."""
    kinds = Counter(violation.kind for report in reports for violation in report.found)
    hits = sum(len(report.hits) for report in reports)
    return (
        f"chaos-lifecycle: {hits} injections, {kinds['leak']} leaks, {kinds['loss']} losses, {kinds['silent']} silent"
    )
