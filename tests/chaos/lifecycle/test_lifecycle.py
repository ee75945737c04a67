"""The short form of `make chaos-lifecycle`: the same code with some dozen injections."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.lifecycle.campaign import failures, last_line, open_site, table
from chaos.lifecycle.plan import Plan
from local_aws.testing import LocalRegion

#: Runs with faults of every kind: killed processes, AWS cut off and credentials expired, a bootstrap and deletions that
#: fail, a resource that stays, a run marked failed, one deleted, and an Airflow that does not come back.
SEEDS = (2, 7, 13, 15, 18, 20, 21, 495)


@pytest.mark.region
@pytest.mark.slurm
@pytest.mark.pcluster
@pytest.mark.timeout(600)
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
    assert not list(failures(reports))
    assert sum(len(report.hits) for report in reports) >= len(SEEDS)
    assert any(report.visited for report in reports), "no run needed the janitor"
