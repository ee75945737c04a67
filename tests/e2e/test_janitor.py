"""The janitor on a running Airflow: what a deleted run has left is saved and deleted, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from airflow_client.client.api.dag_run_api import DagRunApi
from airflow_client.client.api.task_instance_api import TaskInstanceApi
from airflow_client.client.models.dag_run_mutable_states import DagRunMutableStates
from airflow_client.client.models.dag_run_patch_body import DAGRunPatchBody
from airflow_client.client.models.patch_task_instance_body import PatchTaskInstanceBody

from hpc.names import cluster_name
from tests.e2e.test_rest import finished, is_gone, until
from workshop import rest

if TYPE_CHECKING:
    from tests.e2e.conftest import RunningAirflow

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(600)]


def delete_run(airflow: RunningAirflow, dag_id: str, run_id: str) -> None:
    """Delete a run that goes on, teardowns and all: Airflow does that once a person has marked every task of it."""
    client = airflow.client
    for task in ("export_results", "hold_cluster", "delete_cluster", "report"):
        done = PatchTaskInstanceBody.model_validate({"new_state": "success"})
        TaskInstanceApi(client).patch_task_instance(dag_id, run_id, task, done)
    DagRunApi(client).patch_dag_run(dag_id, run_id, DAGRunPatchBody(state=DagRunMutableStates.FAILED))
    until(lambda: rest.run_state(client, dag_id, run_id) in rest.FINISHED_RUN_STATES, "end of the run")
    DagRunApi(client).delete_dag_run(dag_id, run_id)


def test_it_saves_and_deletes_what_a_deleted_run_has_left_and_nothing_else(airflow: RunningAirflow) -> None:
    client = airflow.client
    run_id = rest.trigger(client, "endless_job")
    cluster = cluster_name("endless_job", run_id)

    def runs() -> bool:
        tasks = rest.task_progress(client, "endless_job", run_id, [])
        states = {task.task_id: task.state for task in tasks}
        return states["run_job"] == states["watch_alarms"] == "deferred"

    until(runs, "running job")
    watched = rest.trigger(client, "janitor")
    assert finished(airflow, "janitor", watched)[""] == "success"
    report = airflow.logs("janitor", watched, "report")
    assert f"{cluster} (endless_job, run {run_id}, stack CREATE_COMPLETE): left alone: its run goes on" in report
    delete_run(airflow, "endless_job", run_id)

    tried = rest.trigger(client, "janitor", {"dry_run": True})
    assert finished(airflow, "janitor", tried)[""] == "success"
    assert "abandoned: its run no longer exists" in airflow.logs("janitor", tried, "report")
    assert not is_gone(airflow, "endless_job", run_id)

    done = rest.trigger(client, "janitor")
    states = finished(airflow, "janitor", done)
    assert set(states.values()) == {"success"}, states
    assert is_gone(airflow, "endless_job", run_id)
    report = airflow.logs("janitor", done, "report")
    assert f"DELETED     {cluster} (endless_job, run {run_id}, stack CREATE_COMPLETE, costs " in report
    assert "results saved" in report
    s3, place = airflow.region.client("s3"), f"endless_job/{cluster}"
    bucket = airflow.region.facts["bucket"]
    receipt = json.load(s3.get_object(Bucket=bucket, Key=f"{place}/receipt-janitor.json")["Body"])
    assert "partial.txt" in {file["path"] for file in receipt["files"]}
    assert s3.get_object(Bucket=bucket, Key=f"{place}/partial.txt")["Body"].read() == b"half a result\n"


def test_a_connection_that_only_the_variable_names_has_a_janitor(airflow: RunningAirflow) -> None:
    client, site = airflow.client, airflow.region.site()
    rest.set_connection(client, "aws_lab", airflow.region.connections()["aws_default"])
    rest.set_variable(client, "hpc_site", {**site, "aws_connections": ["aws_lab"]})
    try:
        until(lambda: "janitor_aws_lab" in rest.dag_ids(client), "janitor of aws_lab")
        tried = rest.trigger(client, "janitor_aws_lab", {"dry_run": True})
        states = finished(airflow, "janitor_aws_lab", tried)
        assert states[""] == states["find"] == states["report"] == "success"
    finally:
        rest.set_variable(client, "hpc_site", site)
