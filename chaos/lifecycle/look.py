"""What is there of a cluster and of its results: asked of the region itself, whatever the product found."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hpc.cluster.pool import PoolStore
from hpc.errors import HpcError
from hpc.names import pool_cluster_name
from hpc.results.receipt import load_receipt, verify_receipt
from local_aws.testing import LocalRegion

NAME_TAG = "parallelcluster:cluster-name"
OUR_TAG = "airflow-parallelcluster:simulation"
#: Of an instance that costs money, or will.
_ALIVE = ["pending", "running", "stopping", "stopped"]
_NO_STACK = {"DELETE_COMPLETE"}


@dataclass(frozen=True)
class Thing:
    """Something that costs money, or keeps what does."""

    kind: str
    id: str


def what_is_left(region: LocalRegion, cluster: str) -> list[Thing]:
    """Return all of a cluster that is there, by its tags and its name."""
    return [thing for look in _LOOKS for thing in look(region, cluster)]


def what_is_left_of(region: LocalRegion, clusters: Iterable[str]) -> list[Thing]:
    """Return all of some clusters that is there."""
    return [thing for cluster in clusters for thing in what_is_left(region, cluster)]


def _stacks(region: LocalRegion, cluster: str) -> Iterator[Thing]:
    for page in region.client("cloudformation").get_paginator("describe_stacks").paginate():
        for stack in page["Stacks"]:
            if stack["StackName"].startswith(cluster) and stack["StackStatus"] not in _NO_STACK:
                yield Thing("stack", stack["StackName"])


def _of_ec2(region: LocalRegion, cluster: str) -> Iterator[Thing]:
    ec2, filters = region.client("ec2"), [{"Name": f"tag:{NAME_TAG}", "Values": [cluster]}]
    alive = [*filters, {"Name": "instance-state-name", "Values": _ALIVE}]
    for reservation in ec2.describe_instances(Filters=alive)["Reservations"]:
        yield from (Thing("instance", instance["InstanceId"]) for instance in reservation["Instances"])
    for volume in ec2.describe_volumes(Filters=filters)["Volumes"]:
        yield Thing("volume", volume["VolumeId"])
    for address in ec2.describe_addresses(Filters=filters)["Addresses"]:
        yield Thing("address", address["AllocationId"])


def _others(region: LocalRegion, cluster: str) -> Iterator[Thing]:
    for service in ("fsx", "efs"):
        for system in region.client(service).describe_file_systems()["FileSystems"]:
            if any(tag["Key"] == NAME_TAG and tag["Value"] == cluster for tag in system.get("Tags", [])):
                yield Thing("file system", system["FileSystemId"])
    for zone in region.client("route53").list_hosted_zones()["HostedZones"]:
        if zone["Name"].startswith(f"{cluster}."):
            yield Thing("zone", zone["Id"].rpartition("/")[2])
    cloudwatch = region.client("cloudwatch")
    alarms = cloudwatch.describe_alarms(AlarmNamePrefix=cluster, AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    for alarm in (*alarms["MetricAlarms"], *alarms["CompositeAlarms"]):
        yield Thing("alarm", alarm["AlarmName"])
    for board in cloudwatch.list_dashboards(DashboardNamePrefix=cluster)["DashboardEntries"]:
        yield Thing("dashboard", board["DashboardName"])


_LOOKS: tuple[Callable[[LocalRegion, str], Iterator[Thing]], ...] = (_stacks, _of_ec2, _others)


def clusters_of(region: LocalRegion, pool: str) -> list[str]:
    """Return the names of all clusters that a pool has had."""
    generations = PoolStore(region.client("s3"), region.bucket, pool).read().generation
    return [pool_cluster_name(pool, number) for number in range(1, generations + 1)]


async def until_result_is_written(region: LocalRegion, run: str, pool: str = "") -> None:
    """Return once a job has written its result to the end: later its disk is gone, with its cluster."""
    clusters, where = f"pool-{pool}-*" if pool else run, f"root/fsx/runs/{run}/result.txt"
    while not list((region.directory / "clusters").glob(f"{clusters}/{where}")):  # noqa: ASYNC110 - a disk tells nobody
        await asyncio.sleep(0.1)


def is_saved(region: LocalRegion, folders: Iterable[str], run: str, text: str) -> bool:
    """Say whether S3 holds the result with this very content, and a receipt that lists it and is true.

    The receipt is in one of the folders; the janitor saves the folders of all runs of a pool together.
    """
    s3 = region.client("s3")
    for folder, name in itertools.product(folders, ("receipt.json", "receipt-janitor.json")):
        try:
            receipt = load_receipt(s3, f"s3://{region.bucket}/{folder}/{name}")
        except HpcError:
            continue
        keys = [file.key for file in receipt.files if file.path in ("result.txt", f"{run}/result.txt")]
        if keys and not verify_receipt(s3, receipt, read=True) and _content(s3, region.bucket, keys[0]) == text:
            return True
    return False


def _content(s3: Any, bucket: str, key: str) -> str:
    content: str = s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    return content


def remove(region: LocalRegion, cluster: str) -> None:
    """End what is left of a run that has been judged, so that the region has room for others."""
    left = what_is_left(region, cluster)
    if instances := [thing.id for thing in left if thing.kind == "instance"]:
        region.client("ec2").terminate_instances(InstanceIds=instances)
    for thing in left:
        if thing.kind == "stack":
            region.client("cloudformation").delete_stack(StackName=thing.id)
