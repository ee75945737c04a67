"""The operators as Airflow's DAG processor and scheduler see them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator
from airflow.serialization.serialized_objects import DagSerialization

from hpc.errors import CapacityError, DeadlineExceededError, HostKeyError, JobFailedError, JobStateUnknownError
from hpc.head_node.operators import HeadNodeConnectOperator
from hpc.slurm.events import raise_for_end, raise_for_event
from hpc.slurm.identity import JobPlaces
from hpc.slurm.operators import SlurmJobOperator
from hpc.slurm.sensors import SlurmAllocationSensor, SlurmJobSensor, SlurmQueueEmptySensor

JOB = JobPlaces("/fsx/run", "0123456789ab", "dag.task").submitted("mine", 1, 7)
RESULT = {
    "job_id": 7, "state": "FAILED", "exit_code": 3, "signal": 0, "node_list": "n-1", "start": 1, "end": 2, "seconds": 1,
    "restarts": 0, "reason": "NonZeroExitCode",
}  # fmt: skip


@pytest.fixture
def dag() -> DAG:
    with DAG("by_hand", schedule=None) as dag:
        connect = HeadNodeConnectOperator(task_id="connect", cluster_name="mine")
        submit = SlurmJobOperator(
            task_id="submit",
            cluster_name="mine",
            head_node=connect.output,  # type: ignore[arg-type]
            job_script="include/job_scripts/x.sh",
            directory="/fsx/run",
            parameters={"steps": "{{ params.steps }}"},
            resources={"nodes": 2, "walltime": "00:10:00"},
            inputs=[{"source": "s3://bucket/key"}],
            wait_for_completion=False,
        )
        wait = SlurmAllocationSensor(
            task_id="wait", cluster_name="mine", job=submit.output, capacity_grace=timedelta(minutes=5)
        )
        run = SlurmJobSensor(task_id="run", cluster_name="mine", job=submit.output)
        empty = SlurmQueueEmptySensor(task_id="empty", cluster_name="mine")
        wait >> run >> empty
    return dag


def test_a_dag_with_them_survives_the_scheduler(dag: DAG) -> None:
    restored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert set(restored.task_dict) == {"connect", "submit", "wait", "run", "empty"}
    assert restored.get_task("submit").upstream_task_ids == {"connect"}
    assert restored.get_task("run").upstream_task_ids == {"submit", "wait"}


def test_every_template_field_is_there(dag: DAG) -> None:
    for task in dag.tasks:
        assert isinstance(task, BaseOperator)
        assert all(hasattr(task, field) for field in task.template_fields)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"status": "timeout", "seen": "Job 7 is PENDING"}, DeadlineExceededError),
        ({"status": "error", "error": "CapacityError", "message": "none", "remedy": "wait"}, CapacityError),
        ({"status": "error", "error": "HostKeyError", "message": "another"}, HostKeyError),
    ],
)
def test_an_event_becomes_the_error_that_a_retry_policy_knows(event: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        raise_for_event(event, waited_for="something")


def test_a_failed_job_says_everything() -> None:
    with pytest.raises(JobFailedError) as failed:
        raise_for_end({"result": RESULT, "last_lines": ["first", "last"]}, JOB)
    message = str(failed.value)
    for part in (str(JOB), "mine", "FAILED", "exit code 3", "n-1", "  | last", JOB.log, "What to do"):
        assert part in message


def test_an_unknown_end_is_an_error_of_its_own() -> None:
    with pytest.raises(JobStateUnknownError, match="attempt-1"):
        raise_for_end({"result": RESULT | {"state": "UNKNOWN"}, "last_lines": []}, JOB)


def test_success_raises_nothing() -> None:
    raise_for_event({"status": "success"}, waited_for="it")
    raise_for_end({"result": RESULT | {"state": "COMPLETED", "exit_code": 0}, "last_lines": []}, JOB)
