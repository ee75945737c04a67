"""The short form of `make chaos-jobs`: the same code with some dozens of injections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chaos.campaign import failures, last_line, open_site, table
from chaos.plan import Fault, Plan

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

#: Each fault but the silence, which takes more than a minute, four times. slurmctld first: it needs time to recover.
PLANS = sorted(map(Plan.of_seed, range(1080, 1080 + 28)), key=lambda plan: plan.fault is not Fault.SLURMCTLD)


@pytest.mark.slurm
async def test_no_job_is_doubled_lost_or_misjudged(
    region: LocalRegion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_site(region, 2, tmp_path / "chaos") as site:
        reports = [report async for report in site.live_all(PLANS, injections=100, parallel=10)]
    with capsys.disabled():
        print("", *table(reports), last_line(reports), sep="\n")
    found = "\n".join(failures(reports))
    assert not found, found
    assert sum(report.hits for report in reports) >= 20
