"""The wait for a stack against scripted answers: what the real region does not do on request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from botocore.exceptions import ClientError, EndpointConnectionError

from hpc.cluster.sensors import ParallelClusterSensor
from hpc.cluster.triggers import ClusterStackTrigger, EventFeed

ID = "arn:aws:cloudformation:us-east-1:123456789012:stack/demo/1"
NESTED = "arn:aws:cloudformation:us-east-1:123456789012:stack/demo-queues/2"
START = datetime(2026, 11, 23, tzinfo=UTC)


def client_error(code: str, message: str = "no") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "DescribeStacks")


def event(number: int, logical_id: str, status: str, *, stack: str = ID, physical_id: str = "x") -> dict[str, Any]:
    return {
        "EventId": f"{stack}-{number}",
        "Timestamp": START + timedelta(seconds=number),
        "StackId": stack,
        "StackName": stack.split("/")[1],
        "LogicalResourceId": logical_id,
        "PhysicalResourceId": physical_id,
        "ResourceType": "AWS::CloudFormation::Stack" if physical_id.startswith("arn:") else "AWS::EC2::Volume",
        "ResourceStatus": status,
    }


class CloudFormation:
    """An aiobotocore client that answers by script; the last answer is repeated."""

    def __init__(self, answers: Iterable[str | Exception] = (), page_size: int = 100) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.connections = 0
        self.page_size = page_size
        self.events: dict[str, list[dict[str, Any]]] = {ID: []}
        self.pages_read = 0

    async def describe_stacks(self, StackName: str) -> dict[str, Any]:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return {"Stacks": [{"StackName": "demo", "StackId": ID, "StackStatus": answer}]}

    def get_paginator(self, operation: str) -> CloudFormation:
        assert operation == "describe_stack_events"
        return self

    async def paginate(self, StackName: str) -> AsyncIterator[dict[str, Any]]:
        if StackName not in self.events:
            raise client_error("ValidationError", f"Stack [{StackName}] does not exist")
        newest_first = self.events[StackName][::-1]
        for start in range(0, max(len(newest_first), 1), self.page_size):
            self.pages_read += 1
            yield {"StackEvents": newest_first[start : start + self.page_size]}

    async def get_async_conn(self) -> Any:
        self.connections += 1

        @asynccontextmanager
        async def connection() -> AsyncIterator[CloudFormation]:
            yield self

        return connection()


Wait = Callable[..., dict[str, Any]]


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Wait:
    """Return the function that runs the trigger against a script and returns its event's payload."""

    def run(cloudformation: CloudFormation, **arguments: Any) -> dict[str, Any]:
        hook = "airflow.providers.amazon.aws.hooks.cloud_formation.CloudFormationHook.get_async_conn"
        monkeypatch.setattr(hook, lambda _: cloudformation.get_async_conn())
        trigger = ClusterStackTrigger(
            **{
                "stack": ID,
                "target": "CREATE_COMPLETE",
                "started": time.time(),
                "aws_conn_id": None,
                "region_name": "us-east-1",
                "waiter_delay": 0.01,
                "waiter_max_attempts": 1000,
                **arguments,
            }
        )

        async def first() -> dict[str, Any]:
            events = [event.payload async for event in trigger.run()]
            assert len(events) == 1
            return dict(events[0])

        return asyncio.run(first())

    return run


def test_it_waits_through_every_answer_that_is_none(wait: Wait) -> None:
    cloudformation = CloudFormation(
        [
            "CREATE_IN_PROGRESS",
            client_error("Throttling", "Rate exceeded"),
            EndpointConnectionError(endpoint_url="http://x"),
            client_error("ExpiredToken"),
            client_error("AccessDenied"),
            "CREATE_COMPLETE",
        ]
    )

    assert wait(cloudformation)["status"] == "success"
    assert cloudformation.connections == 5  # one more for each that failed: its credentials may have run out


@pytest.mark.parametrize(
    ("answers", "target", "status", "stack_status"),
    [
        (["CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"], "CREATE_COMPLETE", "failed", "ROLLBACK_IN_PROGRESS"),
        (["DELETE_IN_PROGRESS", "DELETE_COMPLETE"], "DELETE_COMPLETE", "success", "DELETE_COMPLETE"),
        (["CREATE_IN_PROGRESS", "DELETE_FAILED"], "DELETE_COMPLETE", "failed", "DELETE_FAILED"),
        (
            ["DELETE_IN_PROGRESS", client_error("ValidationError", "Stack with id demo does not exist")],
            *("DELETE_COMPLETE", "success", "DELETE_COMPLETE"),
        ),
    ],
)
def test_each_end_is_told(wait: Wait, answers: list[Any], target: str, status: str, stack_status: str) -> None:
    payload = wait(CloudFormation(answers), target=target)

    assert (payload["status"], payload["stack_status"]) == (status, stack_status)


