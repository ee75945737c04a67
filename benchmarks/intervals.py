"""Stretches of time on one clock, seconds since 1970, and how much of a run they cover. Nothing counts twice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Interval:
    """From `begin` to `end`, in seconds since 1970."""

    begin: float
    end: float


def covered(intervals: Iterable[Interval], begin: float, end: float) -> float:
    """Return the seconds between `begin` and `end` that at least one of the intervals covers."""
    total, reached = 0.0, begin
    for each in sorted(intervals, key=lambda interval: interval.begin):
        total += max(0.0, min(each.end, end) - max(each.begin, reached))
        reached = max(reached, each.end)
    return total


def of_stack(events: Iterable[Mapping[str, Any]]) -> list[Interval]:
    """Return the creation and the deletion of a stack, of the events that CloudFormation tells of it, in any order."""
    own = sorted(
        (event["Timestamp"].timestamp(), event["ResourceStatus"])
        for event in events
        if event["PhysicalResourceId"] == event["StackId"]
    )
    found, begin = [], None
    for moment, status in own:
        if status.endswith("_IN_PROGRESS"):
            begin = moment if begin is None else begin
        elif begin is not None:
            found.append(Interval(begin, moment))
            begin = None
    return found


_SUBMITTED = re.compile(r"^\[(\S+)\] _slurm_rpc_submit_batch_job: JobId=(\d+)")
_DONE = re.compile(r"^\[(\S+)\] _job_complete: JobId=(\d+) done")


def of_jobs(slurmctld_log: Iterable[str]) -> list[Interval]:
    """Return from when Slurm took each job until it was done with it; its log tells local time in milliseconds."""
    submitted, found = {}, []
    for line in slurmctld_log:
        if match := _SUBMITTED.match(line):
            submitted[match[2]] = _moment(match[1])
        elif (match := _DONE.match(line)) and match[2] in submitted:
            found.append(Interval(submitted.pop(match[2]), _moment(match[1])))
    return found


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
