"""Figures beside their targets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.report import Row, put_between, read_json, shown, table, write_json

ROWS = [
    Row("remote commands", "a minute", 5.98765, "<= 6", {"one": 6000.4, "two": None}),
    Row("delay", "s", "> 30", "<= 10", {"one": 1.0}),
    Row("memory", "kB a job", 12.0),
]


def test_a_target_is_met_by_a_number_on_its_right_side_only() -> None:
    assert [row.met for row in ROWS] == [True, False, None]
    assert Row("ratio", "", 0.79, ">= 0.8").met is False
    assert Row("ratio", "", None, ">= 0.8").met is False


def test_the_file_has_rows_with_these_keys(tmp_path: Path) -> None:
    write_json(ROWS, tmp_path / "results" / "jobs.json")
    rows = json.loads((tmp_path / "results" / "jobs.json").read_text())
    assert [list(row) for row in rows] == [["name", "unit", "target", "figure", "peer", "met"]] * 3
    assert rows[0]["figure"] == 5.99
    assert rows[0]["peer"] == {"one": 6000.0, "two": None}


def test_the_rows_of_a_file_can_be_read_again(tmp_path: Path) -> None:
    file = tmp_path / "jobs.json"
    assert read_json(file) == []
    write_json(ROWS, file)
    assert [row.as_dict() for row in read_json(file)] == [row.as_dict() for row in ROWS]


@pytest.mark.parametrize(
    ("figure", "text"), [(1234.6, "1,230"), (0.01234, "0.0123"), (10, "10"), (None, "-"), ("> 30", "> 30"), (2.0, "2")]
)
def test_a_figure_has_three_digits(figure: float | str | None, text: str) -> None:
    assert shown(figure) == text


def test_the_table_has_a_column_a_peer_and_says_what_is_missed() -> None:
    lines = table(ROWS).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == ["", "unit", "target", "ours", "one", "two", "met"]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["delay", "s", "<= 10", "> 30", "1", "", "**no**"]
    assert len({len(line) for line in lines}) == 1


def test_a_page_keeps_what_stands_round_the_table() -> None:
    page = "# Title\n\n<!-- jobs -->\nold\n<!-- end of jobs -->\n\nText\n"
    assert put_between(page, "jobs", "new") == page.replace("old", "new")
    with pytest.raises(ValueError, match="no <!-- other"):
        put_between(page, "other", "new")