def test_a_stack_that_is_not_seen_yet_is_waited_for(wait: Wait) -> None:
    missing = client_error("ValidationError", "Stack with id demo does not exist")

    assert wait(CloudFormation([missing, missing, "CREATE_COMPLETE"]))["status"] == "success"


def test_a_stack_that_stays_missing_is_a_failure(wait: Wait) -> None:
    missing = client_error("ValidationError", "Stack with id demo does not exist")

    payload = wait(CloudFormation([missing]), started=time.time() - 31, waiter_max_attempts=100_000)

    assert (payload["status"], payload["stack_status"]) == ("failed", "MISSING")


@pytest.mark.parametrize("answer", ["CREATE_IN_PROGRESS", client_error("AccessDenied")])
def test_the_limit_counts_from_the_beginning_of_the_wait(wait: Wait, answer: Any) -> None:
    cloudformation = CloudFormation([answer])

    assert wait(cloudformation, started=time.time() - 3600)["status"] == "timeout"
    assert cloudformation.asked == 1


def test_a_long_silence_gets_a_line(
    wait: Wait, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hpc.cluster.triggers.SECONDS_OF_SILENCE", 0)
    cloudformation = CloudFormation(["CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"])
    cloudformation.events[ID] = [
        event(0, "demo", "CREATE_IN_PROGRESS", physical_id=ID),
        event(1, "A", "CREATE_COMPLETE"),
    ]

    wait(cloudformation)

    assert "stack demo is CREATE_IN_PROGRESS, 1 of 1 resources made" in caplog.text + capfd.readouterr().out


def test_serialized_and_made_again_it_is_the_same() -> None:
    arguments = {
        "stack": ID,
        "target": "DELETE_COMPLETE",
        "started": 1.0,
        "aws_conn_id": "a",
        "region_name": "r",
        "waiter_delay": 5,
        "waiter_max_attempts": 6,
    }

    assert ClusterStackTrigger(**arguments).serialize() == ("hpc.cluster.triggers.ClusterStackTrigger", arguments)


async def test_each_event_is_given_out_once_and_in_order() -> None:
    cloudformation = CloudFormation(page_size=2)
    feed = EventFeed(ID, "CREATE_COMPLETE")
    events = cloudformation.events[ID]
    events.append(event(0, "demo", "CREATE_IN_PROGRESS", physical_id=ID))
    events += [event(number, f"R{number}", "CREATE_IN_PROGRESS") for number in range(1, 6)]
    assert [one.logical_id for one in await feed.read(cloudformation)] == ["demo", "R1", "R2", "R3", "R4", "R5"]

    cloudformation.pages_read = 0
    assert await feed.read(cloudformation) == []
    assert cloudformation.pages_read == 1

    events.append(event(6, "R1", "CREATE_COMPLETE"))
    assert [one.status for one in await feed.read(cloudformation)] == ["CREATE_COMPLETE"]


async def test_nested_stacks_are_read_too() -> None:
    cloudformation = CloudFormation()
    feed = EventFeed(ID, "CREATE_COMPLETE")
    cloudformation.events[ID] = [
        event(0, "demo", "CREATE_IN_PROGRESS", physical_id=ID),
        event(1, "Queues", "CREATE_IN_PROGRESS", physical_id=NESTED),
    ]
    cloudformation.events[NESTED] = [
        event(2, "demo-queues", "CREATE_IN_PROGRESS", stack=NESTED, physical_id=NESTED),
        event(3, "Inner", "CREATE_FAILED", stack=NESTED),
    ]

    assert [one.logical_id for one in await feed.read(cloudformation)] == ["demo", "Queues", "demo-queues", "Inner"]


async def test_a_deletion_does_not_repeat_the_creation() -> None:
    cloudformation = CloudFormation()
    feed = EventFeed(ID, "DELETE_COMPLETE")
    events = cloudformation.events[ID]
    events += [
        event(0, "demo", "CREATE_IN_PROGRESS", physical_id=ID),
        event(1, "demo", "CREATE_COMPLETE", physical_id=ID),
    ]
    assert await feed.read(cloudformation) == []

    events.append(event(2, "demo", "DELETE_IN_PROGRESS", physical_id=ID))
    assert [one.status for one in await feed.read(cloudformation)] == ["DELETE_IN_PROGRESS"]


def test_a_stack_of_which_nothing_is_known_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trigger asks again; the task must not fail of one answer that was none."""

    def garbled(*_: Any) -> None:
        raise RuntimeError("an answer that is no XML")

    monkeypatch.setattr("hpc.cluster.base.describe_stack", garbled)
    monkeypatch.setattr(ParallelClusterSensor, "account", SimpleNamespace(client=lambda name: name))
    waiting = ParallelClusterSensor(task_id="wait", cluster_name="life")
    with pytest.raises(TaskDeferred) as deferred:
        waiting.wait_for_stack("life", "DELETE_COMPLETE", "execute_complete", started=1.0)
    assert (deferred.value.method_name, deferred.value.kwargs) == ("execute_complete", {"started": 1.0})
