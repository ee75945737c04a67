"""The proof that nothing is left, against the local region with things left on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from botocore.exceptions import ClientError

from hpc import errors
from hpc.cluster.install import HOME_VARIABLE
from hpc.cluster.leftovers import LOOKS, TAG, find_kept, find_leftovers
from hpc.cluster.operators import ParallelClusterDeleteOperator

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

pytestmark = [pytest.mark.region, pytest.mark.usefixtures("connections")]

NAME = "litter"
#: A cluster whose name begins alike: nothing of it may be taken for a leftover of the other.
ALIKE = "litter-2"


def leave_things(region: LocalRegion, name: str) -> dict[str, str]:
    """Make one of each kind for a cluster; return kind -> id."""
    ec2 = region.client("ec2")
    tags = [{"Key": TAG, "Value": name}]
    subnet = region.compute_subnet_id

    def spec(kind: str) -> list[dict[str, Any]]:
        return [{"ResourceType": kind, "Tags": tags}]

    image = ec2.describe_images()["Images"][0]["ImageId"]
    instance = ec2.run_instances(
        ImageId=image,
        MinCount=1,
        MaxCount=1,
        InstanceType="t3.micro",
        SubnetId=subnet,
        TagSpecifications=spec("instance"),
    )
    template = ec2.create_launch_template(
        LaunchTemplateName=f"{name}-compute-nodes",
        LaunchTemplateData={"InstanceType": "t3.micro"},
        TagSpecifications=spec("launch-template"),
    )
    table = f"parallelcluster-slurm-{name}"
    region.client("dynamodb").create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "Id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "Id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    cloudwatch = region.client("cloudwatch")
    alarm = f"{name}-HeadNode-Cpu"
    cloudwatch.put_metric_alarm(
        AlarmName=alarm,
        Namespace="n",
        MetricName="m",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanThreshold",
        Statistic="Maximum",
    )
    dashboard = f"{name}-{region.region}"
    cloudwatch.put_dashboard(DashboardName=dashboard, DashboardBody='{"widgets": []}')
    zone = region.client("route53").create_hosted_zone(Name=f"{name}.pcluster.", CallerReference=name)
    stack = f"{name}-nested"
    region.client("cloudformation").create_stack(
        StackName=stack, TemplateBody='{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}', Tags=tags
    )
    fsx = region.client("fsx").create_file_system(
        FileSystemType="LUSTRE", StorageCapacity=1200, SubnetIds=[subnet], Tags=tags
    )
    return {
        "CloudFormation stack": stack,
        "EC2 instance": instance["Instances"][0]["InstanceId"],
        "EBS volume": ec2.create_volume(AvailabilityZone=f"{region.region}a", Size=1, TagSpecifications=spec("volume"))[
            "VolumeId"
        ],
        "network interface": ec2.create_network_interface(SubnetId=subnet, TagSpecifications=spec("network-interface"))[
            "NetworkInterface"
        ]["NetworkInterfaceId"],
        "security group": ec2.create_security_group(
            GroupName=f"{name}-nodes", Description="d", VpcId=region.vpc_id, TagSpecifications=spec("security-group")
        )["GroupId"],
        "launch template": template["LaunchTemplate"]["LaunchTemplateId"],
        "Elastic IP address": ec2.allocate_address(Domain="vpc", TagSpecifications=spec("elastic-ip"))["AllocationId"],
        "FSx file system": fsx["FileSystem"]["FileSystemId"],
        "EFS file system": region.client("efs").create_file_system(CreationToken=name, Tags=tags)["FileSystemId"],
        "Route 53 zone": zone["HostedZone"]["Id"].rpartition("/")[2],
        "DynamoDB table": table,
        "CloudWatch alarm": alarm,
        "CloudWatch dashboard": dashboard,
    }


@pytest.fixture(scope="module")
def things(region: LocalRegion) -> dict[str, str]:
    left = leave_things(region, NAME)
    leave_things(region, ALIKE)
    return left


def test_every_kind_is_found_and_nothing_of_a_cluster_with_a_name_alike(
    region: LocalRegion, things: dict[str, str]
) -> None:
    found = find_leftovers(NAME, region.client)

    assert {leftover.kind: leftover.id for leftover in found} == things
    assert len(found) == len(things)


def test_of_a_cluster_that_never_was_nothing_is_left(region: LocalRegion, things: dict[str, str]) -> None:
    assert find_leftovers("never-was", region.client) == []


@pytest.mark.parametrize("look", LOOKS)
def test_a_refused_question_is_not_an_empty_answer(look: Any) -> None:
    class Refusing:
        class meta:
            region_name = "us-east-1"

        def __getattr__(self, name: str) -> Any:
            def refuse(*_: Any, **__: Any) -> Any:
                raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, name)

            if name == "get_paginator":
                return lambda operation: Refusing()
            return refuse

    with pytest.raises((ClientError, errors.PermissionDeniedError), match="AccessDenied"):
        list(look(NAME, lambda service: Refusing()))


def test_a_missing_permission_is_named(region: LocalRegion) -> None:
    def clients(service: str) -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "DescribeStacks")

    with pytest.raises(errors.PermissionDeniedError, match="DescribeStacks"):
        find_leftovers(NAME, clients)


def test_log_groups_are_kept_by_their_full_name(region: LocalRegion) -> None:
    logs = region.client("logs")
    for name in ("kept-202611230100", "kept-202611230200", "kept-2-202611230100", "kept-notes"):
        logs.create_log_group(logGroupName=f"/aws/parallelcluster/{name}")

    assert find_kept("kept", region.client) == [
        "/aws/parallelcluster/kept-202611230100",
        "/aws/parallelcluster/kept-202611230200",
    ]


def delete(name: str, **arguments: Any) -> ParallelClusterDeleteOperator:
    return ParallelClusterDeleteOperator(
        task_id="delete_cluster", cluster_name=name, region_name="us-east-1", waiter_delay=1, **arguments
    )


def test_what_stays_is_an_error_that_names_it(context: Any, things: dict[str, str]) -> None:
    with pytest.raises(errors.LeftoversError) as caught:
        delete(NAME, settle_seconds=0).look_again(context, started=0)

    for kind, identifier in things.items():
        assert f"{kind} {identifier}" in str(caught.value)
    assert "may cost money" in str(caught.value)


def test_what_is_only_slow_to_go_is_waited_for(region: LocalRegion, context: Any) -> None:
    region.start_cluster("slow-to-go")
    operator = delete("slow-to-go", settle_seconds=60)
    with pytest.raises(TaskDeferred) as deferred:
        operator.look_again(context, started=0)
    region.stop_cluster("slow-to-go")

    resumed = getattr(operator, deferred.value.method_name)(context, event=None, **deferred.value.kwargs)

    assert resumed["leftovers"] == []


def test_a_stack_that_comes_while_its_creation_is_being_ended_is_deleted(
    region: LocalRegion, context: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))  # without ParallelCluster, the stack is deleted directly
    cloudformation = region.client("cloudformation")
    operator = delete("late-comer", settle_seconds=0)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    template = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'
    cloudformation.create_stack(StackName="late-comer", TemplateBody=template)

    with pytest.raises(TaskDeferred) as waiting:
        getattr(operator, deferred.value.method_name)(context, event=None, **deferred.value.kwargs)

    assert waiting.value.method_name == "execute_complete"
    (stack,) = cloudformation.describe_stacks(StackName=waiting.value.trigger.stack)["Stacks"]
    assert stack["StackStatus"].startswith("DELETE_")
