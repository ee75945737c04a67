"""Evaluates CloudWatch alarms, which moto only stores, on a laptop's time scale.

Every period of an alarm counts as `PERIOD_SECONDS`, whatever it says, so an alarm over ten minutes reacts within
a minute.
"""

from __future__ import annotations

import logging
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from moto.cloudwatch.models import cloudwatch_backends
from moto.core.utils import utcnow

LOG = logging.getLogger(__name__)
PERIOD_SECONDS = 4.0

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "Average": lambda values: sum(values) / len(values),
    "Maximum": max,
    "Minimum": min,
    "Sum": sum,
    "SampleCount": len,
}
RULE_WORD = re.compile(r'\s*(?:(ALARM|OK|INSUFFICIENT_DATA)\s*\(\s*"?([^")]+?)"?\s*\)|(AND|OR|NOT|TRUE|FALSE|\(|\)))')


def metric_state(
    periods: Sequence[Sequence[float]], breaches: Callable[[float], bool], statistic: str, needed: int, missing: str
) -> str | None:
    """The state of a metric alarm by the values of its last periods; None when it stays as it is.

    `needed` breaching periods make an alarm; `missing` is TreatMissingData: what a period without values counts as.
    """
    breaching = observed = 0
    for values in periods:
        if values:
            observed += 1
            breaching += breaches(STATISTICS[statistic](values))
        elif missing == "breaching":
            observed += 1
            breaching += 1
        elif missing == "notBreaching":
            observed += 1
    if breaching >= needed:
        return "ALARM"
    if observed:
        return "OK"
    return None if missing == "ignore" else "INSUFFICIENT_DATA"


def rule_holds(rule: str, states: Mapping[str, str]) -> bool:
    """Evaluate a composite alarm's rule; `states` are those of all alarms by name and by ARN."""
    return _Rule(rule, states).holds()


class _Rule:
    """A recursive-descent reading of a rule: NOT binds tighter than AND, AND tighter than OR."""

    def __init__(self, rule: str, states: Mapping[str, str]) -> None:
        self._words: list[tuple[str, str, str]] = RULE_WORD.findall(rule)
        self._states = states

    def holds(self) -> bool:
        value = self._conjunction()
        while self._next_is("OR"):
            value = self._conjunction() or value
        return value

    def _conjunction(self) -> bool:
        value = self._term()
        while self._next_is("AND"):
            value = self._term() and value
        return value

    def _term(self) -> bool:
        if self._next_is("NOT"):
            return not self._term()
        if self._next_is("("):
            value = self.holds()
            self._next_is(")")
            return value
        state, alarm, word = self._words.pop(0)
        return self._states.get(alarm) == state if state else word == "TRUE"

    def _next_is(self, word: str) -> bool:
        """Take the next word if it is `word`."""
        if self._words and self._words[0][2] == word:
            self._words.pop(0)
            return True
        return False


def evaluate(account: str, region: str) -> None:
    """Bring the state of every alarm up to date; those over metric math and percentiles keep theirs."""
    backend = cloudwatch_backends[account][region]
    alarms: list[Any] = list(backend.alarms.values())
    now = utcnow()
    for alarm in alarms:
        if alarm.metric_name and alarm.comparison_operator in COMPARISONS and alarm.statistic in STATISTICS:
            _set(alarm, _metric_alarm_state(alarm, backend.metric_data, now))
    states = {key: alarm.state_value for alarm in alarms for key in (alarm.name, alarm.alarm_arn)}
    for alarm in alarms:
        if alarm.rule:
            _set(alarm, "ALARM" if rule_holds(alarm.rule, states) else "OK")


def _metric_alarm_state(alarm: Any, data: Sequence[Any], now: datetime) -> str | None:
    count = int(alarm.evaluation_periods)
    periods: list[list[float]] = [[] for _ in range(count)]
    for age, value in _recent(alarm, data, now, count * PERIOD_SECONDS):
        periods[int(age // PERIOD_SECONDS)].append(value)
    compare, threshold = COMPARISONS[alarm.comparison_operator], float(alarm.threshold)
    missing = alarm.treat_missing_data or "missing"
    alarm_age = (now - alarm.configuration_updated_timestamp).total_seconds()
    if missing == "breaching" and alarm_age < count * PERIOD_SECONDS:
        missing = "missing"  # a new alarm has no history that could be missing
    needed = int(alarm.datapoints_to_alarm or count)
    return metric_state(periods, lambda value: compare(value, threshold), alarm.statistic, needed, missing)


def _recent(alarm: Any, data: Sequence[Any], now: datetime, seconds: float) -> Iterable[tuple[float, float]]:
    """The (age in seconds, value) of the alarm's metric, newest first: moto keeps data as they came."""
    wanted = sorted((dimension.name, dimension.value) for dimension in alarm.dimensions)
    oldest = now - timedelta(seconds=seconds)
    for datum in reversed(data):
        if datum.timestamp < oldest:
            return
        same = datum.namespace == alarm.namespace and datum.name == alarm.metric_name
        if same and sorted((dimension.name, dimension.value) for dimension in datum.dimensions) == wanted:
            age = (now - datum.timestamp).total_seconds()
            if 0 <= age < seconds and hasattr(datum, "value"):
                yield age, float(datum.value)


def _set(alarm: Any, state: str | None) -> None:
    if state is not None and state != alarm.state_value:
        LOG.info("alarm %s: %s -> %s", alarm.name, alarm.state_value, state)
        alarm.update_state(f"The last {PERIOD_SECONDS:g} second periods say {state}.", "{}", state)
