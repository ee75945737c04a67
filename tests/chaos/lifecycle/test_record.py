from __future__ import annotations

from pathlib import Path

import pytest

from chaos.lifecycle.record import Record, key_of, task_of
from chaos.lifecycle.rules import Step

STEPS = {
    name: Step(name, "all_success", frozenset(), frozenset(), is_teardown=name == "delete", retries=2)
    for name in ("done", "active", "waiting", "delete")
}


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """A run of which one task is done, and one runs."""
    record = Record(tmp_path / "run.json")
    record.make("dag", "run", "2026-01-01T00:00:00+00:00", {})
    record.set_state("done", "success")
    record.set_state("active", "running")
    return record


def test_who_marks_a_run_as_failed_leaves_its_teardowns_alone(record: Record) -> None:
    record.set_state("delete", "deferred")
    record.mark_failed(STEPS)
    assert record.states() == {"done": "success", "active": "failed", "waiting": "skipped", "delete": "deferred"}


def test_a_cleared_task_has_all_its_tries_again(record: Record) -> None:
    with record.changing() as document:
        task_of(document, "active").update(try_number=3, max_tries=2)
    record.clear(["active"], {"active": 2})
    assert record.states() == {"done": "success", "active": None}
    assert record.read()["tasks"]["active"]["max_tries"] == 5


def test_a_deleted_run_leaves_nothing(record: Record) -> None:
    record.delete()
    assert record.read()["state"] == "deleted"
    assert record.states() == {}


def test_a_mapped_task_has_its_number_in_its_name() -> None:
    assert (key_of("task", None), key_of("task", -1), key_of("task", 2)) == ("task", "task", "task_2")
