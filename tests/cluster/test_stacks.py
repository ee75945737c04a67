"""CloudFormation's words, on events captured from the local region (moto 5.2.5)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import boto3
import pytest

from hpc.cluster.stacks import (
    ON_THE_WAY_TO_CREATED,
    Progress,
    StackEvent,
    count_resources,
    of_operation,
    progress,
    root_failures,
)

from .conftest import CAPTURED

START = datetime(2026, 11, 23, 2, 17, tzinfo=UTC)
STACK_ID = "arn:aws:cloudformation:us-east-1:123456789012:stack/demo/1"


@pytest.fixture
def captured() -> list[StackEvent]:
    events = json.loads((CAPTURED / "moto-5.2.5-stack-events-create-failed.json").read_text(encoding="utf-8"))
    parsed = [StackEvent.parse({**event, "Timestamp": datetime.fromisoformat(event["Timestamp"])}) for event in events]
    return parsed[::-1]


def event(
    logical_id: str, status: str, reason: str = "", *, seconds: int = 0, type: str = "AWS::EC2::Volume"
) -> StackEvent:
    return StackEvent(
        id=f"{logical_id}-{status}-{seconds}",
        time=START + timedelta(seconds=seconds),
        stack_id=STACK_ID,
        stack_name="demo",
        logical_id=logical_id,
        physical_id=STACK_ID if logical_id == "demo" else f"physical-{logical_id}",
        type="AWS::CloudFormation::Stack" if logical_id == "demo" else type,
        status=status,
        reason=reason,
    )


def test_every_status_of_the_api_stands_in_the_table() -> None:
    model = boto3.client("cloudformation", region_name="us-east-1").meta.service_model.shape_for("StackStatus")

    assert set(model.enum) == set(ON_THE_WAY_TO_CREATED)


@pytest.mark.parametrize(
    ("status", "created", "deleted"),
    [
        ("CREATE_IN_PROGRESS", Progress.WAITING, Progress.WAITING),
        ("CREATE_COMPLETE", Progress.REACHED, Progress.WAITING),
        ("ROLLBACK_IN_PROGRESS", Progress.FAILED, Progress.WAITING),
        ("DELETE_FAILED", Progress.FAILED, Progress.FAILED),
        ("DELETE_COMPLETE", Progress.FAILED, Progress.REACHED),
        ("A_STATUS_OF_TOMORROW", Progress.WAITING, Progress.WAITING),
    ],
)
def test_a_status_means_what_the_target_makes_of_it(status: str, created: Progress, deleted: Progress) -> None:
    assert progress(status, "CREATE_COMPLETE") is created
    assert progress(status, "DELETE_COMPLETE") is deleted


def test_the_root_of_a_failure_is_the_resource_and_not_the_stack(captured: list[StackEvent]) -> None:
    failures = root_failures(of_operation(captured, "CREATE_COMPLETE"))

    assert [failure.type for failure in failures] == ["AWS::CloudFormation::WaitCondition"]
    assert "Failed to run chef recipe" in failures[0].reason


def test_cancelled_resources_are_no_root() -> None:
    events = [
        event("demo", "CREATE_IN_PROGRESS"),
        event("Second", "CREATE_FAILED", "Resource creation cancelled", seconds=1),
        event("First", "CREATE_FAILED", "You have reached a limit", seconds=1),
        event("demo", "CREATE_FAILED", "The following resource(s) failed", seconds=2),
    ]

    assert [failure.logical_id for failure in root_failures(events)] == ["First"]


def test_a_stack_that_failed_by_itself_is_its_own_root() -> None:
    events = [event("demo", "CREATE_IN_PROGRESS"), event("demo", "CREATE_FAILED", "Template error", seconds=1)]

    assert [failure.reason for failure in root_failures(events)] == ["Template error"]


def test_a_line_has_time_id_type_status_and_reason_on_one_line() -> None:
    assert (
        event("Data", "CREATE_FAILED", "no\n  capacity").line()
        == "02:17:00  Data  AWS::EC2::Volume  CREATE_FAILED  no capacity"
    )


def test_a_deletion_begins_with_its_own_event() -> None:
    creation = [event("demo", "CREATE_IN_PROGRESS"), event("Data", "CREATE_COMPLETE")]
    deletion = [event("demo", "DELETE_IN_PROGRESS", seconds=9), event("Data", "DELETE_COMPLETE", seconds=9)]

    assert of_operation(creation, "DELETE_COMPLETE") == []
    assert of_operation(creation + deletion, "DELETE_COMPLETE") == deletion


def test_resources_are_counted_once(captured: list[StackEvent]) -> None:
    made, seen = count_resources(captured, "CREATE_COMPLETE")

    assert 20 < made < seen


def test_a_nested_stack_is_found_in_its_parents_events() -> None:
    nested = event("Queues", "CREATE_IN_PROGRESS", type="AWS::CloudFormation::Stack")

    assert replace(nested, physical_id="").nested_stack_id is None
    assert (
        replace(nested, physical_id="arn:aws:cloudformation:nested").nested_stack_id == "arn:aws:cloudformation:nested"
    )
    assert event("demo", "CREATE_IN_PROGRESS").nested_stack_id is None
