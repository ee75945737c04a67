"""The benchmark of whole runs, in small: it runs to its end and leaves nothing out."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from workshop import ROOT


@pytest.mark.region
@pytest.mark.slurm
@pytest.mark.pcluster
@pytest.mark.airflow
@pytest.mark.usefixtures("parallelcluster")
def test_a_quick_run_measures_all_there_is() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.lifecycle", "--quick"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    rows = {cells[0].strip(): cells[3].strip() for cells in (line[1:-1].split("|") for line in lines)}
    whole, others, pcluster, left = (
        float(rows[f"1 run at once: {what}"])
        for what in ("a whole run", "AWS, Slurm and jobs", "pcluster beside them", "what is left")
    )
    assert min(others, pcluster, left) > 1
    assert whole == pytest.approx(others + pcluster + left, rel=0.02)
    assert float(rows["1 run at once: what is left, to an empty DAG"]) > 0
    assert "5 simulation files: a file beyond the first" in rows  # of so few it may be anything, on a busy machine
    assert float(rows["5 simulation files: read by the DAG processor"]) > 0
    assert float(rows["5 simulation files: read by a task"]) > 0
