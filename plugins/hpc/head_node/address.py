"""Where the head node is and which keys it has: both are asked of AWS, never of the machine that answers."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hpc import names
from hpc.aws_errors import aws_errors, error_code
from hpc.errors import ClusterError, ConfigurationError, HostKeyError

if TYPE_CHECKING:
    from collections.abc import Mapping

_BEGIN = "-----BEGIN SSH HOST KEY KEYS-----"
_END = "-----END SSH HOST KEY KEYS-----"
_KEY = re.compile(r"((?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) AAAA[0-9A-Za-z+/]+={0,3})")


@dataclass(frozen=True)
class HeadNodeAddress:
    """The head node of one cluster. `host_keys` are `type base64` as in a known_hosts file, without the host."""

    cluster_name: str
    instance_id: str
    host: str
    host_keys: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON, as it travels between tasks."""
        return asdict(self) | {"host_keys": list(self.host_keys)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> HeadNodeAddress:
        """Read what `as_dict` made. Raises HostKeyError if it pins no key."""
        address = cls(
            cluster_name=str(value["cluster_name"]),
            instance_id=str(value["instance_id"]),
            host=str(value["host"]),
            host_keys=tuple(str(key) for key in value["host_keys"]),
        )
        if not address.host_keys:
            raise HostKeyError(f"the address of {address.cluster_name}'s head node carries no host key")
        return address


def parse_host_keys(console_output: str) -> tuple[str, ...]:
    """Return the public host keys that cloud-init printed on the console; empty if it did not yet.

    The last block counts: an instance that was stopped and started prints them again. Lines may carry a prefix
    of the console (`[   12.3] cloud-init[987]: `).
    """
    _, begin, rest = console_output.rpartition(_BEGIN)
    block, end, _ = rest.partition(_END)
    if not begin or not end:
        return ()
    return tuple(dict.fromkeys(_KEY.findall(block)))


def find_head_node(
    cluster_name: str, *, aws_conn_id: str | None = "aws_default", region_name: str | None = None
) -> HeadNodeAddress:
    """Ask EC2 for the running head node of a cluster, its address and its host keys.

    The public address is preferred; a head node in a private subnet is reached by its private one.
    Raises ClusterError if there is not exactly one running, or its console does not show the keys yet (worth a retry).
    """
    client = _ec2(aws_conn_id, region_name)
    with aws_errors():
        instance = _running_head_node(client, cluster_name)
        keys = _host_keys(client, instance["InstanceId"])
    if not keys:
        raise ClusterError(
            f"the console of {cluster_name}'s head node {instance['InstanceId']} does not show its SSH host keys",
            remedy="AWS publishes the console some minutes after the start: try again; if it stays so, look at the"
            " instance's system log in the EC2 console and whether cloud-init ran",
        )
    host = instance.get("PublicIpAddress") or instance["PrivateIpAddress"]
    return HeadNodeAddress(cluster_name, instance["InstanceId"], host, keys)


def mark_reached(address: HeadNodeAddress, *, aws_conn_id: str | None, region_name: str | None) -> None:
    """Tag a head node: from now on a job may leave results there. Airflow forgets that when its tasks are cleared."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with aws_errors():
        _ec2(aws_conn_id, region_name).create_tags(
            Resources=[address.instance_id], Tags=[{"Key": names.TAG_REACHED, "Value": now}]
        )


def was_reached(
    cluster_name: str, *, aws_conn_id: str | None, region_name: str | None, since: datetime | None = None
) -> bool:
    """Say whether any head node of a cluster, running or not, was marked by `mark_reached`. Raises what AWS raises.

    Those that were launched before `since` do not count: they are an earlier cluster's of the same name.
    """
    filters = [
        {"Name": "tag:parallelcluster:cluster-name", "Values": [cluster_name]},
        {"Name": "tag-key", "Values": [names.TAG_REACHED]},
    ]
    with aws_errors():
        pages = _ec2(aws_conn_id, region_name).get_paginator("describe_instances").paginate(Filters=filters)
        return any(
            since is None or instance["LaunchTime"] >= since
            for page in pages
            for reservation in page["Reservations"]
            for instance in reservation["Instances"]
        )


def _ec2(aws_conn_id: str | None, region_name: str | None) -> Any:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    return AwsBaseHook(aws_conn_id=aws_conn_id, region_name=region_name or None, client_type="ec2").get_conn()


def head_node_of(
    cluster_name: str,
    head_node: Mapping[str, Any] | str | None,
    *,
    aws_conn_id: str | None = "aws_default",
    region_name: str | None = None,
) -> HeadNodeAddress:
    """Return the address that an earlier task passed on, a mapping or its JSON text; ask EC2 if there is none.

    Raises ConfigurationError if it is the address of another cluster.
    """
    value = json.loads(head_node or "null") if isinstance(head_node, str) else head_node
    if value is None:
        return find_head_node(cluster_name, aws_conn_id=aws_conn_id, region_name=region_name)
    address = HeadNodeAddress.from_dict(value)
    if address.cluster_name != cluster_name:
        raise ConfigurationError(
            f"head_node is the address of cluster {address.cluster_name}, but cluster_name is {cluster_name}",
            remedy="pass what HeadNodeConnectOperator returned for this cluster, or leave head_node out",
        )
    return address


def _running_head_node(client: Any, cluster_name: str) -> dict[str, Any]:
    filters = [
        {"Name": "tag:parallelcluster:cluster-name", "Values": [cluster_name]},
        {"Name": "tag:parallelcluster:node-type", "Values": ["HeadNode"]},
        {"Name": "instance-state-name", "Values": ["pending", "running"]},
    ]
    pages = client.get_paginator("describe_instances").paginate(Filters=filters)
    found: list[dict[str, Any]] = [
        instance for page in pages for reservation in page["Reservations"] for instance in reservation["Instances"]
    ]
    if len(found) != 1 or found[0]["State"]["Name"] != "running":
        seen = ", ".join(f"{instance['InstanceId']} ({instance['State']['Name']})" for instance in found) or "none"
        raise ClusterError(
            f"cluster {cluster_name} has to have one running head node; EC2 knows: {seen}",
            remedy="look at the cluster's CloudFormation stack and whether somebody stopped the instance",
        )
    return found[0]


def _host_keys(client: Any, instance_id: str) -> tuple[str, ...]:
    """Look into the live console first, then into the one that AWS kept from the last boot."""
    from botocore.exceptions import ClientError

    keys: tuple[str, ...] = ()
    try:
        keys = parse_host_keys(client.get_console_output(InstanceId=instance_id, Latest=True).get("Output", ""))
    except ClientError as error:
        # Only instances on Nitro have a live console.
        if error_code(error) not in {"UnsupportedOperation", "InvalidParameterCombination"}:
            raise
    return keys or parse_host_keys(client.get_console_output(InstanceId=instance_id).get("Output", ""))
