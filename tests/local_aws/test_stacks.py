"""The order in which a stack's resources are created, their tags, and many stacks at the same time."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from local_aws.faults import Faults
from local_aws.stacks import StackWork, creation_order, references

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion


@pytest.mark.parametrize(
    ("node", "names"),
    [
        ({"Ref": "A"}, ["A"]),
        ({"Fn::GetAtt": ["A", "Arn"]}, ["A"]),
        ({"Fn::GetAtt": "A.Arn"}, ["A"]),
        ({"Fn::Sub": "x-${A}-${B.Arn}-${!literal}"}, ["A", "B"]),
        ({"Fn::Sub": ["${A}-${X}", {"X": {"Ref": "B"}}]}, ["A", "X", "B"]),
        ({"DependsOn": "A"}, ["A"]),
        ({"DependsOn": ["A", "B"]}, ["A", "B"]),
        ({"Fn::Join": ["", ["x", {"Ref": "A"}]]}, ["A"]),
    ],
)
def test_references(node: dict[str, Any], names: list[str]) -> None:
    assert list(references(node)) == names


def test_each_resource_comes_after_all_that_it_refers_to() -> None:
    resources = {
        "Alarm": {"Type": "X", "DependsOn": "Wait", "Properties": {"Id": {"Ref": "Head"}}},
        "Head": {"Type": "AWS::EC2::Instance", "Properties": {"Template": {"Ref": "Template"}}},
        "Template": {"Type": "X", "Properties": {"Data": {"Fn::Sub": "${Handle}"}}},
        "Handle": {"Type": "X"},
        "Wait": {"Type": "AWS::CloudFormation::WaitCondition", "Properties": {"Handle": {"Ref": "Handle"}}},
    }
    order = creation_order(resources)
    assert sorted(order) == sorted(resources)
    for before, after in [("Handle", "Template"), ("Template", "Head"), ("Head", "Wait"), ("Wait", "Alarm")]:
        assert order.index(before) < order.index(after)


@pytest.mark.region
def test_the_tags_of_a_stack_are_those_of_what_it_makes(region: LocalRegion) -> None:
    vpc = {"VPCId": region.vpc_id, "VPCRegion": region.region}
    table: dict[str, Any] = {
        "TableName": "parallelcluster-tagged",
        "KeySchema": [{"AttributeName": "Id", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "Id", "AttributeType": "S"}],
        "BillingMode": "PAY_PER_REQUEST",
    }
    alarm = {
        "AlarmName": "tagged-HeadNode-Cpu",
        "Namespace": "n",
        "MetricName": "m",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanThreshold",
        "Statistic": "Maximum",
    }
    resources: dict[str, Any] = {
        "Zone": {"Type": "AWS::Route53::HostedZone", "Properties": {"Name": "tagged.pcluster.", "VPCs": [vpc]}},
        "Table": {"Type": "AWS::DynamoDB::Table", "Properties": table},
        "Alarm": {"Type": "AWS::CloudWatch::Alarm", "Properties": alarm},
    }
    cloudformation, route53 = region.client("cloudformation"), region.client("route53")
    cloudformation.create_stack(
        StackName="tagged",
        TemplateBody=json.dumps({"Resources": resources}),
        Tags=[{"Key": "parallelcluster:cluster-name", "Value": "tagged"}],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName="tagged", WaiterConfig={"Delay": 1})
    found = region.client("resourcegroupstaggingapi").get_resources(
        TagFilters=[{"Key": "parallelcluster:cluster-name", "Values": ["tagged"]}],
        ResourceTypeFilters=["cloudwatch:alarm", "dynamodb:table"],
    )["ResourceTagMappingList"]
    assert sorted(each["ResourceARN"].rpartition(":")[2] for each in found) == [
        "table/parallelcluster-tagged",
        "tagged-HeadNode-Cpu",
    ]
    (zone,) = route53.list_hosted_zones_by_name(DNSName="tagged.pcluster.")["HostedZones"]
    zone_id = zone["Id"].rpartition("/")[2]
    assert zone["Config"]["PrivateZone"]
    assert route53.get_hosted_zone(Id=zone_id)["VPCs"] == [vpc]
    tags = route53.list_tags_for_resource(ResourceType="hostedzone", ResourceId=zone_id)["ResourceTagSet"]["Tags"]
    assert {"Key": "aws:cloudformation:logical-id", "Value": "Zone"} in tags
    assert {"Key": "parallelcluster:cluster-name", "Value": "tagged"} in tags
    cloudformation.delete_stack(StackName="tagged")
    cloudformation.get_waiter("stack_delete_complete").wait(StackName="tagged", WaiterConfig={"Delay": 1})
    assert route53.list_hosted_zones_by_name(DNSName="tagged.pcluster.")["HostedZones"] == []


def test_stacks_that_are_made_at_the_same_time_change_one_resource_at_a_time() -> None:
    inside, most = 0, 0

    class Resources(dict[str, Any]):
        def __init__(self) -> None:
            self._parsed_resources: dict[str, Any] = {}

        def __missing__(self, logical_id: str) -> object:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1
            return object()

    def make(name: str) -> None:
        stack = SimpleNamespace(
            stack_id=name,
            name=name,
            account_id="1",
            region_name="eu-west-1",
            status="CREATE_IN_PROGRESS",
            tags={},
            events=[],
            template_dict={"Resources": {f"Role{number}": {"Type": "AWS::IAM::Role"} for number in range(5)}},
            resource_map=Resources(),
            _add_stack_event=lambda *_: None,
        )
        head_nodes: Any = SimpleNamespace(stack_created=lambda stack: None)
        StackWork(stack, head_nodes, Faults()).create()
        made.append(stack.status)

    made = list[str]()
    threads = [threading.Thread(target=make, args=(f"stack-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (made, most) == (["CREATE_COMPLETE"] * 4, 1)


@pytest.mark.region
def test_of_many_who_make_a_stack_of_one_name_at_the_same_time_one_succeeds(region: LocalRegion) -> None:
    # As YAML, like the template of a cluster: reading it takes long enough for all of them to come.
    lines = ["Resources: {Topic: {Type: AWS::SNS::Topic}}", "Metadata:", *(f"  key{n}: [{n}]" for n in range(3000))]
    request = {"StackName": "one-name", "TemplateBody": "\n".join(lines)}
    clients = [region.client("cloudformation") for _ in range(8)]

    def make(client: Any) -> str:
        try:
            return str(client.create_stack(**request)["StackId"])
        except client.exceptions.AlreadyExistsException:
            return ""

    with ThreadPoolExecutor(len(clients)) as pool:
        made = [stack for stack in pool.map(make, clients) if stack]
    for stack in made:
        clients[0].delete_stack(StackName=stack)
        clients[0].get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    assert len(made) == 1
