"""CloudWatchAlarmSensor against CloudWatch of moto."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType, TaskDeferred
from airflow.sdk.execution_time.comms import ErrorResponse

from hpc.errors import AlarmError, ConfigurationError, DeadlineExceededError
from hpc.monitoring.sensors import CloudWatchAlarmSensor
from hpc.monitoring.triggers import CloudWatchAlarmTrigger
from tests.monitoring.conftest import Alarms, TaskInstance, client

pytestmark = pytest.mark.region

#: What Airflow would say of the tasks now.
States = Callable[[], dict[str, str | None]]


def sensor(alarms: Alarms, *suffixes: str, **arguments: Any) -> CloudWatchAlarmSensor:
    defaults: dict[str, Any] = {"deferrable": False, "waiter_delay": 1, "waiter_max_attempts": 30}
    return CloudWatchAlarmSensor(
        task_id="watch_alarms",
        alarm_names=[alarms.name(suffix) for suffix in suffixes],
        cluster_name=alarms.cluster,
        **{**defaults, **arguments},
    )


def context(ti: TaskInstance | None = None) -> Any:
    return {
        "ti": ti or TaskInstance(),
        "dag": SimpleNamespace(task_ids=["run_job", "watch_alarms"]),
        "dag_run": SimpleNamespace(dag_id="melt", run_id="manual"),
    }


@pytest.fixture
def task_states(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[], dict[str, str | None]]], list[dict[str, Any]]]:
    """Put a function in the place of Airflow's answer about the states of tasks; return what it was asked."""
    asked: list[dict[str, Any]] = []

    def answer(states: States) -> list[dict[str, Any]]:
        def get_task_states(**question: Any) -> dict[str, dict[str, str | None]]:
            asked.append(question)
            return {"manual": states()}

        monkeypatch.setattr(
            "airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states", staticmethod(get_task_states)
        )
        return asked

    return answer


def test_alone_it_waits_until_all_are_ok(alarms: Alarms) -> None:
    alarms.make("HeadNode-Cpu")
    alarms.make_composite("HeadNode", of="HeadNode-Cpu")
    alarms.set("HeadNode-Cpu", "OK", "cool")
    alarms.set("HeadNode", "OK", "all is well")
    returned = sensor(alarms, "HeadNode", "HeadNode-Cpu").execute(context())
    assert {name: past[-1][1:] for name, past in returned["alarms"].items()} == {
        alarms.name("HeadNode-Cpu"): ["OK", "cool"],
        alarms.name("HeadNode"): ["OK", "all is well"],
    }
    assert returned["warnings"] == []


def test_fail_fails_as_soon_as_one_goes_off(alarms: Alarms) -> None:
    alarms.make("HeadNode-Cpu", "HeadNode-Mem")
    alarms.set("HeadNode-Cpu", "OK")
    alarms.set("HeadNode-Mem", "ALARM", "97 % of memory")
    with pytest.raises(AlarmError, match=r"HeadNode-Mem is ALARM since .*97 % of memory(.|\n)*on_alarm: warn"):
        sensor(alarms, "HeadNode-Cpu", "HeadNode-Mem", on_alarm="fail").execute(context())


def test_too_little_data_does_not_fail(alarms: Alarms) -> None:
    alarms.make("HeadNode-Cpu")
    alarms.set("HeadNode-Cpu", "INSUFFICIENT_DATA")
    with pytest.raises(DeadlineExceededError):
        sensor(alarms, "HeadNode-Cpu", on_alarm="fail", waiter_max_attempts=1).execute(context())


