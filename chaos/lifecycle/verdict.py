"""What a run has left, and whether that is right: nothing that costs money, no result lost, nobody left in the dark.

Pure: evidence in, violations out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from chaos.lifecycle.look import Thing

FAILED = frozenset({"failed", "upstream_failed"})
#: How a run is that Airflow has ended. Others were deleted by a person, went down with Airflow, or never end.
ENDED = frozenset({"success", "failed"})
#: An alert that tells of a cluster that is not gone names all that is its own, even where it could not be listed.
_NOT_GONE = re.compile(r"deletion of its cluster FAILED|NOT DELETED|Deletion +NOT proven")
#: The alerts that a loss needs: the cluster was kept for people to save what it has, and they were told so; it is kept
#: still; or nobody could find out.
_KEPT = re.compile(r"KEPT RUNNING.*did not verify its results", re.DOTALL)
_STILL_KEPT = re.compile(r"NOT DELETED.*results NOT saved")
_NOT_KNOWN = re.compile(r"whether its results are safe is NOT KNOWN, and its cluster is deleted")


@dataclass(frozen=True)
class Evidence:
    """What was found after a run, and after the janitor's visit where there was one.

    `names` are what its alerts call it: the run, and its clusters. `run` is `success`, `failed`, `deleted` (by a
    person), `gone` (with its Airflow) or `stuck`; `states` are those of its tasks; `abandoned` says that its cluster
    was there when Airflow had done with it. `left` is there, `finished` says that the job wrote its result to the end,
    `saved` that it is in S3, and `alerts` are the messages to people. `held_in_vain` says that its cluster was kept for
    unsaved results, and nobody came.
    """

    names: Sequence[str]
    run: str
    states: Mapping[str, str | None]
    abandoned: bool
    left: Sequence[Thing]
    finished: bool
    discarded: bool
    saved: bool
    alerts: Sequence[str]
    held_in_vain: bool = False


@dataclass(frozen=True)
class Violation:
    """Something that must not be."""

    kind: Literal["leak", "loss", "silent"]
    text: str


def violations(evidence: Evidence) -> list[Violation]:
    """Return all that is wrong with a run."""
    return [
        *(Violation("leak", text) for text in _leaks(evidence)),
        *(Violation("loss", text) for text in _losses(evidence)),
        *(Violation("silent", text) for text in _silences(evidence)),
    ]


def _leaks(evidence: Evidence) -> Iterator[str]:
    told = any(map(_NOT_GONE.search, _told(evidence)))
    for thing in evidence.left:
        if not told and not any(thing.id in alert for alert in evidence.alerts):
            yield f"{thing.kind} {thing.id} is there, and no alert names it"


def _losses(evidence: Evidence) -> Iterator[str]:
    if not evidence.finished or evidence.discarded or evidence.saved:
        return
    was_kept = evidence.held_in_vain and any(map(_KEPT.search, _told(evidence)))
    if not was_kept and not any(_STILL_KEPT.search(line) or _NOT_KNOWN.search(line) for line in _told(evidence)):
        yield "the job wrote its result, S3 does not have it, and its cluster was not kept for people who were told"


def _silences(evidence: Evidence) -> Iterator[str]:
    failed = sorted(name for name, state in evidence.states.items() if state in FAILED)
    if evidence.run == "stuck":
        yield f"the run never ends: {dict(evidence.states)}"
    elif evidence.run in ENDED and failed:
        if evidence.run == "success":
            yield f"the run counts as a success, but {', '.join(failed)} failed"
        if not evidence.alerts:
            yield f"{', '.join(failed)} failed, and nobody was told"
    elif evidence.run not in ENDED and evidence.abandoned and not evidence.alerts:
        yield "an abandoned cluster was found, and nobody was told"


def _told(evidence: Evidence) -> list[str]:
    """Return what the alerts say about a run: its own say all about it, the janitor's have a line for each cluster."""
    told: list[str] = []
    for alert in evidence.alerts:
        lines = alert.splitlines()
        parts = lines if "The janitor" in lines[0] else [alert]
        told += [part for part in parts if any(name in part for name in evidence.names)]
    return told
