"""The benchmark of many simulations, in small.

What a whole run costs is measured where one runs: tests/e2e/test_rest.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import lifecycle
from benchmarks.report import Row


def test_a_quick_run_reads_a_few_files_and_prints_what_they_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert lifecycle.main(["--quick"]) == 0
    said = capsys.readouterr().out.splitlines()
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in said if line.startswith("|")]
    rows = {row[0]: row for row in table}
    for size in ("1 simulation file", "4 simulation files"):
        assert min(float(cell) for cell in rows[f"{size}: read by the DAG processor"][3:5]) > 0
        assert float(rows[f"{size}: read by a task"][3]) > 0
    assert rows["4 simulation files: a file beyond the first"][2] == "<= 10"


def test_a_part_that_is_measured_again_replaces_its_own_rows_alone() -> None:
    before = [
        Row("1 run at once: a whole run", "s", 30.0),
        Row("50 runs at once: a whole run", "s", 900.0),
        Row("1 simulation file: read by a task", "s", 0.4),
        Row("1,000 simulation files: read by a task", "s", 0.3),
    ]
    rows = lifecycle.with_those_before(
        [Row("10 runs at once: a whole run", "s", 200.0), replace(before[1], figure=1.0)], before
    )
    assert [row.name.split(":")[0] for row in rows] == [
        *("1 run at once", "10 runs at once", "50 runs at once", "1 simulation file", "1,000 simulation files"),
    ]
    assert rows[2].figure == 1.0
