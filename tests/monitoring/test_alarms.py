from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from hpc.monitoring.alarms import AlarmHistory, AlarmState, Observation, parse_alarms, warnings

AT = datetime(2026, 11, 23, 2, 0, 5, 678, tzinfo=UTC)


def observed(alarm: str, state: AlarmState, reason: str = "r") -> Observation:
    return Observation(alarm, state, reason, "2026-11-23T02:00:05+00:00")


def page(**alarm: Any) -> dict[str, Any]:
    return {"AlarmName": "a", "StateValue": "OK", "StateReason": "fine", "StateUpdatedTimestamp": AT} | alarm


def test_metric_and_composite_alarms_are_read_alike() -> None:
    answer = {"MetricAlarms": [page()], "CompositeAlarms": [page(AlarmName="b", StateValue="ALARM", StateReason=None)]}
    assert parse_alarms(answer) == [
        Observation("a", AlarmState.OK, "fine", "2026-11-23T02:00:05+00:00"),
        Observation("b", AlarmState.ALARM, "", "2026-11-23T02:00:05+00:00"),
    ]


def test_a_state_that_cloudwatch_does_not_have_is_an_error() -> None:
    with pytest.raises(ValueError, match="FINE"):
        parse_alarms({"MetricAlarms": [page(StateValue="FINE")]})


def test_only_changes_are_kept() -> None:
    history = AlarmHistory(["a"])
    first = observed("a", AlarmState.OK)
    assert history.add([first]) == [first]
    assert history.add([observed("a", AlarmState.OK, "again")]) == []
    gone_off = observed("a", AlarmState.ALARM)
    assert history.add([gone_off]) == [gone_off]
    assert [state for _, state, _ in history.as_dict()["a"]] == ["OK", "ALARM"]


def test_too_little_data_is_neither_good_nor_bad() -> None:
    history = AlarmHistory(["a"])
    history.add([observed("a", AlarmState.INSUFFICIENT_DATA)])
    assert not history.all_ok()
    assert history.now(AlarmState.ALARM) == []
    assert "neither good nor bad" in observed("a", AlarmState.INSUFFICIENT_DATA).line()


def test_an_alarm_that_was_never_seen_is_missing_and_not_ok() -> None:
    history = AlarmHistory(["a", "b"])
    history.add([observed("a", AlarmState.OK)])
    assert history.missing() == ["b"]
    assert not history.all_ok()


def test_each_time_an_alarm_went_off_is_a_warning() -> None:
    past = {"a": [["1", "OK", ""], ["2", "ALARM", "hot"], ["3", "OK", ""], ["4", "ALARM", ""]], "b": [["1", "OK", ""]]}
    assert warnings(past) == ["a went off at 2: hot", "a went off at 4: no reason given"]
