"""Durations as people write them (`90s`, `15m`, `2h`, `1d12h`) and walltimes as Slurm writes them (`1-02:30:00`)."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_DURATION = re.compile(r"(?:\d+[dhms])+")
_PART = re.compile(r"(\d+)([dhms])")
_WALLTIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d{1,2}):(?P<minutes>\d{2}):(?P<seconds>\d{2})")


def parse_duration(text: str) -> timedelta:
    """Read `1d12h`, `2h`, `15m`, `90s`. Raises ValueError for anything else."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration; write for example 90s, 15m, 2h or 1d12h")
    total = timedelta()
    for count, unit in _PART.findall(text):
        total += timedelta(**{_UNITS[unit]: int(count)})
    return total


def parse_walltime(text: str) -> timedelta:
    """Read Slurm's `[days-]hours:minutes:seconds` (sbatch(1), `--time`). Raises ValueError for anything else."""
    match = _WALLTIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no walltime; write [days-]hours:minutes:seconds, for example 01:30:00")
    return timedelta(**{unit: int(value) for unit, value in match.groupdict().items() if value is not None})


def format_walltime(walltime: timedelta) -> str:
    """Write a walltime as Slurm reads it, rounded up to whole seconds."""
    seconds = -(-walltime // timedelta(seconds=1))
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, seconds = divmod(rest, 60)
    return f"{days}-{hours:02}:{minutes:02}:{seconds:02}" if days else f"{hours:02}:{minutes:02}:{seconds:02}"


def format_duration(duration: timedelta) -> str:
    """Write a duration for people: the two largest units, `2h 05m`."""
    seconds = round(duration.total_seconds())
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, seconds = divmod(rest, 60)
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {seconds:02}s" if minutes else f"{seconds}s"
