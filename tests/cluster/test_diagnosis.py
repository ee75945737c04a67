"""From evidence to one error that says what to do; the sentences are CloudFormation's and ParallelCluster's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from hpc import errors
from hpc.cluster.diagnosis import Evidence, explain_creation, explain_deletion, gather_creation_evidence, read_events
from hpc.cluster.stacks import StackEvent, root_failures

from .test_stacks import event

WAIT_CONDITION = "AWS::CloudFormation::WaitCondition"


def failed(reason: str, type: str = "AWS::EC2::Instance") -> StackEvent:
    return event("HeadNode", "CREATE_FAILED", reason, type=type)


@pytest.mark.parametrize(
    ("failure", "error", "remedy"),
    [
        (
            failed(
                "We currently do not have sufficient c5.large capacity in the Availability Zone you requested"
                " (us-east-1a). (Service: Ec2, Status Code: 500)"
            ),
            errors.CapacityError,
            "other instance types or subnets",
        ),
        (failed("InsufficientInstanceCapacity"), errors.CapacityError, "other instance types or subnets"),
        (
            failed("You have requested more vCPU capacity than your current vCPU limit of 32 allows"),
            errors.QuotaError,
            "Service Quotas",
        ),
        (failed("(Code: FileSystemLimitExceeded)", "AWS::FSx::FileSystem"), errors.QuotaError, "Service Quotas"),
        (
            failed("API: iam:CreateRole User: arn:aws:iam::1:user/x is not authorized to perform: iam:CreateRole"),
            errors.PermissionDeniedError,
            "docs/running-on-aws.md",
        ),
        (failed("Rate exceeded (Service: Lambda)", "AWS::Lambda::Function"), errors.ThrottlingError, "try again"),
        (
            failed("WaitCondition timed out. Received 0 conditions when expecting 1", WAIT_CONDITION),
            errors.HeadNodeBootstrapError,
            "subnet has no way to the AWS endpoints",
        ),
        (
            failed(
                "The specified subnet does not have enough free addresses to satisfy the request. (Service: Ec2)",
                "AWS::EC2::NetworkInterface",
            ),
            errors.SubnetFullError,
            "cluster.alternatives",
        ),
        (
            failed("There are not enough free addresses in subnet 'subnet-1' to satisfy the requested number of i"),
            errors.SubnetFullError,
            "larger subnet",
        ),
        (
            failed("The subnet ID 'subnet-0e' does not exist (Service: Ec2, Status Code: 400)"),
            errors.NetworkError,
            "subnets that exist",
        ),
        (
            failed("WaitCondition received failed message: 'Failed to run chef recipe x'", WAIT_CONDITION),
            errors.HeadNodeBootstrapError,
            "bootstrap log",
        ),
        (
            failed("WaitCondition received failed message: 'AccessDenied: s3://x/script'", WAIT_CONDITION),
            errors.HeadNodeBootstrapError,
            "log",
        ),
        (failed("Something new"), errors.ClusterCreateFailedError, "failed resource"),
    ],
)
def test_the_first_failure_decides(failure: StackEvent, error: type[errors.HpcError], remedy: str) -> None:
    explained = explain_creation(Evidence("demo", "CREATE_FAILED", [failure]))

    assert type(explained) is error
    assert remedy in explained.remedy
    assert "Cluster demo could not be created (stack is CREATE_FAILED)" in str(explained)
    assert failure.reason in str(explained)


UNHEARD = failed("WaitCondition timed out. Received 0 conditions when expecting 1", WAIT_CONDITION)
BROKEN = failed("WaitCondition received failed message: 'Failed to run chef recipe x'", WAIT_CONDITION)


@pytest.mark.parametrize(
    ("failure", "facts", "error"),
    [
        (UNHEARD, {"silent": True, "log_group": "/aws/parallelcluster/demo-202611230217"}, errors.NetworkError),
        (UNHEARD, {"log_lines": ["Installing Slurm", "done"]}, errors.HeadNodeBootstrapError),
        (UNHEARD, {"log_lines": ["curl: (6) Could not resolve host: s3.amazonaws.com"]}, errors.NetworkError),
        (BROKEN, {"log_lines": ["Connect timeout on endpoint URL: https://dynamodb.x"]}, errors.NetworkError),
        (BROKEN, {"log_lines": ["connection to 10.0.0.5:988 timed out"]}, errors.NetworkError),
        (BROKEN, {"log_lines": ["FATAL: no such recipe"]}, errors.HeadNodeBootstrapError),
        (BROKEN, {"silent": True, "log_group": "/g"}, errors.HeadNodeBootstrapError),
    ],
)
def test_a_head_node_without_a_way_out_is_told_from_a_broken_one(
    failure: StackEvent, facts: dict[str, Any], error: type[errors.HpcError]
) -> None:
    explained = explain_creation(Evidence("demo", "CREATE_FAILED", [failure], **facts))

    assert type(explained) is error
    if error is errors.NetworkError:
        assert "a route to a NAT gateway, or VPC endpoints" in explained.remedy
    if "silent" in facts:
        assert f"has sent nothing to its log group {facts['log_group']}" in str(explained)


def test_the_message_shows_all_evidence() -> None:
    explained = explain_creation(
        Evidence(
            "demo",
            "ROLLBACK_IN_PROGRESS",
            failures=[failed("Failed to run chef recipe", WAIT_CONDITION)],
            said_by_parallelcluster=["HeadNodeBootstrapFailure: Failed to set up the head node."],
            log_name="/aws/parallelcluster/demo-202611230217 ip-10-0-0-1.i-1.chef-client",
            log_lines=["FATAL: it broke"],
            unknown=["the stack's events: AccessDenied"],
        )
    )

    for words in (
        "ParallelCluster says: HeadNodeBootstrapFailure",
        "chef-client",
        "| FATAL: it broke",
        "Not known: the",
    ):
        assert words in str(explained)


def test_what_cannot_be_looked_at_hides_nothing() -> None:
    class Refusing:
        def __getattr__(self, name: str) -> Any:
            raise PermissionError("not for you")

    def describe(cluster_name: str) -> dict[str, Any]:
        return {"failures": [{"failureCode": "FsxMountFailure", "failureReason": "Failed to mount FSX."}]}

    evidence = gather_creation_evidence(
        "demo", "demo", "CREATE_FAILED", cloudformation=Refusing(), logs=Refusing(), describe=describe
    )

    assert evidence.said_by_parallelcluster == ["FsxMountFailure: Failed to mount FSX."]
    assert evidence.unknown == ["the stack's events: not for you", "the bootstrap log: not for you"]
    assert isinstance(explain_creation(evidence), errors.HeadNodeBootstrapError)


def test_a_failed_deletion_names_what_refused_and_that_it_may_cost_money() -> None:
    refused = event("Data", "DELETE_FAILED", "resource has a dependent object", type="AWS::EC2::SecurityGroup")

    explained = explain_deletion(Evidence("demo", "DELETE_FAILED", [refused]))

    assert isinstance(explained, errors.ClusterDeleteFailedError)
    assert "Data (AWS::EC2::SecurityGroup): DELETE_FAILED: resource has a dependent object" in str(explained)
    assert "may cost money" in str(explained)


class Events:
    """CloudFormation's events, newest first, by stack."""

    def __init__(self, events: dict[str, list[dict[str, Any]]]) -> None:
        self.events = events

    def get_paginator(self, operation: str) -> Events:
        assert operation == "describe_stack_events"
        return self

    def paginate(self, *, StackName: str) -> list[dict[str, Any]]:
        return [{"StackEvents": self.events[StackName]}]


