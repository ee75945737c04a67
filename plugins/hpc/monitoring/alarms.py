"""The states of CloudWatch alarms over time: text and dataclasses in, dataclasses out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

#: What DescribeAlarms takes at once.
NAMES_PER_CALL = 100


class AlarmState(StrEnum):
    """CloudWatch's three states. INSUFFICIENT_DATA is neither good nor bad: the alarm knows nothing yet, or no more."""

    OK = "OK"
    ALARM = "ALARM"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"


@dataclass(frozen=True)
class Observation:
    """An alarm at one moment. `time` is when CloudWatch says that it got into this state, in ISO 8601."""

    alarm: str
    state: AlarmState
    reason: str
    time: str

    def line(self) -> str:
        """Return the line for the task log."""
        said = self.reason or "no reason given"
        if self.state is AlarmState.INSUFFICIENT_DATA:
            said = f"neither good nor bad, CloudWatch has too little data ({said})"
        return f"{self.alarm} is {self.state} since {self.time}: {said}"


def parse_alarms(page: Mapping[str, Any]) -> list[Observation]:
    """Read an answer of DescribeAlarms, metric and composite alarms alike."""
    alarms = [*page.get("MetricAlarms", []), *page.get("CompositeAlarms", [])]
    return [
        Observation(
            alarm["AlarmName"],
            AlarmState(alarm["StateValue"]),
            " ".join(str(alarm.get("StateReason") or "").split()),
            alarm["StateUpdatedTimestamp"].isoformat(timespec="seconds"),
        )
        for alarm in alarms
    ]


@dataclass
class AlarmHistory:
    """What a watch has seen of each alarm."""

    names: Sequence[str]
    seen: dict[str, list[Observation]] = field(default_factory=dict)

    def add(self, observations: Iterable[Observation]) -> list[Observation]:
        """Note how the alarms are now; return those whose state is not what it was."""
        changes = []
        for observation in observations:
            past = self.seen.setdefault(observation.alarm, [])
            if not past or past[-1].state is not observation.state:
                past.append(observation)
                changes.append(observation)
        return changes

    def missing(self) -> list[str]:
        """Return the alarms that were never seen."""
        return [name for name in self.names if name not in self.seen]

    def now(self, state: AlarmState) -> list[Observation]:
        """Return the alarms that are in a state."""
        return [past[-1] for past in self.seen.values() if past[-1].state is state]

    def all_ok(self) -> bool:
        """Say whether every alarm was seen and is OK."""
        return len(self.now(AlarmState.OK)) == len(self.names)

    def as_dict(self) -> dict[str, list[list[str]]]:
        """Return `{alarm: [[time, state, reason], ...]}`."""
        return {name: [[seen.time, str(seen.state), seen.reason] for seen in past] for name, past in self.seen.items()}

    @classmethod
    def of_dict(cls, names: Sequence[str], seen: Mapping[str, Sequence[Sequence[str]]]) -> AlarmHistory:
        """Read what `as_dict` made."""
        return cls(
            names,
            {
                name: [Observation(name, AlarmState(state), reason, time) for time, state, reason in past]
                for name, past in seen.items()
            },
        )


def warnings(history: Mapping[str, Sequence[Sequence[str]]]) -> list[str]:
    """Return one line for every time that an alarm went off."""
    return [
        f"{alarm} went off at {time}: {reason or 'no reason given'}"
        for alarm, past in history.items()
        for time, state, reason in past
        if state == AlarmState.ALARM
    ]
