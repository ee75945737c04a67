"""The benchmark of many simulations, in small.

What a whole run costs is measured where one runs: tests/e2e/test_rest.py.
"""

from __future__ import annotations

import pytest

from benchmarks import lifecycle


def test_a_quick_run_reads_a_few_files_and_prints_what_they_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert lifecycle.main(["--quick"]) == 0
    said = capsys.readouterr().out.splitlines()
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in said if line.startswith("|")]
    rows = {row[0]: row for row in table}
    for size in ("1 simulation file", "4 simulation files"):
        assert min(float(cell) for cell in rows[f"{size}: read by the DAG processor"][3:5]) > 0
        assert float(rows[f"{size}: read by a task"][3]) > 0
    assert rows["4 simulation files: a file beyond the first"][2] == "<= 10"
