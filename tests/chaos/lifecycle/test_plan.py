from __future__ import annotations

from chaos.lifecycle.plan import (
    BY_PEOPLE,
    OF_REGION,
    ON_THE_WAY,
    ON_WRITES,
    OUTAGES,
    SHARED_FATE,
    STEPS,
    Fault,
    Moment,
    Phase,
    Plan,
)

PLANS = [Plan.of_seed(seed) for seed in range(3000)]
INJECTIONS = [injection for plan in PLANS for injection in plan.injections]


def test_a_seed_is_one_run() -> None:
    assert [Plan.of_seed(seed) for seed in range(3000)] == PLANS


def test_a_run_has_one_to_three_faults_and_each_comes_first_in_its_turn() -> None:
    assert {len(plan.injections) for plan in PLANS} == {1, 2, 3}
    first = {plan.injections[0].fault for plan in PLANS[: len(Fault) - 1]}
    assert first == set(Fault) - {Fault.AIRFLOW}


def test_a_fault_comes_once_in_a_run() -> None:
    assert all(len({each.fault for each in plan.injections}) == len(plan.injections) for plan in PLANS)


def test_processes_are_killed_in_every_step_and_at_every_boundary() -> None:
    for fault in (Fault.TASK, Fault.BOUNDARY, *BY_PEOPLE):
        assert {each.step for each in INJECTIONS if each.fault is fault} == set(STEPS), fault
    assert {each.moment for each in INJECTIONS if each.fault is Fault.BOUNDARY} == set(Moment) - {Moment.NEVER}
    assert {each.phase for each in INJECTIONS if each.fault is Fault.TRIGGERER} == {Phase.WAIT}


def test_what_strikes_at_a_call_strikes_that_often_and_nothing_else_does() -> None:
    at_calls = ON_THE_WAY | ON_WRITES
    assert all((each.calls > 0) == (each.fault in at_calls) for each in INJECTIONS)
    assert all(each.step or each.fault in OF_REGION for each in INJECTIONS)


def test_who_clears_clears_from_a_step_that_has_begun() -> None:
    cleared = [each for each in INJECTIONS if each.fault is Fault.CLEARED]
    assert cleared
    assert all(STEPS.index(each.clears) <= STEPS.index(each.step) for each in cleared)


def test_a_head_node_falls_silent_for_a_while_or_for_good_and_nothing_else_does() -> None:
    assert {each.outage for each in INJECTIONS if each.fault is Fault.SSH} == set(OUTAGES)
    assert all(each.outage == 0.0 for each in INJECTIONS if each.fault is not Fault.SSH)


def test_a_neighbour_shares_a_cluster_but_not_what_hits_the_whole_of_it() -> None:
    shared = [plan for plan in PLANS if plan.neighbour]
    assert len(shared) > len(PLANS) / 10
    assert not any(each.fault in SHARED_FATE for plan in shared for each in plan.injections)
    assert all(plan.neighbour in STEPS and plan.exit_code == 0 for plan in shared)
