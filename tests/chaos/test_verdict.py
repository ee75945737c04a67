"""Whoever judges the product is judged first: each thing that must not be is seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chaos.plan import Kind
from chaos.verdict import Evidence, Outcome, SlurmJob, violations

NAME = "chaos.job.0123456789ab.1"
SECOND = "chaos.job.0123456789ab.2"
GOOD = Evidence(
    queue=[SlurmJob(NAME, "7", "N/A", "COMPLETED")],
    alive=[],
    completed=[SlurmJob(NAME, "7", "", "COMPLETED")],
    submitted=[f"{NAME} 0 7"],
    ran=[f"begin {NAME} - 7", f"end {NAME} - 7"],
    outputs={"chaos.job.1.log": [f"begin {NAME}", f"end {NAME}"]},
    records={1: {"start": "start=100\n", "end": "end=101\nexit_code=0\n"}},
)
RETURNED = Outcome(returned={"result": {"state": "COMPLETED", "exit_code": 0}})
AGAIN = {**GOOD.records, 2: {"start": "start=102\n", "end": "end=103\nexit_code=0\n"}}


def kinds(evidence: Evidence, outcome: Outcome = RETURNED, kind: Kind = Kind.GOOD) -> set[str]:
    return {violation.kind for violation in violations(kind, evidence, outcome)}


def test_a_run_without_a_flaw() -> None:
    assert kinds(GOOD) == set()


@pytest.mark.parametrize(
    "more",
    [
        {"queue": [*GOOD.queue, SlurmJob(NAME, "8", "N/A", "FAILED")]},
        {"completed": [*GOOD.completed, SlurmJob(NAME, "8", "", "CANCELLED")]},
        {"submitted": [*GOOD.submitted, f"{NAME} 0 8"]},
        {"ran": GOOD.ran * 2, "outputs": {"chaos.job.1.log": GOOD.outputs["chaos.job.1.log"] * 2}},
        {"records": AGAIN},
    ],
)
def test_doubles(more: dict[str, Any]) -> None:
    assert kinds(replace(GOOD, **more)) == {"double"}


def test_an_attempt_that_begins_before_the_one_before_has_ended() -> None:
    records = {1: {"start": "start=100\n", "end": "end=110\nexit_code=3\n"}, 2: {"start": "start=105\n"}}
    evidence = replace(GOOD, records=records)
    failed = Outcome(error="JobFailedError", message="exit code 3")
    assert kinds(evidence, failed, Kind.FAILING) == {"double"}


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("job_id=7\nstart=90\n", set()),  # killed before it could record its end
        ("job_id=7\nstart=90\nterminated=95\nend=95\nexit_code=0\n", set()),
        ("job_id=7\nstart=90\nend=95\nexit_code=0\n", {"double"}),
    ],
)
def test_a_job_that_slurm_put_back_runs_again_only_where_no_end_was_recorded(before: str, expected: set[str]) -> None:
    twice = {"ran": GOOD.ran * 2, "outputs": {"chaos.job.1.log": GOOD.outputs["chaos.job.1.log"] * 2}}
    assert kinds(replace(GOOD, records={1: {**GOOD.records[1], "before": before}}, **twice)) == expected


def test_a_job_that_slurm_put_back_has_run_once() -> None:
    output = {"chaos.job.1.log": [f"begin {NAME}", f"begin {NAME}", f"end {NAME}"]}
    assert kinds(replace(GOOD, ran=[f"begin {NAME} - 7", *GOOD.ran], outputs=output)) == set()


@pytest.mark.parametrize(
    "less",
    [
        {"ran": []},
        {"ran": GOOD.ran[:1]},
        {"outputs": {"chaos.job.1.log": [f"begin {NAME}"]}},
        {"alive": [f"{NAME} is RUNNING"]},
    ],
)
def test_losses(less: dict[str, Any]) -> None:
    assert kinds(replace(GOOD, **less)) == {"loss"}


def test_a_point_of_a_sweep_that_never_ran_is_a_loss() -> None:
    evidence = replace(GOOD, ran=[f"end {NAME} {point} 7" for point in (0, 1)], outputs={})
    texts = [violation.text for violation in violations(Kind.SWEEP, evidence, Outcome())]
    assert "point 2 of the job never ran to its end" in texts


def test_a_task_without_an_end_is_a_loss() -> None:
    assert kinds(GOOD, Outcome()) == {"loss"}


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        (Kind.GOOD, Outcome(error="ConnectionLostError", message="gone")),
        (Kind.GOOD, Outcome(returned={"result": {"state": "UNKNOWN", "exit_code": None}})),
        (Kind.FAILING, RETURNED),
        (Kind.FAILING, Outcome(error="JobFailedError", message="exit code 4")),
        (Kind.CRASHING, Outcome(error="JobStateUnknownError", message="signal 11")),
        (Kind.TOLERANT, Outcome(returned={"points": 3, "failed_count": 0, "failed": {}})),
    ],
)
def test_wrong_verdicts(kind: Kind, outcome: Outcome) -> None:
    assert "wrong" in kinds(GOOD, outcome, kind)


@pytest.mark.parametrize(
    ("failed", "state", "told", "expected"),
    [
        ("1", "NODE_FAIL", "NODE_FAIL", set()),
        ("1", "NODE_FAIL", "exit code 3", {"wrong"}),
        ("1", "COMPLETED", "NODE_FAIL", {"loss", "wrong"}),
        ("0", "NODE_FAIL", "NODE_FAIL", {"wrong"}),
    ],
)
def test_a_point_that_slurm_ended_is_a_failed_one(failed: str, state: str, told: str, expected: set[str]) -> None:
    queue = [SlurmJob(NAME, "7", point, state if point == failed else "COMPLETED") for point in "012"]
    ran = [f"{word} {NAME} {point} 7" for point in "012" if point != failed for word in ("begin", "end")]
    outputs = {f"points/{point}/output.log": [f"begin {NAME}", f"end {NAME}"] for point in "012"}
    outcome = Outcome(returned={"result": {"points": 3, "failed_count": 1, "failed": {failed: told}}})
    assert kinds(replace(GOOD, queue=queue, ran=ran, outputs=outputs), outcome, Kind.TOLERANT) == expected
