"""What an AWS account has before the first cluster: a network, a key pair and a bucket."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local_aws.network import Slot

if TYPE_CHECKING:
    import boto3

KEY_NAME = "local"
AVAILABILITY_ZONE = "us-east-1a"


@dataclass(frozen=True)
class Account:
    """What was seeded."""

    vpc_id: str
    head_node_subnet_id: str
    compute_subnet_id: str
    key_name: str
    private_key: str
    bucket: str


def make_key(directory: Path) -> Path:
    """Make the region's key pair in OpenSSH format once; answers the path of the private key."""
    key = directory / "id_ed25519"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", KEY_NAME, "-f", str(key)], check=True)
    return key


def seed(session: boto3.Session, endpoint_url: str, slot: Slot, key: Path) -> Account:
    """Make a VPC with a public and a compute subnet, import the key pair, make a bucket."""
    ec2 = session.client("ec2", endpoint_url=endpoint_url)
    vpc = ec2.create_vpc(CidrBlock=slot.vpc_cidr)["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsSupport={"Value": True})
    head, compute = (
        ec2.create_subnet(VpcId=vpc, CidrBlock=cidr, AvailabilityZone=AVAILABILITY_ZONE)["Subnet"]["SubnetId"]
        for cidr in (slot.head_node_cidr, slot.compute_cidr)
    )
    ec2.modify_subnet_attribute(SubnetId=head, MapPublicIpOnLaunch={"Value": True})
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    routes = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=routes, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    for subnet in (head, compute):
        ec2.associate_route_table(RouteTableId=routes, SubnetId=subnet)
    ec2.import_key_pair(KeyName=KEY_NAME, PublicKeyMaterial=key.with_suffix(".pub").read_bytes())
    bucket = f"local-{slot.number}-results"
    s3 = session.client("s3", endpoint_url=endpoint_url)
    s3.create_bucket(Bucket=bucket)
    # The links in Airflow's UI lead a browser, which signs nothing, straight to the objects of this machine.
    everybody_reads = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
    }
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [everybody_reads]}))
    return Account(vpc, head, compute, KEY_NAME, str(key), bucket)
