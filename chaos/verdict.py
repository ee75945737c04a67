"""What a run has left, and whether that is right: no job twice, none lost, and the verdict that its script deserves.

Pure: evidence in, violations out.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from chaos.plan import Kind

#: The point of a sweep that fails.
BAD_POINT = 1
_FAILED = {"FAILED", "NODE_FAIL", "CANCELLED"}
_EXPECTED_ERROR = {
    Kind.FAILING: "exit code 3",
    Kind.CRASHING: "signal 11",
    Kind.SWEEP: f"1 of 3 points(.|\n)*{BAD_POINT} .exit code 3",
}


class SlurmJob(NamedTuple):
    """A job, or an element of an array, as Slurm tells it; `job_id` is the array's."""

    name: str
    job_id: str
    element: str
    state: str


@dataclass(frozen=True)
class Evidence:
    """What was found after a run.

    `queue` is what squeue tells of all states, `completed` what Slurm's own log has, `submitted` the calls of sbatch
    (`name exit-code job-id`), `ran` the lines that the script wrote when it began and before it ended
    (`begin|end name point job-id`), `records` the files of each attempt's record.
    """

    queue: Sequence[SlurmJob]
    alive: Sequence[str]
    completed: Sequence[SlurmJob]
    submitted: Sequence[str]
    ran: Sequence[str]
    outputs: Mapping[str, Sequence[str]]
    records: Mapping[int, Mapping[str, str]]


@dataclass(frozen=True)
class Outcome:
    """How the task instance ended in Airflow: `returned`, or the name and message of its `error`; neither if never."""

    returned: Mapping[str, Any] | None = None
    error: str = ""
    message: str = ""


@dataclass(frozen=True)
class Violation:
    """Something that must not be."""

    kind: Literal["double", "loss", "wrong"]
    text: str


def violations(kind: Kind, evidence: Evidence, outcome: Outcome) -> list[Violation]:
    """Return all that is wrong with a run."""
    return [
        *(Violation("double", text) for text in _doubles(kind, evidence)),
        *(Violation("loss", text) for text in _losses(kind, evidence, outcome)),
        *(Violation("wrong", text) for text in _wrong(kind, evidence, outcome)),
    ]


def _doubles(kind: Kind, evidence: Evidence) -> Iterator[str]:
    ids = defaultdict(set)
    for job in (*evidence.queue, *([] if kind.points else evidence.completed)):
        ids[job.name].add(job.job_id)
    for line in evidence.submitted:
        name, code, job_id = [*line.split(" "), ""][:3]
        if code == "0":
            ids[name].add(job_id)
    yield from (f"{name} is jobs {', '.join(sorted(found))}" for name, found in ids.items() if len(found) > 1)
    yield from _again(evidence)
    for number in sorted(evidence.records)[1:]:
        yield from _too_early(kind, number, evidence)


def _again(evidence: Evidence) -> Iterator[str]:
    """Tell if a script ran to its end after its end had been recorded.

    A job that Slurm ended and put back may begin twice. It may even end twice, where it was killed between its script's
    end and the record of that; the record of earlier starts tells.
    """
    ends = Counter((name, point) for word, name, point, _ in map(str.split, evidence.ran) if word == "end")
    for (name, point), count in ends.items():
        record = evidence.records.get(int(name.rpartition(".")[2]), {})
        before = record.get("before" if point == "-" else f"elements/{point}/before", "").split("job_id=")[1:]
        unrecorded = sum("\nend=" not in start or "\nterminated=" in start for start in before)
        if count > 1 + unrecorded:
            yield f"{name} (point {point}) ran to its end {count} times"


def _too_early(kind: Kind, number: int, evidence: Evidence) -> Iterator[str]:
    """Tell if an attempt was not called for: the one before was good, or still ran."""
    before, after = evidence.records.get(number - 1, {}), evidence.records[number]
    codes = [int(_value(text, "exit_code", "0")) for name, text in before.items() if name.endswith("end")]
    if codes and not any(codes) and len(codes) == max(1, kind.points):
        yield f"attempt {number} repeats attempt {number - 1}, which had succeeded"
    ends = [int(_value(text, "end", "0")) for name, text in before.items() if name.endswith("end")]
    starts = [int(_value(text, "start", "0")) for name, text in after.items() if name.endswith("start")]
    if ends and starts and min(starts) < max(ends):
        yield f"attempt {number} began before attempt {number - 1} had ended"


def _losses(kind: Kind, evidence: Evidence, outcome: Outcome) -> Iterator[str]:
    if outcome.returned is None and not outcome.error:
        yield "the task never came to an end"
    yield from (f"left in the queue: {text}" for text in evidence.alive)
    points = {str(point) for point in range(kind.points)} or {"-"}
    ran = Counter(tuple(line.split()[1:3]) for line in evidence.ran if line.startswith("end "))
    tolerated = set(_ended_by_slurm(evidence)) if kind is Kind.TOLERANT else set()
    lost = sorted(points - {point for _, point in ran} - tolerated)
    yield from (f"point {point} of the job never ran to its end" for point in lost)
    for name, point in sorted(ran):
        log = f"points/{point}/output.log" if kind.points else f"chaos.job.{name.rpartition('.')[2]}.log"
        said = Counter(evidence.outputs.get(log, ()))
        if not said[f"begin {name}"] or said[f"end {name}"] != ran[name, point]:
            yield f"output of {name} is not complete: {log} has {dict(said)}"


def _wrong(kind: Kind, evidence: Evidence, outcome: Outcome) -> Iterator[str]:
    if outcome.returned is None and not outcome.error:
        return
    if pattern := _EXPECTED_ERROR.get(kind):
        if outcome.error != "JobFailedError" or not re.search(pattern, outcome.message):
            yield f"expected JobFailedError with {pattern!r}, got {outcome}"
        return
    result = outcome.returned or {}
    result = result.get("result", result)
    expected: dict[str, Any] = {"state": "COMPLETED", "exit_code": 0}
    if kind is Kind.TOLERANT:
        # Slurm may have ended the bad point before it could fail by itself: then its word for that is right.
        how = _ended_by_slurm(evidence).get(str(BAD_POINT), "exit code 3")
        expected = {"points": 3, "failed_count": 1, "failed": {str(BAD_POINT): how}}
    if {name: result.get(name) for name in expected} != expected:
        yield f"expected {expected}, got {outcome}"


def _ended_by_slurm(evidence: Evidence) -> dict[str, str]:
    """Return the points of the last attempt that have no recorded end and have failed for Slurm, with that state."""
    number = max(evidence.records, default=0)
    record = evidence.records.get(number, {})
    return {
        job.element: job.state
        for job in evidence.queue
        if job.name.endswith(f".{number}") and job.state in _FAILED and f"elements/{job.element}/end" not in record
    }


def _value(text: str, name: str, default: str) -> str:
    return next((line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}=")), default)
