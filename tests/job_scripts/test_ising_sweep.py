"""The shipped sweep, its points run one after the other as an array job lays them out."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc.config import SIMULATIONS_DIR, load_simulation
from hpc.sweep import Point, Sweep, points, points_csv
from tests.job_scripts.conftest import MACHINE_PATH, Run, bash, job_environment, png_size

pytestmark = pytest.mark.slurm


def lay_out(run: Run, found: list[Point]) -> None:
    """Write points.csv, and a folder for each point with the inputs linked into it."""
    (run.folder / "points.csv").write_text(points_csv(found))
    for index in range(len(found)):
        folder = run.folder / "points" / str(index)
        folder.mkdir(parents=True)
        for file in run.simulation.inputs:
            (folder / file.name).symlink_to(run.folder / file.name)


def compute(run: Run, index: int, point: Point, path: str, **parameters: Any) -> subprocess.CompletedProcess[str]:
    """Run the job script of one point."""
    values = {name: parameter.default for name, parameter in run.simulation.job.parameters.items()}
    variables = {f"PARAM_{name.upper()}": str(value) for name, value in (values | parameters | point).items()}
    folder = run.folder / "points" / str(index)
    environment = job_environment(path, NUMBERS=str(folder / "numbers"), **variables)
    return bash(str(run.simulation.job.path), folder, environment)


def test_the_shipped_sweep_has_a_hundred_points() -> None:
    simulation = load_simulation(SIMULATIONS_DIR / "ising_sweep.yaml")
    assert simulation.sweep is not None
    found = points(simulation.sweep, simulation.job.parameters)
    assert len(found) == 100
    # One of the temperatures is next to the critical one.
    assert min(abs(point["temperature"] - 2.269185) for point in found) < 0.02
    assert (simulation.sweep.max_running, simulation.sweep.tolerate) == (50, 0.05)


def test_points_report_numbers_that_become_pictures(start: Callable[[str], Run]) -> None:
    run = start("ising_sweep")
    sweep = Sweep.model_validate({"grid": {"size": [8, 16], "temperature": [1.9, 2.3, 3.0]}})
    found = points(sweep, run.simulation.job.parameters)
    lay_out(run, found)
    # The last point never ran.
    for index, point in enumerate(found[:-1]):
        done = compute(run, index, point, run.path, sweeps=600)
        assert done.returncode == 0, done.stderr
    assert all(run.outputs().values())
    names = {file.name for file in run.pictures()}
    assert names == {"finite_size.png", "summary.png", "summary.csv"}
    assert all(png_size(run.folder / name)[0] >= 1200 for name in names if name.endswith("png"))
    rows = list(csv.DictReader((run.folder / "summary.csv").open()))
    assert [(row["size"], row["temperature"]) for row in rows][:2] == [("8", "1.9"), ("8", "2.3")]
    # Below the critical temperature almost all spins are up (Onsager), above it few more up than down.
    assert float(rows[3]["magnetisation"]) == pytest.approx(0.9435, abs=0.02)
    assert float(rows[2]["magnetisation"]) < 0.4
    assert rows[5]["magnetisation"] == ""


def test_a_point_that_fails_reports_nothing(start: Callable[[str], Run]) -> None:
    run = start("ising_sweep")
    lay_out(run, [{"size": 9}])
    done = compute(run, 0, {"size": 9}, run.path)
    assert done.returncode != 0
    assert "a checkerboard needs an even side" in done.stderr
    assert (run.folder / "points" / "0" / "numbers").read_text() == ""


def test_points_share_the_software_of_the_sweep(start: Callable[[str], Run], software: Path) -> None:
    run = start("ising_sweep")
    lay_out(run, [{"size": 8}])
    (run.folder / ".software").mkdir()
    (run.folder / ".software" / "python").symlink_to(software)
    done = compute(run, 0, {"size": 8}, MACHINE_PATH, sweeps=30)
    assert done.returncode == 0, done.stderr
    assert "installing" not in done.stdout
    assert not (run.folder / "points" / "0" / ".software").exists()
