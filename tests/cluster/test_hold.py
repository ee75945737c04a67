"""When a cluster is kept before it is deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from hpc.cluster.hold import HoldClusterOperator, decide_hold
from hpc.errors import PermissionDeniedError

HOUR = timedelta(hours=1)
TASKS: dict[str, Any] = {
    "created_by": "create_cluster",
    "reached_by": "connect",
    "exported_by": "export_results",
    "keep_for": None,
    "hold_if_unverified": 24 * HOUR,
}
WELL = {
    "create_cluster": "success",
    "connect": "success",
    "submit_job": "success",
    "run_job": "success",
    "export_results": "success",
}
#: Its export had failed, somebody cleared it from the connection on, and now that fails.
CLEARED = {"create_cluster": "success", "connect": "failed", "run_job": "upstream_failed"} | {
    "export_results": "upstream_failed"
}


@pytest.mark.parametrize(
    ("states", "options", "hours"),
    [
        (WELL, {}, 0),
        (WELL, {"keep_for": 4 * HOUR}, 0),
        ({**WELL, "run_job": "failed"}, {}, 0),
        ({**WELL, "run_job": "failed"}, {"keep_for": 4 * HOUR}, 4),
        ({**WELL, "export_results": "failed"}, {}, 24),
        ({**WELL, "export_results": "failed"}, {"keep_for": 4 * HOUR}, 24),
        ({**WELL, "export_results": "failed"}, {"keep_for": 48 * HOUR}, 48),
        ({**WELL, "export_results": "skipped"}, {}, 24),
        ({**WELL, "export_results": None}, {}, 24),
        ({**WELL, "export_results": "failed"}, {"exported_by": None}, 0),
        ({**WELL, "export_pictures": "failed"}, {"also_exported_by": ["export_pictures"]}, 24),
        ({**WELL, "export_pictures": "upstream_failed"}, {"also_exported_by": ["export_pictures"]}, 0),
        ({**WELL, "site": "failed"}, {"regardless_of": ["site"], "keep_for": 4 * HOUR}, 0),
        ({**WELL, "site": "failed", "run_job": "failed"}, {"regardless_of": ["site"], "keep_for": 4 * HOUR}, 4),
        ({**WELL, "submit_job": "failed", "run_job": "upstream_failed", "export_results": "failed"}, {}, 24),
        ({"create_cluster": "failed"}, {"keep_for": 4 * HOUR}, 0),
        ({"create_cluster": "success", "wait_for_stack": "failed"}, {}, 0),
        ({"create_cluster": "success", "wait_for_stack": "failed"}, {"keep_for": 4 * HOUR}, 4),
        ({}, {"keep_for": 4 * HOUR}, 0),
        (CLEARED, {"was_reached": lambda: True}, 24),
        (CLEARED, {"was_reached": lambda: False}, 0),
        (CLEARED, {"was_reached": lambda: True, "exported_by": None}, 0),
        ({**CLEARED, "create_cluster": "failed"}, {"was_reached": lambda: True}, 24),
        ({**CLEARED, "create_cluster": "failed"}, {"was_reached": lambda: True, "keep_for": 48 * HOUR}, 24),
        ({**CLEARED, "create_cluster": "failed"}, {"was_reached": lambda: False, "keep_for": 4 * HOUR}, 0),
        ({**WELL, "create_cluster": "failed", "export_results": "failed"}, {}, 24),
    ],
)
def test_a_cluster_is_kept_for_results_or_for_people(
    states: dict[str, str | None], options: dict[str, Any], hours: int
) -> None:
    hold = decide_hold(states, **{**TASKS, **options})
    assert (hold.duration if hold else timedelta(0)) == hours * HOUR


class Instance:
    """The one method of a task instance that the operator asks."""

    dag_id, run_id = "dag", "run"

    def __init__(self, states: dict[str, str | None]) -> None:
        self.states = states

    def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, Any]:
        assert (dag_id, run_ids) == ("dag", ["run"])
        return {"run": self.states}


def test_the_operator_defers_until_the_hold_is_over(caplog: pytest.LogCaptureFixture) -> None:
    told = list[str]()
    operator = HoldClusterOperator(
        task_id="hold_cluster", cluster_name="melt-1", **TASKS, tell=lambda _context, _event, text: told.append(text)
    )
    context: Any = {"ti": Instance({**WELL, "export_results": "failed"})}
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    assert "copy them by the line in the log of connect" in told[0]
    assert deferred.value.kwargs is not None
    result = operator.execute_complete(context, event=None, **deferred.value.kwargs)
    assert result["seconds"] == 24 * 3600
    assert "export_results" in result["held"]


def test_the_operator_lets_a_good_run_pass() -> None:
    operator = HoldClusterOperator(task_id="hold_cluster", cluster_name="melt-1", **TASKS)
    context: Any = {"ti": Instance({**WELL, "hold_cluster": None})}
    assert operator.execute(context) == {"held": None, "seconds": 0}


def test_a_run_that_was_cleared_is_asked_about_its_cluster_and_not_only_about_its_tasks() -> None:
    asked = list[str]()

    def was_reached(context: Any, name: str) -> bool:
        asked.append(name)
        return True

    operator = HoldClusterOperator(task_id="hold_cluster", cluster_name="melt-1", **TASKS, was_reached=was_reached)
    well: Any = {"ti": Instance({**WELL})}
    operator.execute(well)
    assert asked == [], "who saved everything asks nothing"
    cleared: Any = {"ti": Instance({**CLEARED})}
    with pytest.raises(TaskDeferred):
        operator.execute(cleared)
    assert asked == ["melt-1"]


def test_a_lease_that_cannot_be_renewed_keeps_nobody_from_being_told_nor_the_hold_from_its_time() -> None:
    done = list[str]()

    def refuse(*_: Any) -> None:
        done.append("lease")
        raise PermissionDeniedError("AccessDenied")

    operator = HoldClusterOperator(
        task_id="hold_cluster",
        cluster_name="pool-mesh-1",
        **TASKS,
        tell=lambda *_: done.append("told"),
        keep_lease=refuse,
    )
    failed: Any = {"ti": Instance({**WELL, "export_results": "failed"})}
    with pytest.raises(TaskDeferred):
        operator.execute(failed)
    assert done == ["told", "lease", "told"]


def test_who_holds_a_shared_cluster_renews_the_lease() -> None:
    renewed: list[datetime] = []
    operator = HoldClusterOperator(
        task_id="hold_cluster", cluster_name="pool-mesh-1", **TASKS, keep_lease=lambda _, until: renewed.append(until)
    )
    failed: Any = {"ti": Instance({**WELL, "export_results": "failed"})}
    with pytest.raises(TaskDeferred):
        operator.execute(failed)
    assert [until - datetime.now(UTC) > 23.9 * HOUR for until in renewed] == [True]
    well: Any = {"ti": Instance({**WELL})}
    operator.execute(well)
    assert len(renewed) == 1, "who holds nothing back renews nothing"
