"""`make chaos-lifecycle`: ends with an error if anything leaked or was lost, or went wrong in silence."""

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

INJECTIONS = 150
#: Runs of a real Airflow, all at the same time.
WHOLE = 6


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m chaos.lifecycle", description=__doc__)
    parser.add_argument("--injections", type=int, default=INJECTIONS, help=f"how many; {INJECTIONS} if left out")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, nargs="*", help="live the runs of these seeds only")
    parser.add_argument("--parallel", type=int, default=4, help="runs at a time")
    parser.add_argument(
        "--whole", type=int, nargs="*", help=f"seeds of the runs of a real Airflow; {WHOLE} if left out"
    )
    return parser.parse_args()


async def campaign(asked: argparse.Namespace, folder: Path) -> int:
    """Live the runs and print what they found; return how many went wrong."""
    from chaos.lifecycle.campaign import failures, last_line, open_site, table
    from chaos.lifecycle.plan import Plan
    from chaos.lifecycle.whole_airflow import live_whole
    from local_aws.testing import LocalRegion

    is_campaign = asked.seed is None
    seeds: Iterable[int] = itertools.count(asked.first) if is_campaign else asked.seed
    whole_seeds = asked.whole if asked.whole is not None else range(WHOLE if is_campaign else 0)
    injections = asked.injections if is_campaign else sys.maxsize
    reports, began = [], time.monotonic()
    async with AsyncExitStack() as stack:
        region = stack.enter_context(LocalRegion(folder / "region"))
        site = await stack.enter_async_context(open_site(region, folder))
        lived = await stack.enter_async_context(
            aclosing(site.live_all(map(Plan.of_seed, seeds), injections, asked.parallel))
        )
        whole = await stack.enter_async_context(
            aclosing(live_whole(site, map(Plan.of_whole_airflow, whole_seeds) if whole_seeds else ()))
        )
        for some in (lived, whole):
            async for report in some:
                reports.append(report)
                hits = sum(len(each.hits) for each in reports)
                how = f"{report.run} in {report.seconds:.0f} s{', janitor' if report.visited else ''}"
                print(f"{time.monotonic() - began:5.0f} s, {hits} injections; {how}: {report.plan}")
                print(*failures([report]), sep="\n", end="\n" if report.found else "", flush=True)
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
