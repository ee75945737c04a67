"""The loss of a whole, real Airflow, as `make chaos-jobs` makes it: twice in one run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chaos.plan import Plan
from chaos.whole_airflow import open_whole_airflow

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion


@pytest.mark.airflow
@pytest.mark.slurm
@pytest.mark.timeout(400)
async def test_a_loss_of_power_doubles_and_loses_no_job(region: LocalRegion, tmp_path: Path) -> None:
    plan = replace(Plan.of_whole_airflow(1), delay=1.5, times=2)
    async with open_whole_airflow(region, tmp_path / "whole") as whole:
        report = await whole.live(plan)
    assert report.found == []
    assert report.hits == 2
