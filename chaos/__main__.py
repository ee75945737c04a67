"""`make chaos-jobs`: ends with an error if a job was doubled or lost, or a verdict was wrong."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

from workshop import LOCAL, scratch

INJECTIONS = 320
#: Runs of a real Airflow, half a minute each.
WHOLE = 8


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--injections", type=int, default=INJECTIONS, help=f"how many; {INJECTIONS} if left out")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, nargs="*", help="live the runs of these seeds only")
    parser.add_argument("--parallel", type=int, default=14, help="runs at a time")
    parser.add_argument("--clusters", type=int, default=3)
    parser.add_argument(
        "--whole", type=int, nargs="*", help=f"seeds of the runs of a real Airflow; {WHOLE} if left out"
    )
    return parser.parse_args()


async def campaign(asked: argparse.Namespace, folder: Path) -> int:
    """Live the runs and print what they found; return how many went wrong."""
    from chaos.campaign import failures, last_line, open_site, table
    from chaos.plan import Plan
    from chaos.whole_airflow import open_whole_airflow
    from local_aws.testing import LocalRegion

    is_campaign = asked.seed is None
    seeds: Iterable[int] = itertools.count(asked.first) if is_campaign else asked.seed
    whole_seeds = asked.whole if asked.whole is not None else range(WHOLE if is_campaign else 0)
    injections = asked.injections if is_campaign else sys.maxsize
    reports, began = [], time.monotonic()
    async with AsyncExitStack() as stack:
        region = stack.enter_context(LocalRegion(folder / "region"))
        site = await stack.enter_async_context(open_site(region, asked.clusters, folder / "runs"))
        plans = map(Plan.of_seed, seeds)
        lived = await stack.enter_async_context(aclosing(site.live_all(plans, injections, asked.parallel)))
        async for report in lived:
            reports.append(report)
            if report.found or len(reports) % 20 == 0 or asked.seed:
                hits = sum(each.hits for each in reports)
                print(f"{time.monotonic() - began:5.0f} s, {hits} injections in {len(reports)} runs")
                print(*failures([report]), sep="\n", end="\n" if report.found else "", flush=True)
        if whole_seeds:
            whole = await stack.enter_async_context(open_whole_airflow(region, folder / "whole"))
        for plan in map(Plan.of_whole_airflow, whole_seeds):
            reports.append(await whole.live(plan))
            print(f"{time.monotonic() - began:5.0f} s, {plan}", *failures(reports[-1:]), sep="\n", flush=True)
    print("", *table(reports), "", *failures(reports), sep="\n")
    print(last_line(reports))
    return sum(bool(report.found) for report in reports)


def main() -> int:
    """Make a folder for what is started, and do it there."""
    folder = scratch.begin(LOCAL / "chaos")
    os.environ["AIRFLOW_HOME"] = str(folder / "airflow")
    os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "True"
    return min(asyncio.run(campaign(arguments(), folder)), 100)


if __name__ == "__main__":
    sys.exit(main())
