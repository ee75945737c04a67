"""The empty DAG has the shape of the one that it stands beside, and nothing else of it."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from benchmarks.empty_dag import source_of_empty_dags, waits_in_triggerer
from hpc.config import SIMULATIONS_DIR, load_simulation
from hpc.lifecycle import build_dag


@pytest.mark.parametrize("defers", [False, True])
def test_it_has_the_same_tasks_arrows_setups_and_teardowns(tmp_path: Path, defers: bool) -> None:
    model = build_dag(load_simulation(SIMULATIONS_DIR / "ising_2d.yaml"))
    source = source_of_empty_dags(model, ["empty"], defers=defers)
    file = tmp_path / "empty.py"
    file.write_text(source)

    def shape(task: Any) -> tuple[Any, ...]:
        return (
            *(task.task_id, frozenset(task.downstream_task_ids), str(task.trigger_rule)),
            *(task.is_setup, task.is_teardown, task.on_failure_fail_dagrun),
        )

    made = {task.task_id: task for task in runpy.run_path(str(file))["tasks"].values()}
    assert {shape(task) for task in made.values()} == {shape(task) for task in model.tasks}
    deferred = {task_id for task_id, task in made.items() if task.defers}
    assert deferred == ({task.task_id for task in model.tasks if waits_in_triggerer(task)} if defers else set())
    assert "hpc" not in source
