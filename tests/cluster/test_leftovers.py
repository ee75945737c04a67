"""The proof that nothing is left, against the local region with things left on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from botocore.exceptions import ClientError

from hpc import errors
from hpc.cluster import removal
from hpc.cluster.delete_operator import ParallelClusterDeleteOperator
from hpc.cluster.install import HOME_VARIABLE
from hpc.cluster.leftovers import LOOKS, TAG, Wanted, find_kept, find_leftovers

from .conftest import driver

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
    findings = find_leftovers(NAME, region.client)

    assert {leftover.kind: leftover.id for leftover in findings.found} == things
    assert len(findings.found) == len(things)
    assert findings.unknown == ()
    # A stack has no price of its own; the rest is 1 GiB of gp2, 1,200 of scratch Lustre, and list prices.
    costs = {leftover.kind: leftover.monthly for leftover in findings.billing}
    assert costs.pop("EC2 instance") == pytest.approx(0.0104 * 730)
    assert costs == {
        "CloudFormation stack": None,
        "EBS volume": pytest.approx(0.10),
        "Elastic IP address": pytest.approx(3.65),
        "FSx file system": pytest.approx(168),
        "EFS file system": 0.01,
        "Route 53 zone": 0.50,
        "CloudWatch alarm": 0.10,
        "CloudWatch dashboard": 3.00,
    }
    assert findings.cost.startswith("at least about $0.")


def test_of_a_cluster_that_never_was_nothing_is_left(region: LocalRegion, things: dict[str, str]) -> None:
    assert find_leftovers("never-was", region.client).is_proof


def test_what_lost_its_tags_is_found_by_its_id(region: LocalRegion) -> None:
    ec2 = region.client("ec2")
    zone = f"{region.region}a"
    volume = ec2.create_volume(AvailabilityZone=zone, Size=1)["VolumeId"]
    system = region.client("fsx").create_file_system(
        FileSystemType="LUSTRE", StorageCapacity=1200, SubnetIds=[region.compute_subnet_id]
    )["FileSystem"]["FileSystemId"]

    made = {"AWS::EC2::Volume": [volume, "vol-00000000000000000"], "AWS::FSx::FileSystem": [system]}
    findings = find_leftovers("without-tags", region.client, made)

    assert {leftover.id for leftover in findings.found} == {volume, system}
    assert find_leftovers("without-tags", region.client).is_proof


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
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
        list(look(Wanted(NAME, lambda service: Refusing(), {})))


def refusing(region: LocalRegion, *services: str) -> Any:
    """Return clients of which some services' are denied."""

    def client(service: str) -> Any:
        if service in services:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, f"Ask{service.title()}")
        return region.client(service)

    return client


def test_a_denied_service_hides_nothing_of_the_others(region: LocalRegion, things: dict[str, str]) -> None:
    findings = find_leftovers(NAME, refusing(region, "route53", "efs"))

    kinds = {leftover.kind for leftover in findings.found}
    assert kinds == set(things) - {"Route 53 zone", "EFS file system"}
    assert [question.split(":")[0] for question in findings.unknown] == ["EFS file systems", "Route 53 zones"]
    assert "AskRoute53" in findings.unknown[1]
    assert "docs/running-on-aws.md" in findings.unknown[1]


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


#: What is never removed: it holds data, or goes by its own deletion.
FOR_PEOPLE = {"CloudFormation stack", "EBS volume", "FSx file system", "EFS file system"}


@pytest.mark.parametrize("place", ["eu-west-1:123456789012", "us-east-1:210987654321"], ids=["region", "account"])
def test_nothing_is_believed_to_be_gone_in_another_region_or_account(
    region: LocalRegion, context: Any, place: str
) -> None:
    made = f"arn:aws:cloudformation:{place}:stack/elsewhere/1"
    with pytest.raises(
        errors.LeftoversUnknownError, match=f"was made in {place.partition(':')[0]} of account"
    ) as raised:
        driver(context)(delete("elsewhere", stack_id=made))
    assert "hpc_site" in raised.value.remedy
    here = "arn:aws:cloudformation:us-east-1:123456789012:stack/elsewhere/1"
    assert driver(context)(delete("elsewhere", stack_id=here))["stack"] == "gone"


def test_what_is_safe_is_removed_and_what_holds_data_is_an_error_with_its_price(
    region: LocalRegion, context: Any
) -> None:
    things = leave_things(region, "stays")
    operator = delete("stays", settle_seconds=60, deferrable=False)
    first, _ = removal.remove(find_leftovers("stays", region.client).found, region.client)
    assert {thing.kind for thing in first} == set(things) - FOR_PEOPLE
    operator.settle_seconds = 0

    with pytest.raises(errors.LeftoversError) as caught:
        operator.look_again(context, started=0)

    message = str(caught.value)
    assert [kind for kind, identifier in things.items() if f"{kind} {identifier}" in message] == [
        kind for kind in things if kind in FOR_PEOPLE
    ]
    assert f"FSx file system {things['FSx file system']} (AVAILABLE, $168.00 a month)" in message
    assert "at least about $0.23 an hour" in message


def test_what_was_removed_is_told(region: LocalRegion, context: Any, drive: Any) -> None:
    subnet = region.compute_subnet_id
    tags = [{"ResourceType": "instance", "Tags": [{"Key": TAG, "Value": "orphan"}]}]
    ec2 = region.client("ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    run = {"ImageId": image, "MinCount": 1, "MaxCount": 1, "InstanceType": "c5.large", "SubnetId": subnet}
    (instance,) = ec2.run_instances(**run, TagSpecifications=tags)["Instances"]

    deleted = drive(delete("orphan", settle_seconds=60))

    assert deleted["leftovers"] == []
    assert deleted["removed"] == [f"EC2 instance {instance['InstanceId']} (running, $62.05 a month)"]


def test_what_is_not_known_fails_the_deletion_even_when_nothing_is_found(
    region: LocalRegion, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = delete("denied", settle_seconds=0)
    monkeypatch.setattr(operator.account, "client", refusing(region, "efs"))

    with pytest.raises(errors.LeftoversUnknownError, match=r"Not known: EFS file systems: .*AskEfs"):
        operator.look_again(context, started=0)


def test_what_is_only_slow_to_go_is_waited_for(region: LocalRegion, context: Any) -> None:
    ec2 = region.client("ec2")
    tags = [{"ResourceType": "volume", "Tags": [{"Key": TAG, "Value": "slow-to-go"}]}]
    volume = ec2.create_volume(AvailabilityZone=f"{region.region}a", Size=1, TagSpecifications=tags)["VolumeId"]
    operator = delete("slow-to-go", settle_seconds=60)
    with pytest.raises(TaskDeferred) as deferred:
        operator.look_again(context, started=0)
    ec2.delete_volume(VolumeId=volume)

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
