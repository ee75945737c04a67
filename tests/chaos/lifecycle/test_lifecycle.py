"""The short form of `make chaos-lifecycle`: the same code with some dozen injections."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.lifecycle.campaign import failures, last_line, open_site, table
from chaos.lifecycle.plan import Plan
from local_aws.testing import LocalRegion

#: Runs with faults of every kind: killed processes, AWS cut off, failing, and credentials expired, a bootstrap and
#: deletions that fail, a resource that stays, a head node that does not answer, S3 that denies once and takes wrong
#: bytes always, a run marked failed, one cleared, one deleted, an Airflow that does not come back. Four are shared.
SEEDS = (1, 4, 7, 10, 13, 15, 20, 21, 22, 57, 70, 119)


@pytest.mark.region
@pytest.mark.slurm
@pytest.mark.pcluster
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("parallelcluster")
async def test_nothing_leaks_is_lost_or_goes_wrong_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A region of its own: the janitor looks at all that is there.
    with LocalRegion(tmp_path / "region") as region:
        async with open_site(region, tmp_path / "chaos") as site:
            plans = map(Plan.of_seed, SEEDS)
            reports = [report async for report in site.live_all(plans, injections=100, parallel=4)]
    with capsys.disabled():
        print("", *table(reports), last_line(reports), sep="\n")
    found = "\n".join(failures(reports))
    assert not found, found
    assert sum(len(report.hits) for report in reports) >= len(SEEDS)
    assert any(report.visited for report in reports), "no run needed the janitor"
    assert any(report.answered for report in reports), "nobody was told that a cluster is kept for its results"
    assert any(report.plan.neighbour for report in reports), "no run shared its cluster"
