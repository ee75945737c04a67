"""Whether a person ended a deferred task."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hpc.user_action import was_ended

ASK = "airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states"


def task(map_index: int = -1) -> Any:
    return SimpleNamespace(dag_id="flow", run_id="run", task_id="run_job", map_index=map_index)


@pytest.mark.parametrize(
    ("states", "ended"),
    [
        ({"run": {"run_job": "deferred"}}, False),
        ({"run": {"run_job": "success"}}, False),
        ({"run": {"run_job": "failed"}}, True),
        ({"run": {"run_job": "skipped"}}, True),
        ({"run": {"run_job": None}}, True),
        ({}, True),
    ],
)
async def test_the_tasks_state_tells(monkeypatch: pytest.MonkeyPatch, states: Any, ended: bool) -> None:
    monkeypatch.setattr(ASK, lambda **_: states)
    assert await was_ended(task()) is ended


async def test_a_mapped_task_has_a_state_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ASK, lambda **_: {"run": {"run_job_0": "failed", "run_job_1": "deferred"}})
    assert await was_ended(task(0))
    assert not await was_ended(task(1))


async def test_who_cannot_be_asked_has_changed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("no answer")

    monkeypatch.setattr(ASK, fail)
    assert not await was_ended(task())