def test_a_nested_stack_does_not_hide_what_failed_beside_it() -> None:
    root, nested = (
        "arn:aws:cloudformation:us-east-1:1:stack/demo/1",
        "arn:aws:cloudformation:us-east-1:1:stack/queues/2",
    )
    stack = "AWS::CloudFormation::Stack"

    def told(minute: int, of: str, logical_id: str, physical_id: str, type: str, status: str) -> dict[str, Any]:
        return {
            "EventId": f"{of}-{logical_id}-{status}",
            "Timestamp": datetime(2026, 11, 23, 2, minute, tzinfo=UTC),
            **{"StackId": of, "StackName": of.split("/")[1], "LogicalResourceId": logical_id},
            **{"PhysicalResourceId": physical_id, "ResourceType": type, "ResourceStatus": status},
        }

    events = {
        root: [
            told(9, root, "HeadNode", "", "AWS::EC2::Instance", "CREATE_FAILED"),
            told(2, root, "Queues", nested, stack, "CREATE_COMPLETE"),
            told(0, root, "demo", root, stack, "CREATE_IN_PROGRESS"),
        ],
        nested: [
            told(2, nested, "queues", nested, stack, "CREATE_COMPLETE"),
            told(1, nested, "queues", nested, stack, "CREATE_IN_PROGRESS"),
        ],
    }

    found = read_events(Events(events), root, "CREATE_COMPLETE")

    assert [failure.logical_id for failure in root_failures(found)] == ["HeadNode"]
