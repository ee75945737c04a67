"""Airflow's REST API as its users meet it: the official client, a log-in, and the few calls that we make."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any

from airflow_client.client import ApiClient, Configuration
from airflow_client.client.api.connection_api import ConnectionApi
from airflow_client.client.api.dag_api import DAGApi
from airflow_client.client.api.dag_run_api import DagRunApi
from airflow_client.client.api.import_error_api import ImportErrorApi
from airflow_client.client.api.task_api import TaskApi
from airflow_client.client.api.task_instance_api import TaskInstanceApi
from airflow_client.client.api.variable_api import VariableApi
from airflow_client.client.api.x_com_api import XComApi
from airflow_client.client.exceptions import ConflictException, NotFoundException
from airflow_client.client.models.connection_body import ConnectionBody
from airflow_client.client.models.dag_patch_body import DAGPatchBody
from airflow_client.client.models.trigger_dag_run_post_body import TriggerDAGRunPostBody
from airflow_client.client.models.variable_body import VariableBody

#: The states that a DAG run does not leave by itself.
FINISHED_RUN_STATES = frozenset({"success", "failed"})
#: The same for a task instance.
FINISHED_TASK_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


@dataclass(frozen=True)
class TaskProgress:
    """One task of a run. `seconds` counts from its first start, deferral included; None while it has not started."""

    task_id: str
    state: str
    seconds: float | None
    try_number: int

    @property
    def finished(self) -> bool:
        """Whether it leaves its state no more."""
        return self.state in FINISHED_TASK_STATES


def health(url: str) -> dict[str, str]:
    """Return the state of each component, "healthy" being the good one; empty while nobody answers at `url`."""
    try:
        with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as answer:  # noqa: S310 - our own http address
            return {name: component["status"] for name, component in json.load(answer).items()}
    except (OSError, HTTPException, ValueError):
        return {}


def warm_up(url: str) -> None:
    """Let the API server build what the first task would else wait 4 s for: the interface that tasks call."""
    with urllib.request.urlopen(f"{url}/execution/health", timeout=60):  # noqa: S310 - our own http address
        pass


def log_in(url: str, user: str, password: str) -> ApiClient:
    """Exchange user and password for a token, as any client of the API does; return a client that bears it."""
    request = urllib.request.Request(  # noqa: S310 - our own http address
        f"{url}/auth/token",
        data=json.dumps({"username": user, "password": password}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        token = json.load(answer)["access_token"]
    return ApiClient(Configuration(host=url, access_token=token))


def dag_ids(client: ApiClient) -> set[str]:
    """Return the ids of all DAGs that Airflow has read."""
    return {dag.dag_id for dag in DAGApi(client).get_dags(limit=100).dags}


def import_errors(client: ApiClient) -> list[str]:
    """Return what the DAG processor says about files that it could not read."""
    return [
        f"{error.filename}: {error.stack_trace}" for error in ImportErrorApi(client).get_import_errors().import_errors
    ]


def set_connection(client: ApiClient, conn_id: str, fields: Mapping[str, Any]) -> None:
    """Make a connection, or make an existing one what it should be."""
    body = ConnectionBody(connection_id=conn_id, **fields)
    try:
        ConnectionApi(client).post_connection(body)
    except ConflictException:
        ConnectionApi(client).patch_connection(conn_id, body)


def set_variable(client: ApiClient, key: str, value: object) -> None:
    """Set a Variable to a JSON value."""
    body = VariableBody(key=key, value=json.dumps(value))
    try:
        VariableApi(client).post_variable(body)
    except ConflictException:
        VariableApi(client).patch_variable(key, body)


def trigger(
    client: ApiClient, dag_id: str, parameters: Mapping[str, Any] | None = None, run_id: str | None = None
) -> str:
    """Unpause the DAG, start a run, under this id or one of Airflow's, and return its run id."""
    DAGApi(client).patch_dag(dag_id, DAGPatchBody(is_paused=False))
    body = TriggerDAGRunPostBody(conf=dict(parameters or {}), logical_date=None, dag_run_id=run_id)
    return DagRunApi(client).trigger_dag_run(dag_id, body).dag_run_id


