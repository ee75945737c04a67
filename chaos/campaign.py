"""Hundreds of runs, some at a time, over a few clusters; and the table of what they have found."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos.forks import Forks
from chaos.head_node import HeadNode, open_head_node
from chaos.life import Life, Report
from chaos.parallel import live_all
from chaos.plan import WHOLE, Fault, Plan
from local_aws.testing import LocalRegion

#: Compute nodes of each cluster; they have two CPUs each, and a job takes one.
NODES = 5
_COLUMNS = ("injections", "doubles", "losses", "wrong verdicts")
_KINDS = {"doubles": "double", "losses": "loss", "wrong verdicts": "wrong"}


@dataclass
class Site:
    """Where runs are lived."""

    region: LocalRegion
    head_nodes: list[HeadNode]
    forks: Forks
    folder: Path

    def live_all(self, plans: Iterable[Plan], injections: int, parallel: int) -> AsyncGenerator[Report, None]:
        """Live runs, `parallel` at a time, until faults have hit `injections` times or no plan is left."""
        slots = asyncio.Semaphore(parallel)
        lives = (self._life(plan).live(slots) for plan in plans)
        # Some more than there are slots: a run that has ended is looked at until Slurm is done with it, too.
        return live_all(lives, 3 * parallel, lambda report: report.hits, injections)

    def _life(self, plan: Plan) -> Life:
        """Return a run, on the cluster that its seed chooses; slurmctld is killed on the last one, with nobody else."""
        *others, last = self.head_nodes
        head_node = last if plan.fault is Fault.SLURMCTLD or not others else others[plan.seed % len(others)]
        return Life(plan, head_node, self.region, self.forks, self.folder / str(plan.seed))


@asynccontextmanager
async def open_site(region: LocalRegion, clusters: int, folder: Path) -> AsyncIterator[Site]:
    """Start clusters and what forks Airflow's processes; stop them afterwards."""
    async with AsyncExitStack() as stack:
        forks = await stack.enter_async_context(Forks(folder))
        names = [f"chaos-{number}" for number in range(clusters)]
        head_nodes = [await stack.enter_async_context(open_head_node(region, name, NODES)) for name in names]
        yield Site(region, head_nodes, forks, folder)


def table(reports: Iterable[Report]) -> Iterator[str]:
    """Yield the lines of the table: a row a fault, and their sum."""
    rows: dict[str, Counter[str]] = {fault: Counter() for fault in Fault}
    for report in reports:
        row = rows[report.plan.fault]
        row["runs"] += 1
        row["injections"] += report.hits
        for name, kind in _KINDS.items():
            row[name] += sum(violation.kind == kind for violation in report.found)
    yield f"{'fault':<30}{'runs':>6}" + "".join(f"{name:>16}" for name in _COLUMNS)
    rows["all"] = sum(rows.values(), Counter())
    for name, row in rows.items():
        yield f"{name:<30}{row['runs']:>6}" + "".join(f"{row[column]:>16}" for column in _COLUMNS)


def failures(reports: Iterable[Report]) -> Iterator[str]:
    """Yield what was wrong, with the seed, and how to live that run again."""
    for report in reports:
        if report.found:
            yield f"{report.plan}"
            yield from (f"  {violation.kind}: {violation.text}" for violation in report.found)
            again = "WHOLE" if report.plan.fault in WHOLE else "SEED"
            yield f"  log: {report.log}; again: make chaos-jobs {again}={report.plan.seed}"


def last_line(reports: list[Report]) -> str:
    """Return the sum in one line."""
    kinds = Counter(violation.kind for report in reports for violation in report.found)
    hits = sum(report.hits for report in reports)
    return (
        f"chaos-jobs: {hits} injections, {kinds['double']} doubles, {kinds['loss']} losses,"
        f" {kinds['wrong']} wrong verdicts"
    )
