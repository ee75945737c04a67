"""The played scheduler decides as Airflow's does."""

from __future__ import annotations

import pytest

from chaos.lifecycle.dags import dag_of
from chaos.lifecycle.plan import STEPS, Plan
from chaos.lifecycle.rules import next_step, run_state, steps_of, verdict_before
from chaos.lifecycle.simulation import simulation_of

DAG = dag_of({"simulation": simulation_of(Plan(0, 0, False, ()))})
RULES = steps_of(DAG)
JANITOR = steps_of(dag_of({"simulation": None, "expired": []}))


def play(ends: dict[str, str]) -> dict[str, str | None]:
    """Return the states of a run's tasks; those of `ends` end so if they run, the others succeed."""
    states: dict[str, str | None] = {}
    while step := next_step(RULES, states):
        states[step.task_id] = verdict_before(step, states) or ends.get(step.task_id, "success")
    return states


def test_a_good_run() -> None:
    states = play({})
    assert list(states) == list(RULES)
    assert set(states.values()) == {"success"}
    assert run_state(RULES, states) == "success"


def test_every_step_of_the_plans_is_a_task() -> None:
    assert set(RULES) == set(STEPS)


def test_a_failed_job_is_saved_deleted_and_fails_the_run() -> None:
    states = play({"run_job": "failed", "report": "failed"})
    ran = {name for name in states if states[name] == "success"}
    assert ran >= {"connect", "export_results", "hold_cluster", "delete_cluster"}
    assert states["wait_for_empty_queue"] == "upstream_failed"
    assert run_state(RULES, states) == "failed"


def test_a_cluster_that_was_not_reached_is_deleted_and_nothing_saved() -> None:
    states = play({"wait_for_stack": "failed", "report": "failed"})
    assert states["export_results"] == "upstream_failed"
    assert states["delete_cluster"] == "success"


def test_where_there_is_no_configuration_there_is_nothing_to_delete() -> None:
    states = play({"render_cluster_config": "failed", "report": "failed"})
    assert states["delete_cluster"] == "upstream_failed"
    assert run_state(RULES, states) == "failed"


def test_a_rule_that_nobody_plays_is_refused() -> None:
    step = next(iter(RULES.values()))
    with pytest.raises(ValueError, match="one_success"):
        verdict_before(step.__class__("x", "one_success", step.upstream, step.setups, False, 0), {})


def test_the_janitor_deletes_whatever_became_of_the_export() -> None:
    delete = JANITOR["cluster.delete_cluster"]
    assert verdict_before(delete, {"cluster.export_results": "failed"}) is None