def run_state(client: ApiClient, dag_id: str, run_id: str) -> str:
    """Return the state of a DAG run."""
    return DagRunApi(client).get_dag_run(dag_id, run_id).state.value


def task_order(client: ApiClient, dag_id: str) -> list[str]:
    """Return the DAG's task ids, each after those it waits for."""
    tasks = TaskApi(client).get_tasks(dag_id).tasks
    return in_order({str(task.task_id): task.downstream_task_ids or [] for task in tasks})


def in_order(downstream: Mapping[str, Iterable[str]]) -> list[str]:
    """Sort tasks so that none stands before one that it waits for; where that leaves a choice, the chain goes on first.

    >>> in_order({"delete": [], "create": ["run", "delete"], "run": ["delete"]})
    ['create', 'run', 'delete']
    """
    waits_for = {task: {other for other, after in downstream.items() if task in after} for task in downstream}
    order: list[str] = []
    while len(order) < len(waits_for):
        ready = [task for task in waits_for if task not in order and waits_for[task] <= set(order)]
        follows = {task: max((order.index(other) for other in waits_for[task]), default=-1) for task in ready}
        order.append(max(ready, key=lambda task: follows[task]))
    return order


def task_progress(client: ApiClient, dag_id: str, run_id: str, order: Iterable[str]) -> list[TaskProgress]:
    """Return every task of the run in the given order; mapped tasks follow one another."""
    place = {task_id: number for number, task_id in enumerate(order)}
    instances = TaskInstanceApi(client).get_task_instances(dag_id, run_id, limit=100).task_instances
    return [
        TaskProgress(
            instance.task_id,
            instance.state.value if instance.state else "none",
            _seconds(instance.start_date, instance.end_date),
            instance.try_number,
        )
        for instance in sorted(instances, key=lambda instance: (place.get(instance.task_id, 0), instance.map_index))
    ]


def returned(client: ApiClient, dag_id: str, run_id: str, task_id: str) -> Any:
    """Return what a task returned (its XCom), or None if it returned nothing."""
    try:
        entry = XComApi(client).get_xcom_entry(
            dag_id, task_id, run_id, "return_value", deserialize=False, stringify=False
        )
    except NotFoundException:
        return None
    answer: Any = entry.to_dict()
    value = answer["value"]
    return json.loads(value) if isinstance(value, str) and value[:1] in "[{" else value


def task_log(client: ApiClient, dag_id: str, run_id: str, task_id: str, try_number: int) -> list[str]:
    """Return the messages of one attempt's log as the UI shows them, exceptions as `Type: message`."""
    # The client's model of a message leaves out everything but its text, the exception too.
    answer = TaskInstanceApi(client).get_log_without_preload_content(
        dag_id, run_id, task_id, try_number, full_content=True, accept="application/json"
    )
    content = json.loads(answer.data)["content"]
    return [line for message in content for line in log_lines(message)]


def log_lines(message: str | dict[str, Any]) -> list[str]:
    """Return a structured log message as lines."""
    if isinstance(message, str):
        return message.splitlines()
    errors = message.get("error_detail") or []
    return [message["event"], *(f"{error['exc_type']}: {error['exc_value']}" for error in errors)]


def task_error(client: ApiClient, dag_id: str, run_id: str, task: TaskProgress) -> str:
    """Return the exception that ended the last attempt of a task; empty if the log has none."""
    log = task_log(client, dag_id, run_id, task.task_id, task.try_number)
    failures = [number for number, line in enumerate(log) if line.startswith("Task failed with exception")]
    return "\n".join(log[failures[-1] + 1 : failures[-1] + 2]) if failures else ""


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None else round(((end or datetime.now(UTC)) - start).total_seconds(), 1)