def test_warn_goes_on_until_the_job_is_over(alarms: Alarms, task_states: Any) -> None:
    alarms.make("HeadNode-Disk")
    script = iter([("ALARM", "full", "deferred"), ("OK", "cleaned", "running"), (None, None, "failed")])

    def next_round() -> dict[str, str | None]:
        state, reason, job = next(script)
        if state and reason:
            alarms.set("HeadNode-Disk", state, reason)
        return {"run_job": job}

    asked = task_states(next_round)
    returned = sensor(alarms, "HeadNode-Disk", until_task_ids=["run_job"]).execute(context())
    assert [(state, reason) for _, state, reason in returned["alarms"][alarms.name("HeadNode-Disk")]] == [
        ("ALARM", "full"),
        ("OK", "cleaned"),
    ]
    (warning,) = returned["warnings"]
    assert "HeadNode-Disk went off at" in warning
    assert asked[0] == {"dag_id": "melt", "run_ids": ["manual"], "task_ids": ["run_job"]}


@pytest.mark.parametrize("deferrable", [False, True])
def test_people_are_told_of_the_first_alarm_and_the_watch_goes_on(
    alarms: Alarms, task_states: Any, deferrable: bool
) -> None:
    alarms.make("HeadNode-Disk")
    script = iter([("ALARM", "full", "running"), ("OK", "cleaned", "running"), ("ALARM", "full again", "success")])

    def next_round() -> dict[str, str | None]:
        state, reason, job = next(script)
        alarms.set("HeadNode-Disk", state, reason)
        return {"run_job": job}

    task_states(next_round)
    told: list[str] = []
    watch = sensor(
        alarms,
        "HeadNode-Disk",
        until_task_ids=["run_job"],
        deferrable=deferrable,
        tell=lambda _context, event, text: told.append(f"{event}: {text}"),
    )
    returned = live(watch)
    assert [reason for _, _, reason in returned["alarms"][alarms.name("HeadNode-Disk")]] == [
        *("full", "cleaned", "full again")
    ]
    assert len(returned["warnings"]) == 2
    (message,) = told
    assert re.search(r"a CloudWatch alarm went off: .*HeadNode-Disk is ALARM since .*: full$", message)


def live(watch: CloudWatchAlarmSensor) -> dict[str, Any]:
    """Do what Airflow does with a task: run its trigger from JSON when it defers, and resume it with the event."""
    step: Callable[[], dict[str, Any]] = partial(watch.execute, context())
    while True:
        try:
            return step()
        except TaskDeferred as deferred:
            _, arguments = deferred.trigger.serialize()
            again = CloudWatchAlarmTrigger(**json.loads(json.dumps(arguments)))
            event = asyncio.run(anext(aiter(again.run()))).payload
            step = partial(watch.execute_complete, context(), json.loads(json.dumps(event)))


def test_an_alarm_at_the_very_end_is_still_seen(alarms: Alarms, task_states: Any) -> None:
    alarms.make("HeadNode-Mem")

    def over() -> dict[str, str | None]:
        alarms.set("HeadNode-Mem", "ALARM", "out of memory")
        return {"run_job": "success"}

    task_states(over)
    with pytest.raises(AlarmError, match="out of memory"):
        sensor(alarms, "HeadNode-Mem", until_task_ids=["run_job"], on_alarm="fail").execute(context())


def test_a_job_that_airflow_does_not_list_is_not_over(alarms: Alarms, task_states: Any) -> None:
    alarms.make("HeadNode-Mem")
    task_states(lambda: {})
    with pytest.raises(DeadlineExceededError):
        sensor(alarms, "HeadNode-Mem", until_task_ids=["run_job"], waiter_max_attempts=1).execute(context())


def trigger(alarms: Alarms, *suffixes: str, **arguments: Any) -> CloudWatchAlarmTrigger:
    defaults: dict[str, Any] = {
        "cluster_name": alarms.cluster,
        "on_alarm": "warn",
        "until_tasks": None,
        "started": time.time(),
        "aws_conn_id": "aws_default",
        "region_name": None,
        "waiter_delay": 1,
        "waiter_max_attempts": 30,
    }
    return CloudWatchAlarmTrigger(alarm_names=[alarms.name(suffix) for suffix in suffixes], **{**defaults, **arguments})


