from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from hpc.errors import ClusterError, HostKeyError
from hpc.head_node.address import HeadNodeAddress, find_head_node, parse_host_keys

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5wD5hCKlMXvCqgiFqiZU4cZgY5F0EIZgyH7aVpSQwm"
OTHER = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBFlc="
BLOCK = "-----BEGIN SSH HOST KEY KEYS-----\n{}\n-----END SSH HOST KEY KEYS-----\n"


def test_keys_stand_between_cloud_inits_markers() -> None:
    console = (
        f"boot\r\n{KEY}x not here\r\n"
        + BLOCK.format(f"{OTHER} root@ip-10-0-0-1\r\n{KEY} root@ip-10-0-0-1\r")
        + "login:"
    )
    assert parse_host_keys(console) == (OTHER, KEY)


def test_a_console_prefix_is_no_part_of_a_key() -> None:
    console = BLOCK.format(f"[   31.2] cloud-init[1650]: {KEY} root@ip-10-0-0-1")
    assert parse_host_keys(console) == (KEY,)


def test_the_last_boot_counts() -> None:
    assert parse_host_keys(BLOCK.format(OTHER) + "reboot\n" + BLOCK.format(KEY)) == (KEY,)


@pytest.mark.parametrize("console", ["", "booting", KEY, "-----BEGIN SSH HOST KEY KEYS-----\n" + KEY])
def test_an_unfinished_console_has_no_keys(console: str) -> None:
    assert parse_host_keys(console) == ()


def test_an_address_travels_as_json() -> None:
    address = HeadNodeAddress("c", "i-1", "10.0.0.1", (KEY, OTHER))
    assert HeadNodeAddress.from_dict(json.loads(json.dumps(address.as_dict()))) == address


def test_an_address_without_a_pin_is_refused() -> None:
    with pytest.raises(HostKeyError):
        HeadNodeAddress.from_dict({"cluster_name": "c", "instance_id": "i", "host": "h", "host_keys": []})


@pytest.fixture
def ec2(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv(
        "AIRFLOW_CONN_AWS_DEFAULT",
        '{"conn_type": "aws", "login": "a", "password": "b", "extra": {"region_name": "us-east-1"}}',
    )
    with mock_aws():
        yield boto3.client("ec2", region_name="us-east-1")


def launch(ec2: Any, cluster: str, node_type: str) -> str:
    tags = {"parallelcluster:cluster-name": cluster, "parallelcluster:node-type": node_type}
    answer = ec2.run_instances(
        ImageId=ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"],
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        ],
    )
    instance_id: str = answer["Instances"][0]["InstanceId"]
    return instance_id


def show_on_console(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Moto's console is a constant; everything else in these tests is its own."""
    from moto.ec2.responses.general import General

    encoded = base64.b64encode(text.encode()).decode()
    monkeypatch.setattr(
        General,
        "get_console_output",
        lambda self: f"<GetConsoleOutputResponse><output>{encoded}</output></GetConsoleOutputResponse>",
    )


def test_the_head_node_is_found_by_tags(ec2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    launch(ec2, "mine", "Compute")
    launch(ec2, "other", "HeadNode")
    head = launch(ec2, "mine", "HeadNode")
    show_on_console(monkeypatch, BLOCK.format(KEY))
    address = find_head_node("mine")
    assert (address.instance_id, address.host_keys) == (head, (KEY,))
    assert (
        address.host == ec2.describe_instances(InstanceIds=[head])["Reservations"][0]["Instances"][0]["PublicIpAddress"]
    )


def test_no_head_node_is_an_error_that_names_the_cluster(ec2: Any) -> None:
    with pytest.raises(ClusterError, match=r"mine.*none"):
        find_head_node("mine")


def test_a_stopped_head_node_is_an_error(ec2: Any) -> None:
    ec2.stop_instances(InstanceIds=[launch(ec2, "mine", "HeadNode")])
    with pytest.raises(ClusterError, match="one running head node"):
        find_head_node("mine")


def test_a_console_without_keys_yet_is_worth_a_retry(ec2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    launch(ec2, "mine", "HeadNode")
    show_on_console(monkeypatch, "booting")
    with pytest.raises(ClusterError, match="try again"):
        find_head_node("mine")
