"""The summary of any sweep, by the real script on folders as an array job leaves them."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc.parameters import IntegerParameter, NumberParameter, Parameter, StringParameter
from hpc.sweep import Sweep, points, points_csv
from tests.job_scripts.conftest import INPUTS, JOB_SCRIPTS_DIR, MACHINE_PATH, bash, job_environment, png_size

pytestmark = pytest.mark.slurm

PARAMETERS: dict[str, Parameter] = {
    "angle": NumberParameter(type="number", default=0),
    "mesh": IntegerParameter(type="integer", default=8),
    "speed": NumberParameter(type="number", default=1),
    "model": StringParameter(type="string", default="a"),
}
EIGHT = {"from": 0, "to": 7, "points": 8}
TWELVE = {"from": 1, "to": 1e6, "points": 12, "spacing": "log"}


@pytest.fixture
def summarise(software: Path, tmp_path: Path) -> Callable[[dict[str, Any], dict[int, bytes]], str]:
    """Run the script on a sweep and what its points reported; answers what it printed."""

    def run(sweep: dict[str, Any], reported: dict[int, bytes]) -> str:
        found = points(Sweep.model_validate(sweep), PARAMETERS)
        (tmp_path / "points.csv").write_text(points_csv(found))
        for index in range(len(found)):
            (tmp_path / "points" / str(index)).mkdir(parents=True)
            if index in reported:
                (tmp_path / "points" / str(index) / "numbers").write_bytes(reported[index])
        for file in (INPUTS / "sweep_summary.py", INPUTS / "picture.mplstyle", JOB_SCRIPTS_DIR / "software.sh"):
            shutil.copy(file, tmp_path)
        # A warning of numpy or matplotlib is a mistake in the picture.
        environment = job_environment(f"{software}/bin:{MACHINE_PATH}", PYTHONWARNINGS="error:::__main__")
        done = bash(str(JOB_SCRIPTS_DIR / "sweep_summary.sh"), tmp_path, environment)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert png_size(tmp_path / "summary.png")[0] >= 1200
        return done.stdout

    return run


def table(folder: Path) -> list[list[str]]:
    with (folder / "summary.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_parameters_and_numbers_become_one_table(summarise: Any, tmp_path: Path) -> None:
    said = summarise({"grid": {"angle": [0, 5], "model": ["a,b", "c"]}}, {0: b"lift=0.5\ndrag=1e-3\n", 3: b"drag = 2"})
    assert table(tmp_path) == [
        ["point", "angle", "model", "lift", "drag"],
        ["0", "0.0", "a,b", "0.5", "0.001"],
        ["1", "0.0", "c", "", ""],
        ["2", "5.0", "a,b", "", ""],
        ["3", "5.0", "c", "", "2.0"],
    ]
    assert said == "2 of 4 points reported numbers: lift, drag\n"


def test_what_is_no_number_is_left_out_and_counted(summarise: Any, tmp_path: Path) -> None:
    damaged = b"lift=1\n\xff\xfe=\x00\nno number\n=3\ndrag=x\nlift=2\nangle=7\n\n"
    said = summarise({"grid": {"angle": [0, 5, 6]}}, {0: damaged, 1: b"lift=nan\n", 2: b"lift=-inf"})
    assert table(tmp_path) == [
        ["point", "angle", "lift", "angle (reported)"],
        ["0", "0.0", "2.0", "7.0"],
        ["1", "5.0", "", ""],
        ["2", "6.0", "", ""],
    ]
    assert "1 of 3 points" in said
    assert "4 lines in points/*/numbers are not name=value" in said


@pytest.mark.parametrize(
    "sweep",
    [
        {"grid": {"angle": [1]}},
        {"grid": {"angle": EIGHT}},
        {"grid": {"speed": TWELVE}},
        {"grid": {"model": ["a", "$b$", "a very long name of a model " * 3]}},
        {"grid": {"model": ["a", "b"], "angle": EIGHT}},
        {"grid": {"angle": EIGHT, "mesh": [1, 2, 3]}},
        {"grid": {"angle": {**EIGHT, "points": 9}, "speed": TWELVE}},
        {"grid": {"angle": EIGHT, "mesh": [1, 2], "speed": [1, 2]}},
        {"grid": {"angle": EIGHT, "mesh": [1, 2], "speed": [1, 2], "model": ["a", "b"]}},
        {"zip": {"angle": EIGHT, "mesh": EIGHT}},
        {"list": [{"angle": step * 7 % 20, "speed": step * 11 % 20} for step in range(20)]},
        {"list": [{"angle": 1}, {"mesh": 1}, {"model": "b"}]},
    ],
    ids=str,
)
def test_every_kind_of_sweep_has_a_picture(summarise: Any, sweep: dict[str, Any]) -> None:
    count = len(points(Sweep.model_validate(sweep), PARAMETERS))
    # Some points failed; one reported nothing of use.
    ran = [index for index in range(count) if index % 7 != 5]
    numbers = {index: b"flat=1\nzero=0\nwide=%de%d\nsigned=-%d\n" % (index + 1, index, index) for index in ran}
    numbers |= {3: b"flat=nan"} if count > 3 else {}
    assert "flat, zero, wide, signed" in summarise(sweep, numbers)


@pytest.mark.parametrize("count", [0, 1, 3, 30])
def test_any_count_of_numbers_has_a_picture(summarise: Any, count: int) -> None:
    text = "".join(f"number_{index}={index}\n" for index in range(count)).encode()
    summarise({"grid": {"angle": EIGHT}}, dict.fromkeys(range(8), text))


def test_a_folder_without_a_sweep_is_told(software: Path, tmp_path: Path) -> None:
    command = f"{software}/bin/python {INPUTS}/sweep_summary.py"
    done = bash(command, tmp_path, job_environment())
    assert done.returncode == 1
    assert "points.csv, the table of a sweep's points, cannot be read" in done.stderr
