"""The evaluation of alarms, by hand-made values."""

from __future__ import annotations

import pytest

from local_aws.alarms import metric_state, rule_holds


def above_90(value: float) -> bool:
    return value > 90


@pytest.mark.parametrize(
    ("periods", "needed", "missing", "state"),
    [
        ([[95.0]], 1, "missing", "ALARM"),
        ([[50.0]], 1, "missing", "OK"),
        ([[]], 1, "missing", "INSUFFICIENT_DATA"),
        ([[]], 1, "breaching", "ALARM"),
        ([[]], 1, "notBreaching", "OK"),
        ([[]], 1, "ignore", None),
        ([[95.0], [50.0], [95.0]], 2, "missing", "ALARM"),
        ([[95.0], [50.0], [50.0]], 2, "missing", "OK"),
        ([[95.0], [], [95.0]], 3, "missing", "OK"),
        ([[95.0], [], [95.0]], 3, "breaching", "ALARM"),
    ],
)
def test_a_metric_alarm(periods: list[list[float]], needed: int, missing: str, state: str | None) -> None:
    assert metric_state(periods, above_90, "Maximum", needed, missing) == state


@pytest.mark.parametrize(
    ("statistic", "state"),
    [("Maximum", "ALARM"), ("Minimum", "OK"), ("Average", "OK"), ("Sum", "ALARM"), ("SampleCount", "OK")],
)
def test_the_statistic_decides_what_a_period_is_worth(statistic: str, state: str) -> None:
    assert metric_state([[95.0, 5.0]], above_90, statistic, 1, "missing") == state


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ('ALARM("a")', True),
        ("ALARM(a)", True),
        ('ALARM("b")', False),
        ('ALARM("unknown")', False),
        ('(ALARM("b") OR ALARM("a"))', True),
        ('ALARM("a") AND ALARM("b")', False),
        ('ALARM("a") AND NOT ALARM("b")', True),
        ('ALARM("b") AND ALARM("b") OR ALARM("a")', True),
        ('ALARM("a") OR ALARM("a") AND ALARM("b")', True),
        ('OK("b") AND INSUFFICIENT_DATA("c")', True),
        ('ALARM("arn:aws:cloudwatch:us-east-1:1:alarm:x-HeadNode-Cpu")', True),
        ("TRUE", True),
        ("NOT (TRUE OR FALSE)", False),
    ],
)
def test_a_composite_alarms_rule(rule: str, holds: bool) -> None:
    states = {"a": "ALARM", "b": "OK", "c": "INSUFFICIENT_DATA"}
    states["arn:aws:cloudwatch:us-east-1:1:alarm:x-HeadNode-Cpu"] = "ALARM"
    assert rule_holds(rule, states) is holds
