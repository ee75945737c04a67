"""What follows on a deletion that failed: from the resources that refused to the next try."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hpc.cluster.deletion import BUSY_TRIES, LONGEST_PAUSE, PLAIN_TRIES, TRIES_WITHOUT, next_try
from hpc.cluster.stacks import StackEvent

STACK = "arn:aws:cloudformation:us-east-1:1:stack/demo/1"
NESTED = "arn:aws:cloudformation:us-east-1:1:stack/demo-nested/2"
#: Sentences of CloudFormation and EC2, as their users report them.
BUSY = [
    "The placement group 'demo-pg' is in use and may not be deleted. (Service: AmazonEC2; Error Code: "
    "InvalidPlacementGroup.InUse)",
    "resource sg-0123 has a dependent object (Service: AmazonEC2; Status Code: 400; Error Code: DependencyViolation)",
    "Network interface eni-0123 is currently in use. (Error Code: InvalidNetworkInterface.InUse)",
    "Cannot delete file system while a data repository task is executing",
    "Rate exceeded (Service: AmazonCloudWatch; Status Code: 400; Error Code: Throttling)",
]
REFUSED = "Cannot delete entity, must detach all policies first."


def failure(
    reason: str, type: str = "AWS::IAM::Role", logical_id: str = "RoleHeadNode", stack: str = STACK
) -> StackEvent:
    return StackEvent("1", datetime.now(UTC), stack, "demo", logical_id, "x", type, "DELETE_FAILED", reason)


@pytest.mark.parametrize("reason", BUSY)
def test_what_is_in_use_is_waited_for_longer_each_time(reason: str) -> None:
    steps = [next_try([failure(reason)], tries, 15) for tries in range(1, BUSY_TRIES)]

    pauses = [step.pause for step in steps if step and not step.retain and "still in use" in step.why]
    assert pauses == [min(15 * 2.0**n, LONGEST_PAUSE) for n in range(BUSY_TRIES - 1)]


def test_what_refuses_twice_is_left_behind_and_the_rest_deleted() -> None:
    role, nested = failure(REFUSED), failure(REFUSED, logical_id="Bucket", type="AWS::S3::Bucket", stack=NESTED)
    assert (first := next_try([role, nested], 1, 15)) is not None
    assert first.retain == {}

    step = next_try([role, nested], PLAIN_TRIES, 15)

    assert step is not None
    assert step.retain == {STACK: ["RoleHeadNode"], NESTED: ["Bucket"]}
    assert (
        step.why
        == "RoleHeadNode (AWS::IAM::Role), Bucket (AWS::S3::Bucket) refuses, so the stack is deleted without it"
    )
    assert next_try([role, nested], PLAIN_TRIES + TRIES_WITHOUT, 15) is None


@pytest.mark.parametrize("type", ["AWS::FSx::FileSystem", "AWS::EC2::Instance"])
def test_what_holds_data_or_computes_is_never_left_behind(type: str) -> None:
    assert next_try([failure(REFUSED, type), failure(REFUSED)], PLAIN_TRIES, 15) is None


def test_a_failure_without_a_resource_is_tried_again_and_given_up() -> None:
    assert next_try([], 1, 15) is not None
    assert next_try([], PLAIN_TRIES, 15) is None
