"""Whose name is it, and what is to be done about it."""

from __future__ import annotations

import pytest

from hpc import errors
from hpc.cluster.decision import Action, alternative_of, decide_creation, next_alternative, passes_by_itself
from hpc.cluster.stacks import Stack
from hpc.errors import ConfigurationError
from hpc.names import TAG_AIRFLOW, TAG_ALTERNATIVE, TAG_EXPIRES, TAG_OUTPUTS, TAG_POOL, TAG_RUN_ID, TAG_SIMULATION

OURS = {TAG_SIMULATION: "melt", TAG_RUN_ID: "run-1", TAG_EXPIRES: "2026-11-23T10:00:00Z", "project": "demo"}


def stack(status: str, tags: dict[str, str] | None = None) -> Stack:
    return Stack("demo", "arn:demo", status, "", OURS if tags is None else tags)


@pytest.mark.parametrize(
    ("status", "action"),
    [
        ("CREATE_IN_PROGRESS", Action.ADOPT),
        ("CREATE_COMPLETE", Action.ADOPT),
        ("UPDATE_COMPLETE", Action.ADOPT),
        ("CREATE_FAILED", Action.REPLACE),
        ("ROLLBACK_IN_PROGRESS", Action.REPLACE),
        ("ROLLBACK_COMPLETE", Action.REPLACE),
        ("DELETE_FAILED", Action.REPLACE),
        ("DELETE_IN_PROGRESS", Action.WAIT_THEN_CREATE),
        ("DELETE_COMPLETE", Action.CREATE),
    ],
)
def test_the_status_decides_about_a_stack_of_ours(status: str, action: Action) -> None:
    assert decide_creation(stack(status), OURS) is action


def test_a_free_name_is_created() -> None:
    assert decide_creation(None, OURS) is Action.CREATE


def test_what_was_rendered_anew_makes_no_other_owner() -> None:
    rendered = {**OURS, TAG_EXPIRES: "2027-01-01T00:00:00Z", TAG_OUTPUTS: "=2A.csv", "project": "other"}
    assert decide_creation(stack("CREATE_COMPLETE"), rendered) is Action.ADOPT


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "CREATE_FAILED", "DELETE_IN_PROGRESS"])
@pytest.mark.parametrize("tags", [{}, {TAG_RUN_ID: "run-2"}])
def test_somebody_elses_stack_is_left_alone(status: str, tags: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"belongs to another cluster .*run-id is .* not 'run-1'"):
        decide_creation(stack(status, tags), OURS)


def test_a_run_of_the_same_name_in_another_airflow_is_another_run() -> None:
    made = {**OURS, TAG_AIRFLOW: "https://staging.example.org"}
    wanted = {**OURS, TAG_AIRFLOW: "https://airflow.example.org"}
    with pytest.raises(
        ConfigurationError, match=r"airflow is 'https://staging.*, not 'https://airflow.*\n.*leave that"
    ):
        decide_creation(stack("CREATE_COMPLETE", made), wanted)
    assert decide_creation(stack("CREATE_COMPLETE", made), {**OURS, TAG_AIRFLOW: ""}) is Action.ADOPT
    assert decide_creation(stack("CREATE_COMPLETE", {**OURS, TAG_AIRFLOW: ""}), wanted) is Action.ADOPT
    assert decide_creation(stack("CREATE_COMPLETE", OURS), wanted) is Action.ADOPT


def test_a_cluster_made_of_an_alternative_is_ours_as_well() -> None:
    other = stack("CREATE_IN_PROGRESS", {**OURS, TAG_ALTERNATIVE: "2"})
    assert decide_creation(other, OURS) is Action.ADOPT
    assert (alternative_of(other), alternative_of(stack("CREATE_IN_PROGRESS"))) == (2, 0)


@pytest.mark.parametrize(
    ("error", "number", "count", "other"),
    [
        (errors.CapacityError("x"), 0, 2, 1),
        (errors.CapacityError("x"), 1, 2, 2),
        (errors.CapacityError("x"), 2, 2, None),
        (errors.CapacityError("x"), 0, 0, None),
        (errors.SubnetFullError("x"), 0, 1, 1),
        (errors.NetworkError("x"), 0, 1, None),
        (errors.QuotaError("x"), 0, 1, None),
        (errors.PermissionDeniedError("x"), 0, 1, None),
        (errors.HeadNodeBootstrapError("x"), 0, 1, None),
        (errors.ClusterCreateFailedError("x"), 0, 1, None),
    ],
)
def test_only_what_another_place_helps_against_is_tried_elsewhere(
    error: errors.HpcError, number: int, count: int, other: int | None
) -> None:
    assert next_alternative(error, number, count) == other


def test_only_what_passes_by_itself_is_worth_the_same_again() -> None:
    assert all(passes_by_itself(error("x")) for error in (errors.CapacityError, errors.ThrottlingError))
    assert not any(passes_by_itself(error("x")) for error in (errors.HeadNodeBootstrapError, errors.QuotaError))


def test_the_cluster_of_a_pool_is_every_runs_of_the_pool() -> None:
    shared = stack("CREATE_COMPLETE", {**OURS, TAG_POOL: "mesh"})
    assert decide_creation(shared, {TAG_RUN_ID: "run-2", TAG_POOL: "mesh"}) is Action.ADOPT
    for others in ({TAG_RUN_ID: "run-1", TAG_POOL: "grid"}, {TAG_RUN_ID: "run-2"}):
        with pytest.raises(ConfigurationError, match="belongs to another cluster"):
            decide_creation(shared, others)
    with pytest.raises(ConfigurationError, match=r"airflow-parallelcluster:pool is None, not 'mesh'"):
        decide_creation(stack("CREATE_COMPLETE"), {**OURS, TAG_POOL: "mesh"})