def test_an_airflow_that_does_not_answer_is_asked_again(alarms: Alarms, task_states: Any) -> None:
    alarms.make("HeadNode-Cpu")
    answers: list[str | None] = [None, "success"]

    def states() -> dict[str, str | None]:
        if (state := answers.pop(0)) is None:
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR))
        return {"run_job": state}

    task_states(states)
    watch = sensor(alarms, "HeadNode-Cpu", until_task_ids=["run_job"])
    assert watch.execute(context())["warnings"] == []
    assert answers == []


def test_an_alarm_that_does_not_exist_is_named_with_those_that_do(alarms: Alarms) -> None:
    alarms.make("HeadNode-Cpu", "HeadNode-Mem")
    watch = trigger(alarms, "HeadNode-Cpu", "HeadNode-GPU", missing_after=0)
    event = asyncio.run(anext(aiter(watch.run()))).payload
    with pytest.raises(ConfigurationError) as error:
        sensor(alarms, "HeadNode-Cpu", "HeadNode-GPU").execute_complete(context(), event)
    assert f"no alarm {alarms.name('HeadNode-GPU')}; of {alarms.cluster} exist: " in str(error.value)
    assert alarms.name("HeadNode-Mem") in str(error.value)


def test_an_alarm_may_come_a_little_late(alarms: Alarms, task_states: Any) -> None:
    rounds = iter([None, "HeadNode-Cpu"])

    def one_round() -> dict[str, str | None]:
        if late := next(rounds):
            alarms.make(late)
            return {"run_job": "success"}
        return {"run_job": "running"}

    task_states(one_round)
    returned = sensor(alarms, "HeadNode-Cpu", until_task_ids=["run_job"]).execute(context())
    assert list(returned["alarms"]) == [alarms.name("HeadNode-Cpu")]


async def test_an_endpoint_that_does_not_answer_is_unknown(alarms: Alarms, monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"conn_type": "aws", "login": "x", "password": "x", "extra": {"endpoint_url": "http://127.0.0.1:9"}}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(value))
    watch = trigger(alarms, "HeadNode", region_name="us-east-1", waiter_max_attempts=1, on_alarm="fail")
    event = await anext(aiter(watch.run()))
    assert event.payload == {"status": "timeout", "history": {}}


def test_deferred_it_can_be_made_again_from_json(alarms: Alarms) -> None:
    alarms.make("HeadNode-Cpu")
    with pytest.raises(TaskDeferred) as deferred:
        sensor(alarms, "HeadNode-Cpu", deferrable=True, until_task_ids=["run_job"]).execute(context())
    assert deferred.value.method_name == "execute_complete"
    path, arguments = deferred.value.trigger.serialize()
    assert path == "hpc.monitoring.triggers.CloudWatchAlarmTrigger"
    again = CloudWatchAlarmTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (path, arguments)


@pytest.mark.parametrize("names", [[], "HeadNode"])
def test_names_have_to_be_a_list(alarms: Alarms, names: Any) -> None:
    with pytest.raises(ConfigurationError, match="list of names"):
        CloudWatchAlarmSensor(task_id="watch", alarm_names=names).execute(context())


def test_tasks_that_the_dag_does_not_have_are_refused(alarms: Alarms) -> None:
    with pytest.raises(ConfigurationError, match="melt has no task run_jobs"):
        sensor(alarms, "HeadNode", until_task_ids=["run_jobs"]).execute(context())


def test_links_to_dashboard_and_logs(alarms: Alarms, aws: str) -> None:
    alarms.make("HeadNode-Cpu")
    alarms.set("HeadNode-Cpu", "OK")
    group = f"/aws/parallelcluster/{alarms.cluster}-202611230200"
    client("logs", aws).create_log_group(logGroupName=group)
    ti = TaskInstance()
    sensor(alarms, "HeadNode-Cpu").execute(context(ti))
    assert ti.pushed["cloudwatch_dashboard"]["dashboard"] == f"{alarms.cluster}-us-east-1"
    assert ti.pushed["cloudwatch_logs"]["log_group"] == group
    assert ti.pushed["cloudwatch_logs"]["endpoint_url"] == aws
