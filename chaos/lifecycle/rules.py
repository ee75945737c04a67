"""The scheduler's part: which task is next, whether it runs, and how a run has ended. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import DAG

DONE = frozenset({"success", "failed", "skipped", "upstream_failed"})
_FAILED = frozenset({"failed", "upstream_failed"})


@dataclass(frozen=True)
class Step:
    """A task as the scheduler sees it. `setups` are those of the tasks right before it that are setups."""

    task_id: str
    rule: str
    upstream: frozenset[str]
    setups: frozenset[str]
    is_teardown: bool
    retries: int


def steps_of(dag: DAG) -> dict[str, Step]:
    """Return the steps of a DAG in an order in which each comes after all that it waits for."""
    return {
        task.task_id: Step(
            task.task_id,
            task.trigger_rule.value,
            frozenset(task.upstream_task_ids),
            frozenset(before.task_id for before in task.upstream_list if before.is_setup),
            task.is_teardown,
            task.retries or 0,
        )
        for task in dag.topological_sort()  # type: ignore[no-untyped-call]
    }


def next_step(steps: Mapping[str, Step], states: Mapping[str, str | None]) -> Step | None:
    """Return the first step that waits for nothing; None when all are done."""
    for step in steps.values():
        if states.get(step.task_id) not in DONE and all(states.get(name) in DONE for name in step.upstream):
            return step
    return None


def verdict_before(step: Step, states: Mapping[str, str | None]) -> str | None:
    """Return the state that a step gets without running, by its trigger rule; None when it runs."""
    before = [states.get(name) for name in step.upstream]
    if step.rule == "all_done":
        return None
    if step.rule == "all_done_setup_success":
        setups = [states.get(name) for name in step.setups]
        if setups and all(state == "skipped" for state in setups):
            return "skipped"
        return "upstream_failed" if setups and "success" not in setups else None
    if step.rule != "all_success":
        raise ValueError(f"{step.task_id} has the trigger rule {step.rule}, which nobody plays here")
    if any(state in _FAILED for state in before):
        return "upstream_failed"
    return "skipped" if "skipped" in before else None


def run_state(steps: Mapping[str, Step], states: Mapping[str, str | None]) -> str:
    """Return how a run has ended: by its last tasks."""
    waited_for = frozenset().union(*(step.upstream for step in steps.values()))
    last = [states.get(name) for name in steps if name not in waited_for]
    return "failed" if any(state in _FAILED for state in last) else "success"
