"""The janitor's DAG, and what it reports. What it does on a real Airflow is in tests/e2e."""

from __future__ import annotations

import runpy
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowSkipException

from hpc import PROJECT_ROOT, site
from hpc.config import SIMULATIONS_DIR, load_simulation
from hpc.janitor import build_janitors, listed_connections, require_saved, skip_unless_saving, summarize

MELT = load_simulation(SIMULATIONS_DIR / "lj_melt.yaml")


def test_there_is_a_janitor_for_each_aws_connection() -> None:
    other = MELT.connections.model_copy(update={"aws": "aws_lab", "ssh": "lab_head_node"})
    found = build_janitors([MELT, MELT.model_copy(update={"name": "other", "connections": other})])
    assert list(found) == ["janitor", "janitor_aws_lab"]
    assert found["janitor_aws_lab"].get_task("find").aws_conn_id == "aws_lab"
    assert found["janitor_aws_lab"].get_task("cluster.delete_cluster").aws_conn_id == "aws_lab"


def test_without_simulations_there_is_one_all_the_same_and_one_for_each_connection_that_is_listed() -> None:
    assert list(build_janitors([])) == ["janitor"]
    found = build_janitors([], ["aws_lab", "aws_default", "lab:2", "aws_lab"])
    assert {name: dag.get_task("find").aws_conn_id for name, dag in found.items()} == {
        "janitor": "aws_default",
        "janitor_aws_lab": "aws_lab",
        "janitor_lab-2-9219d0": "lab:2",
    }
    assert len(build_janitors([], ["lab:2", "lab-2"])) == 3


@pytest.mark.parametrize(
    ("text", "janitors"),
    [
        ('{"aws_connections": ["aws_lab"], "region": "Frankfurt"}', {"janitor", "janitor_aws_lab"}),
        ('{"aws_connections": "aws_lab"}', {"janitor"}),
        ("[]", {"janitor"}),
        ("{", {"janitor"}),
        (None, {"janitor"}),
    ],
)
def test_a_variable_that_is_wrong_takes_no_janitor_away_but_those_it_was_to_add(
    monkeypatch: pytest.MonkeyPatch, text: str | None, janitors: set[str]
) -> None:
    monkeypatch.delenv("AIRFLOW_VAR_HPC_SITE", raising=False)
    if text is not None:
        monkeypatch.setenv("AIRFLOW_VAR_HPC_SITE", text)
    made = runpy.run_path(str(PROJECT_ROOT / "dags" / "janitor.py"))
    assert {name for name, value in made.items() if isinstance(value, DAG)} == janitors


def test_nor_does_one_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def read() -> Any:
        raise OSError("no way to Airflow")

    monkeypatch.setattr(site, "_read", read)
    assert listed_connections() == ()
    assert "janitors for aws_default and for the connections of simulations only" in caplog.text
    assert "no way to Airflow" in caplog.text


def test_it_comes_every_hour_one_at_a_time_and_every_task_has_a_policy() -> None:
    dag = build_janitors([MELT])["janitor"]
    assert dag.timetable.expression == "17 * * * *"
    assert dag.max_active_runs == 1
    for task in dag.tasks:
        assert task.retries, task.task_id
        assert task.execution_timeout is not None, task.task_id
        assert task.retry_policy is not None, task.task_id


def context(cluster: dict[str, Any], export: str | None) -> Any:
    """What Airflow gives to the second of the mapped tasks."""

    def get_task_states(*, map_index: int, **_: Any) -> dict[str, Any]:
        return {"manual": {f"cluster.export_results_{map_index}": export}}

    instance = SimpleNamespace(
        dag_id="janitor",
        run_id="manual",
        map_index=1,
        get_task_states=get_task_states,
        xcom_pull=lambda task_ids: [{}, {"cluster_name": "melt-1", "saves_not_because": "", **cluster}],
    )
    return {"ti": instance}


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


@pytest.mark.parametrize("export", ["failed", "upstream_failed", "skipped", None])
def test_a_cluster_is_kept_while_its_results_are_not_saved(export: str | None) -> None:
    with pytest.raises(AirflowSkipException, match=r"melt-1 is kept until .* could not be saved"):
        require_saved(context({"saves": True, "keep_until": in_hours(1)}, export))


@pytest.mark.parametrize(
    ("cluster", "export"),
    [
        ({"saves": True, "keep_until": in_hours(1)}, "success"),
        ({"saves": True, "keep_until": in_hours(-1)}, "failed"),
        ({"saves": True, "keep_until": ""}, "failed"),
        ({"saves": False, "keep_until": in_hours(1)}, "skipped"),
    ],
)
def test_it_goes_when_they_are_saved_or_there_are_none_or_nobody_came_in_time(
    cluster: dict[str, Any], export: str
) -> None:
    require_saved(context(cluster, export))


def test_where_there_is_nothing_to_save_nothing_is_tried() -> None:
    skip_unless_saving(context({"saves": True}, None))
    with pytest.raises(AirflowSkipException, match="its simulation says discard"):
        skip_unless_saving(context({"saves": False, "saves_not_because": "its simulation says discard"}, None))


def seen(name: str, *, abandoned: bool) -> dict[str, Any]:
    return {
        "cluster_name": name,
        "status": "CREATE_COMPLETE",
        "simulation": "melt",
        "run_id": "manual__1",
        "why": "its run is over" if abandoned else "its run goes on",
        "abandoned": abandoned,
        "cost": "about $1.00 an hour ($730.00 a month)" if abandoned else "",
    }


def test_the_report_lists_what_was_deleted_what_was_left_and_why() -> None:
    outcomes = {
        (0, "delete_cluster"): "success",
        (0, "export_results"): "success",
        (1, "delete_cluster"): "skipped",
        (1, "export_results"): "failed",
    }
    clusters = [seen("a", abandoned=True), seen("b", abandoned=False), seen("c", abandoned=True)]
    lines, well = summarize(clusters, [], lambda number, task: outcomes[number, task])
    assert not well
    assert lines == [
        "DELETED     a (melt, run manual__1, stack CREATE_COMPLETE, costs about $1.00 an hour ($730.00 a month)): "
        "abandoned: its run is over; results saved",
        "LEFT        b (melt, run manual__1, stack CREATE_COMPLETE): left alone: its run goes on",
        "NOT DELETED c (melt, run manual__1, stack CREATE_COMPLETE, costs about $1.00 an hour ($730.00 a month)): "
        "abandoned: its run is over; results NOT saved",
    ]
    assert summarize(clusters[:2], [], lambda number, task: outcomes[number, task])[1]
    lines, well = summarize(clusters[:2], ["fsx: AccessDenied"], lambda number, task: outcomes[number, task])
    assert not well, "what is not known is not well"
    assert lines[0] == "NOT KNOWN   fsx: AccessDenied"
