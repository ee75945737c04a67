"""The local AWS region as the workshop uses it: up, down, what Airflow has to know, and what is left in it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workshop import ROOT

#: What every simulation has to know of an account.
SITE_FACTS = ("region", "head_node_subnet_id", "compute_subnet_id", "key_name", "bucket")


class RegionError(Exception):
    """The local region did not start or stop; the message is what it said."""


@dataclass(frozen=True)
class Region:
    """A running local region, by the facts in its `region.json`."""

    facts: dict[str, Any]

    def connections(self) -> dict[str, dict[str, Any]]:
        """Return Airflow's connections to the region; on AWS a person makes the same without the endpoint."""
        facts = self.facts
        return {
            "aws_default": {
                "conn_type": "aws",
                "login": facts["access_key_id"],
                "password": facts["secret_access_key"],
                "extra": json.dumps({"endpoint_url": facts["endpoint_url"], "region_name": facts["region"]}),
            },
            "hpc_head_node": {
                "conn_type": "ssh",
                "login": facts["ssh_user"],
                "port": facts["ssh_port"],
                "extra": json.dumps({"key_file": facts["private_key"]}),
            },
        }

    def site(self) -> dict[str, str]:
        """Return the value of Airflow's Variable `hpc_site`."""
        return {name: self.facts[name] for name in SITE_FACTS}

    def client(self, service: str) -> Any:
        """Return a boto3 client of the region."""
        import boto3

        session: Any = boto3.Session(self.facts["access_key_id"], self.facts["secret_access_key"])
        return session.client(service, region_name=self.facts["region"], endpoint_url=self.facts["endpoint_url"])

    def leftovers(self) -> list[str]:
        """Name the instances and stacks that are in the region now: the workshop's own look, not the product's."""
        instances = [
            f"EC2 instance {instance['InstanceId']} ({instance['State']['Name']})"
            for reservation in self.client("ec2").describe_instances()["Reservations"]
            for instance in reservation["Instances"]
            if instance["State"]["Name"] != "terminated"
        ]
        stacks = [
            f"CloudFormation stack {stack['StackName']} ({stack['StackStatus']})"
            for stack in self.client("cloudformation").list_stacks()["StackSummaries"]
            if stack["StackStatus"] != "DELETE_COMPLETE"
        ]
        return instances + stacks


def up(directory: Path) -> Region:
    """Start the region below `directory`, or find it running."""
    _local_aws("up", directory)
    return Region(json.loads((directory / "region.json").read_text()))


def down(directory: Path) -> None:
    """Stop the region below `directory` with its clusters, also one that a killed run left."""
    if directory.exists():
        _local_aws("down", directory)


def remove_tree(directory: Path) -> None:
    """Remove a folder in which a region was. Raises RegionError if anything is mounted below it."""
    mounted = [
        line.split()[4]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if Path(line.split()[4]).is_relative_to(directory.resolve())
    ]
    if mounted:
        raise RegionError(f"Not removing {directory}, because {', '.join(mounted)} is mounted there; unmount it first.")
    shutil.rmtree(directory, ignore_errors=True)


def _local_aws(verb: str, directory: Path) -> None:
    command = [sys.executable, "-m", "local_aws", verb, "--dir", str(directory)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise RegionError(f"python -m local_aws {verb} ended with {done.returncode}:\n{done.stdout[-3000:]}")
