"""The endpoint before the local region's: it changes nothing, unless a fault is armed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError

from chaos.lifecycle.endpoint import Endpoint, open_endpoint
from chaos.lifecycle.plan import Fault, Injection

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

CALLS = {
    "ec2": lambda client: client.describe_instances(),
    "cloudformation": lambda client: client.describe_stacks(),
    "dynamodb": lambda client: client.list_tables(),
    "logs": lambda client: client.describe_log_groups(),
    "s3": lambda client: client.list_buckets(),
    "sts": lambda client: client.get_caller_identity(),
    "cloudwatch": lambda client: client.describe_alarms(),
    "route53": lambda client: client.list_hosted_zones(),
    "fsx": lambda client: client.describe_file_systems(),
    "efs": lambda client: client.describe_file_systems(),
}


@pytest.fixture
async def endpoint(region: LocalRegion) -> AsyncIterator[Endpoint]:
    """An endpoint before the region's."""
    async with open_endpoint(region.endpoint_url) as endpoint:
        yield endpoint


async def ask(region: LocalRegion, endpoint: Endpoint, service: str, call: Any) -> Any:
    """Ask a service by the endpoint, once."""
    make_client: Any = boto3.client
    client = make_client(
        service,
        region_name=region.region,
        endpoint_url=endpoint.url,
        aws_access_key_id=region.access_key_id,
        aws_secret_access_key=region.secret_access_key,
        config=Config(retries={"total_max_attempts": 1}),
    )
    return await asyncio.to_thread(call, client)


def arm(endpoint: Endpoint, fault: Fault, *, call: int = 0, calls: int = 1) -> Any:
    return endpoint.arm(Injection(fault, call=call, calls=calls))


@pytest.mark.parametrize("service", CALLS)
async def test_each_protocol_passes_and_is_refused_in_its_own_words(
    region: LocalRegion, endpoint: Endpoint, service: str
) -> None:
    await ask(region, endpoint, service, CALLS[service])
    for fault, code in ((Fault.THROTTLED, "Throttling|SlowDown"), (Fault.EXPIRED, "ExpiredToken")):
        armed = arm(endpoint, fault)
        with pytest.raises(ClientError, match=code):
            await ask(region, endpoint, service, CALLS[service])
        assert armed.hits == 1
    await ask(region, endpoint, service, CALLS[service])


async def test_a_fault_strikes_at_its_call_as_often_as_it_is_meant_to(region: LocalRegion, endpoint: Endpoint) -> None:
    armed = arm(endpoint, Fault.ERROR, call=1, calls=2)
    seen = []
    for _ in range(4):
        try:
            await ask(region, endpoint, "sts", CALLS["sts"])
        except ClientError:
            seen.append("error")
        else:
            seen.append("answer")
    assert seen == ["answer", "error", "error", "answer"]
    assert armed.hits == 2


@pytest.mark.parametrize(("fault", "is_done"), [(Fault.CUT, False), (Fault.UNHEARD, True)])
async def test_a_call_whose_answer_is_lost_is_done_and_one_that_is_cut_is_not(
    region: LocalRegion, endpoint: Endpoint, fault: Fault, is_done: bool
) -> None:
    key = f"endpoint/{fault.name}"
    arm(endpoint, fault)
    with pytest.raises(HTTPClientError):
        await ask(region, endpoint, "s3", lambda s3: s3.put_object(Bucket=region.bucket, Key=key, Body=b"text"))
    listed = region.client("s3").list_objects_v2(Bucket=region.bucket, Prefix=key)
    assert listed["KeyCount"] == int(is_done)


async def test_writes_are_denied_and_nothing_else(region: LocalRegion, endpoint: Endpoint) -> None:
    arm(endpoint, Fault.S3_DENIED, calls=9)
    await ask(region, endpoint, "s3", CALLS["s3"])
    with pytest.raises(ClientError, match="AccessDenied"):
        await ask(region, endpoint, "s3", lambda s3: s3.put_object(Bucket=region.bucket, Key="no", Body=b"text"))


async def test_a_corrupted_write_arrives_changed_and_s3_refuses_its_checksum(
    region: LocalRegion, endpoint: Endpoint
) -> None:
    def put(s3: Any) -> Any:
        return s3.put_object(Bucket=region.bucket, Key="endpoint/sum", Body=b"text", ChecksumSHA256=checksum)

    checksum = base64.b64encode(hashlib.sha256(b"text").digest()).decode()
    arm(endpoint, Fault.S3_CORRUPTED)
    with pytest.raises(ClientError, match="BadDigest"):
        await ask(region, endpoint, "s3", put)
    await ask(region, endpoint, "s3", put)


async def test_large_bodies_pass_both_ways(region: LocalRegion, endpoint: Endpoint) -> None:
    body = bytes(range(256)) * 20_000
    await ask(region, endpoint, "s3", lambda s3: s3.put_object(Bucket=region.bucket, Key="large", Body=body))
    read = await ask(region, endpoint, "s3", lambda s3: s3.get_object(Bucket=region.bucket, Key="large")["Body"].read())
    assert read == body
    head = await ask(region, endpoint, "s3", lambda s3: s3.head_object(Bucket=region.bucket, Key="large"))
    assert head["ContentLength"] == len(body)
