"""Durations of people and walltimes of Slurm."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.durations import format_duration, format_walltime, parse_duration, parse_walltime


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1d12h", 129600), ("1h5m3s", 3903)]
)
def test_a_duration_is_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "h", "1.5h", "-1h", "1 h", "1h ", "1w"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "10", "10:00", "1:2:3", "1-10", "01:00:00:00", "-1:00:00"])
def test_what_is_no_walltime_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no walltime"):
        parse_walltime(text)


@given(st.integers(min_value=0, max_value=10**7))
def test_a_walltime_survives_writing_and_reading(seconds: int) -> None:
    walltime = timedelta(seconds=seconds)
    assert parse_walltime(format_walltime(walltime)) == walltime


def test_a_walltime_is_rounded_up() -> None:
    assert format_walltime(timedelta(seconds=59.2)) == "00:01:00"


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5s"), (65, "1m 05s"), (7500, "2h 05m"), (200_000, "2d 07h"), (59.6, "1m 00s")]
)
def test_a_duration_is_written_for_people(seconds: float, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text
