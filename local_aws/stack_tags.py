"""A stack's tags on what it makes: CloudFormation passes them on, and moto does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moto.cloudwatch.models import cloudwatch_backends
from moto.dynamodb.models.table import Table
from moto.ec2.models import ec2_backends
from moto.ec2.models.core import TaggedEC2Resource
from moto.fsx.models import fsx_backends
from moto.route53.models import FakeZone, route53_backends

from local_aws.cloudformation import Alarm, FsxFileSystem

Tags = dict[str, str]


def pass_on(resource: Any, account: str, region: str, tags: Tags) -> None:
    """Put tags on a resource of a kind that ParallelCluster's template makes and that can bear them."""
    for kind, tag in _TAGGERS.items():
        if isinstance(resource, kind):
            tag(resource, account, region, tags)


def _in_ec2(resource: Any, account: str, region: str, tags: Tags) -> None:
    ec2_backends[account][region].create_tags([resource.physical_resource_id], tags)


def _file_system(resource: Any, account: str, region: str, tags: Tags) -> None:
    fsx_backends[account][region].tag_resource(resource.file_system.resource_arn, tags)


def _alarm(resource: Any, account: str, region: str, tags: Tags) -> None:
    cloudwatch_backends[account][region].tag_resource(resource.alarm.alarm_arn, tags)


def _table(resource: Any, account: str, region: str, tags: Tags) -> None:
    resource.tags = [*(resource.tags or []), *_listed(tags)]


def _zone(resource: Any, account: str, region: str, tags: Tags) -> None:
    route53_backends[account]["aws"].change_tags_for_resource("hostedzone", resource.resource_id, _listed(tags), [])


def _listed(tags: Tags) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


_TAGGERS: Mapping[type, Callable[[Any, str, str, Tags], None]] = {
    TaggedEC2Resource: _in_ec2,
    FsxFileSystem: _file_system,
    Alarm: _alarm,
    Table: _table,
    FakeZone: _zone,
}
