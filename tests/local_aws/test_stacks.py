"""The order in which a stack's resources are created."""

from __future__ import annotations

from typing import Any

import pytest

from local_aws.stacks import creation_order, references


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
