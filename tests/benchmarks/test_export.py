"""The benchmark of the export, in small: every way arrives, at a store that verifies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.export import Case, cases, make_files, memory_rows, speed_rows
from benchmarks.sending import Sent
from workshop import ROOT

FOUND = {"ours": Sent(4.0, 30, 200), "rclone": Sent(5.0, 60), "s5cmd": Sent(2.0, 40), "aws s3 sync": Sent(9.0, 90)}


def test_files_are_as_many_and_as_large_as_the_case_says(tmp_path: Path) -> None:
    case = Case("some", ((150, 3), (2, 2_000_000)))
    make_files(case, tmp_path)
    sizes = [file.stat().st_size for file in tmp_path.rglob("*.dat")]
    assert (len(sizes), sum(sizes)) == (case.count, case.size) == (152, 4_000_450)
    assert [each.count for each in cases(quick=False)][:2] == [10_000, 1]


def test_ours_is_compared_with_the_fastest_that_verifies_and_the_fastest_of_all() -> None:
    rows = {row.name.partition(": ")[2]: row for row in speed_rows(Case("ten", ((10, 1_000_000),)), FOUND)}
    assert (rows["speed, to the fastest that verifies"].figure, rows["speed, to the fastest of all"].figure) == (
        1.25,
        0.5,
    )
    assert (rows["files"].figure, rows["bytes"].peer["s5cmd"]) == (2.5, 5.0)
    assert rows["speed, to the fastest of all"].met is False


def test_memory_of_many_files_is_compared_with_that_of_few() -> None:
    few = {way: Sent(1.0, sent.memory / 2, sent.worker / 2) for way, sent in FOUND.items()}
    rows = memory_rows(Case("many", ((1100, 1),)), FOUND, Case("few", ((100, 1),)), few)
    assert [row.figure for row in rows] == [15, 30, 2, 100, 200, 100]
    assert [row.met for row in rows if row.target] == [False]


@pytest.mark.region
@pytest.mark.slurm
def test_a_small_run_measures_all_there_is() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.export", "--quick", "--rounds", "1"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the S3 server verifies SHA-256" in done.stdout
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[0] == "|"]
    ways = ["ours", "aws s3 sync", "rclone", "s5cmd"]
    assert rows[0][3:7] == ways
    cells = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}
    for case in cases(quick=True):
        assert all(float(cells[f"{case.name}: to the end"][way]) > 0 for way in ways)
    # A peer may be done with so few before anybody can look at its memory.
    assert float(cells["60 files of 16 kB: most memory"]["ours"]) > 1
