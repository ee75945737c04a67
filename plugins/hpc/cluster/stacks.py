"""CloudFormation's side of a cluster: what a stack's status means, and its events as lines for a log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Literal

Target = Literal["CREATE_COMPLETE", "DELETE_COMPLETE"]


class Progress(Enum):
    """How far a stack is on its way to a target."""

    WAITING = "waiting"
    REACHED = "reached"
    FAILED = "failed"


#: Every status that CloudFormation knows, on the way to a usable stack. Source: the API's `StackStatus`.
ON_THE_WAY_TO_CREATED: Mapping[str, Progress] = {
    "REVIEW_IN_PROGRESS": Progress.WAITING,
    "CREATE_IN_PROGRESS": Progress.WAITING,
    "CREATE_COMPLETE": Progress.REACHED,
    "CREATE_FAILED": Progress.FAILED,
    "ROLLBACK_IN_PROGRESS": Progress.FAILED,
    "ROLLBACK_FAILED": Progress.FAILED,
    "ROLLBACK_COMPLETE": Progress.FAILED,
    "DELETE_IN_PROGRESS": Progress.FAILED,
    "DELETE_FAILED": Progress.FAILED,
    "DELETE_COMPLETE": Progress.FAILED,
    "UPDATE_IN_PROGRESS": Progress.WAITING,
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": Progress.REACHED,
    "UPDATE_COMPLETE": Progress.REACHED,
    "UPDATE_FAILED": Progress.FAILED,
    "UPDATE_ROLLBACK_IN_PROGRESS": Progress.WAITING,
    "UPDATE_ROLLBACK_FAILED": Progress.FAILED,
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": Progress.REACHED,
    "UPDATE_ROLLBACK_COMPLETE": Progress.REACHED,
    "IMPORT_IN_PROGRESS": Progress.WAITING,
    "IMPORT_COMPLETE": Progress.REACHED,
    "IMPORT_ROLLBACK_IN_PROGRESS": Progress.WAITING,
    "IMPORT_ROLLBACK_FAILED": Progress.FAILED,
    "IMPORT_ROLLBACK_COMPLETE": Progress.REACHED,
}
ON_THE_WAY_TO_DELETED: Mapping[str, Progress] = {
    "DELETE_COMPLETE": Progress.REACHED,
    "DELETE_FAILED": Progress.FAILED,
}


def progress(status: str, target: Target) -> Progress:
    """Say what a status means for a target. One that is in neither table is waited on: it may be new to us."""
    table = ON_THE_WAY_TO_CREATED if target == "CREATE_COMPLETE" else ON_THE_WAY_TO_DELETED
    return table.get(status, Progress.WAITING)


@dataclass(frozen=True)
class Stack:
    """A stack as `DescribeStacks` answers."""

    name: str
    id: str
    status: str
    reason: str
    tags: Mapping[str, str]
    created: datetime | None = None

    @classmethod
    def parse(cls, answer: Mapping[str, Any]) -> Stack:
        """Read the first stack of an answer."""
        stack = answer["Stacks"][0]
        return cls(
            name=stack["StackName"],
            id=stack["StackId"],
            status=stack["StackStatus"],
            reason=stack.get("StackStatusReason", ""),
            tags={tag["Key"]: tag["Value"] for tag in stack.get("Tags", [])},
            created=stack.get("CreationTime"),
        )


def says_missing(error: Exception) -> bool:
    """Say whether botocore's error means that there is no such stack. Any other error leaves it unknown."""
    answer = getattr(error, "response", {}).get("Error", {})
    return answer.get("Code") == "ValidationError" and "does not exist" in answer.get("Message", "")


def describe_stack(client: Any, name: str) -> Stack | None:
    """Return a stack by name or id; None only when CloudFormation says that there is none."""
    from botocore.exceptions import ClientError

    from hpc.aws_errors import aws_errors

    with aws_errors():
        try:
            return Stack.parse(client.describe_stacks(StackName=name))
        except ClientError as error:
            if says_missing(error):
                return None
            raise


@dataclass(frozen=True)
class StackEvent:
    """One event of `DescribeStackEvents`."""

    id: str
    time: datetime
    stack_id: str
    stack_name: str
    logical_id: str
    physical_id: str
    type: str
    status: str
    reason: str

    @classmethod
    def parse(cls, event: Mapping[str, Any]) -> StackEvent:
        """Read one event."""
        return cls(
            id=event["EventId"],
            time=event["Timestamp"],
            stack_id=event["StackId"],
            stack_name=event["StackName"],
            logical_id=event.get("LogicalResourceId", ""),
            physical_id=event.get("PhysicalResourceId", ""),
            type=event.get("ResourceType", ""),
            status=event.get("ResourceStatus", ""),
            reason=event.get("ResourceStatusReason", ""),
        )

    @property
    def is_of_stack_itself(self) -> bool:
        """Whether the event tells of the stack, not of a resource in it."""
        return self.physical_id == self.stack_id

    @property
    def nested_stack_id(self) -> str | None:
        """The id of the nested stack that the event tells of."""
        nested = self.type == "AWS::CloudFormation::Stack" and not self.is_of_stack_itself
        return self.physical_id if nested and self.physical_id.startswith("arn:") else None

    @property
    def failed(self) -> bool:
        """Whether a resource failed by itself; those that were cancelled because another failed do not count."""
        cancelled = "resource creation cancelled" in self.reason.lower()
        return self.status.endswith("_FAILED") and not cancelled

    def line(self) -> str:
        """Return the event as one line of a log."""
        text = f"{self.time:%H:%M:%S}  {self.logical_id}  {self.type}  {self.status}"
        return f"{text}  {' '.join(self.reason.split())}" if self.reason else text


def of_operation(events: Sequence[StackEvent], target: Target) -> list[StackEvent]:
    """Return the events, oldest first, since the stack's creation or deletion began; none when it has not.

    `events` are one stack's, oldest first.
    """
    begin = target.replace("COMPLETE", "IN_PROGRESS")
    starts = [number for number, event in enumerate(events) if event.is_of_stack_itself and event.status == begin]
    return list(events[starts[-1] :]) if starts else []


def count_resources(events: Iterable[StackEvent], target: Target) -> tuple[int, int]:
    """Return how many resources have reached the target, and how many have been seen at all."""
    latest = {(event.stack_id, event.logical_id): event.status for event in events if not event.is_of_stack_itself}
    return sum(status == target for status in latest.values()), len(latest)


def root_failures(events: Iterable[StackEvent]) -> list[StackEvent]:
    """Return the resources' own failures, oldest first; a nested stack only repeats those of its resources."""
    failed = sorted((event for event in events if event.failed), key=lambda event: event.time)
    resources = [event for event in failed if event.type != "AWS::CloudFormation::Stack"]
    return resources or failed
