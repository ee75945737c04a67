from __future__ import annotations

from chaos.plan import WHOLE, Fault, Kind, Moment, Phase, Plan

PLANS = [Plan.of_seed(seed) for seed in range(400)]


def test_a_seed_is_one_run() -> None:
    assert [Plan.of_seed(seed) for seed in range(400)] == PLANS


def test_every_fault_strikes_in_every_phase_that_it_can() -> None:
    seen = {(plan.fault, plan.phase) for plan in PLANS}
    both = {(fault, phase) for fault in set(Fault) - set(WHOLE) for phase in (Phase.EXECUTE, Phase.WAIT)}
    never = {(Fault.TASK, Phase.WAIT), (Fault.TRIGGERER, Phase.EXECUTE)}
    assert seen == both - never | {(Fault.TASK, Phase.REPORT)}


def test_every_job_and_moment_comes() -> None:
    assert {plan.kind for plan in PLANS} == set(Kind)
    assert {plan.moment for plan in PLANS if plan.fault is Fault.PROGRAM} == set(Moment)
    assert {plan.is_one_task for plan in PLANS} == {True, False}


def test_a_cut_is_at_its_byte_in_its_direction() -> None:
    assert all(plan.up and not plan.delay for plan in PLANS if plan.fault is Fault.CUT_UP)
    assert not any(plan.up or plan.delay for plan in PLANS if plan.fault is Fault.CUT_DOWN)
