"""The benchmark itself, in small: it runs to its end and sees every end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from workshop import ROOT


@pytest.mark.region
@pytest.mark.slurm
def test_a_small_run_measures_all_there_is() -> None:
    small = ["--sizes", "6", "--jobs", "5", "--rounds", "1", "--interval", "0.5", "--kinds", "ours", "squeue", "--dry"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.jobs", *small],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[0] == "|"]
    cells = {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[2:]}
    ways = ("ours", "an squeue a job")
    assert [cells["6 waiting: jobs with an answer"][way] for way in ways] == ["6", "6"]
    assert not any(cells["6 waiting: longest delay of an end"][way].startswith(("-", ">")) for way in ways)
    assert float(cells["6 waiting: remote commands"]["an squeue a job"].replace(",", "")) > 100
    ratios = ("submitting 5 jobs, to a shell loop of sbatch", "submitting an array of 5, to one sbatch --array")
    assert all(float(cells[ratio]["ours"]) > 0 for ratio in ratios)
