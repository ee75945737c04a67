"""What is kept of a cluster: the events of a stack."""

from __future__ import annotations

import json
import re
from typing import Any

import boto3
import pytest

from hpc.cluster.history import cluster_history
from hpc.errors import HpcError
from tests.results.conftest import aws, endpoint, strict

__all__ = ["aws", "endpoint", "strict"]

pytestmark = pytest.mark.region

TEMPLATE = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "remembered"}}}}


def test_the_events_of_the_stack_are_told_oldest_first(aws: str) -> None:
    make_client: Any = boto3.client
    cloudformation = make_client("cloudformation", endpoint_url=aws)
    cloudformation.create_stack(StackName="remembered", TemplateBody=json.dumps(TEMPLATE))
    try:
        documents = cluster_history("remembered", aws_conn_id="aws_default", region_name=None)
        lines = documents["stack-events.txt"].splitlines()
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  remembered  AWS::CloudFormation::Stack  CREATE_", lines[0])
        assert lines[-1].endswith("CREATE_COMPLETE")
    finally:
        cloudformation.delete_stack(StackName="remembered")


def test_no_stack_is_an_error_of_ours(aws: str) -> None:
    with pytest.raises(HpcError, match="never-made does not exist"):
        cluster_history("never-made", aws_conn_id="aws_default", region_name=None)
