from __future__ import annotations

import csv
import math
from collections.abc import Callable

import pytest

from tests.job_scripts.conftest import Run, png_size

pytestmark = pytest.mark.slurm


def test_order_is_lost_where_onsager_says(start: Callable[[str], Run]) -> None:
    run = start("ising_2d")
    done = run.job(size=48, sweeps=600, temperatures=5)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((run.folder / "magnetisation.csv").open()))
    assert [float(row["temperature"]) for row in rows] == [1.5, 2.0, 2.5, 3.0, 3.5]
    for row in rows[:2]:
        exact = (1.0 - math.sinh(2.0 / float(row["temperature"])) ** -4) ** 0.125
        assert float(row["magnetisation"]) == pytest.approx(exact, abs=0.01)
    assert all(float(row["magnetisation"]) < 0.25 for row in rows[2:])
    # The exact energy per spin at T = 2 (Onsager 1944).
    assert float(rows[1]["energy"]) == pytest.approx(-1.7456, abs=0.01)
    assert all(run.outputs().values())
    (picture,) = run.pictures()
    assert picture.name == "phase_transition.png"
    assert png_size(picture)[0] >= 1200


def test_the_result_does_not_depend_on_the_number_of_processes(start: Callable[[str], Run]) -> None:
    one, two = start("ising_2d"), start("ising_2d")
    small = {"size": 16, "sweeps": 60, "temperatures": 4, "seed": 3}
    assert one.job(**small).returncode == 0
    two_processes = f"SLURM_CPUS_PER_TASK=2 exec {two.simulation.job.path}"
    script = two.folder / "job.sh"
    script.write_text(f"#!/bin/bash\n{two_processes}\n")
    script.chmod(0o755)
    done = two.script(script, **small)
    assert "2 processes" in done.stdout, done.stderr
    assert (one.folder / "magnetisation.csv").read_text() == (two.folder / "magnetisation.csv").read_text()


def test_an_odd_lattice_is_refused(start: Callable[[str], Run]) -> None:
    done = start("ising_2d").job(size=17)
    assert done.returncode != 0
    assert "a checkerboard needs an even side" in done.stderr
