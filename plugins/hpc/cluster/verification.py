"""Step 5: what the head node itself says about Slurm and its shared storage. Build, run, parse."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from hpc.aws_errors import aws_errors
from hpc.errors import ClusterError
from hpc.head_node.shell import quote

if TYPE_CHECKING:
    from hpc.head_node.session import Session

_PING = re.compile(r"^Slurmctld\(primary\) at (?P<host>\S+) is (?P<state>\S+)", re.MULTILINE)
#: name, availability, number of nodes; sinfo(1), --format.
_SINFO = "%R|%a|%D"


@dataclass(frozen=True)
class Mount:
    """The file system that a folder is on."""

    point: str
    type: str
    free_bytes: int


@dataclass(frozen=True)
class Partition:
    """A Slurm partition and how many nodes it can have."""

    name: str
    state: str
    nodes: int


def parse_ping(output: str) -> bool:
    """Read `scontrol ping`: whether the primary controller is UP."""
    match = _PING.search(output)
    return match is not None and match["state"] == "UP"


def parse_partitions(output: str) -> list[Partition]:
    """Read `sinfo --noheader --format=%R|%a|%D`. A partition stands on one line for each availability."""
    partitions = []
    for line in output.splitlines():
        name, state, nodes = line.strip().split("|")
        partitions.append(Partition(name, state, int(nodes)))
    return partitions


def parse_mount(output: str) -> Mount:
    """Read the line that `probe_command` prints."""
    point, kind, free = output.split()
    return Mount(point, kind, int(free))


def probe_command(directory: str) -> str:
    """Build the command that shows where a folder is mounted, then writes a file to its disk and removes it."""
    return (
        f"set -e; folder={quote([directory])}; "
        'findmnt --noheadings --raw --bytes --output TARGET,FSTYPE,AVAIL --target "$folder"; '
        'probe=$(mktemp "$folder/.airflow-probe.XXXXXXXX"); trap \'rm -f "$probe"\' EXIT; '
        'printf probe >"$probe"; sync "$probe"'
    )


def is_shared(directory: str, mount: Mount) -> bool:
    """Say whether compute nodes see the folder: the head node's own disk is not shared, except for its /home."""
    return mount.point != "/" or PurePosixPath(directory).is_relative_to("/home")


async def verify_head_node(session: Session, shared_dir: str) -> Mapping[str, Any]:
    """Return Slurm's version, the partitions and the shared folder. Raises ClusterError for what is not right."""
    where = f"the head node of {session.address.cluster_name}"
    ping = await session.run("scontrol ping", check=False)
    if ping.exit_status != 0 or not parse_ping(ping.stdout):
        raise ClusterError(
            f"Slurm's controller on {where} is not up: {(ping.stdout or ping.stderr).strip()}",
            remedy="look at /var/log/slurmctld.log there",
        )
    version = (await session.run("sinfo --version")).stdout.strip().removeprefix("slurm ")
    partitions = parse_partitions((await session.run(quote(["sinfo", "--noheader", f"--format={_SINFO}"]))).stdout)
    down = [partition.name for partition in partitions if partition.state != "up"]
    if down or not partitions:
        raise ClusterError(
            f"partitions on {where} are not up: {', '.join(down) or 'there is none'}",
            remedy="start the compute fleet: pcluster update-compute-fleet --status START_REQUESTED",
        )
    probe = await session.run(probe_command(shared_dir), check=False)
    if probe.exit_status != 0:
        raise ClusterError(
            f"{shared_dir} on {where} is not writable: {probe.stderr.strip()}",
            remedy="check MountDir in SharedStorage of the cluster template, and cluster.shared_dir of the simulation",
        )
    mount = parse_mount(probe.stdout)
    if not is_shared(shared_dir, mount):
        raise ClusterError(
            f"{shared_dir} on {where} is a folder of the head node's own disk, which compute nodes do not see",
            remedy="name a MountDir of SharedStorage in the cluster template as cluster.shared_dir of the simulation",
        )
    return {
        "scheduler": "slurm",
        "slurm_version": version,
        "partitions": {partition.name: partition.nodes for partition in partitions},
        "shared_dirs": {shared_dir: {"mount": mount.point, "type": mount.type, "free_bytes": mount.free_bytes}},
    }


def require_file_systems(clients: Callable[[str], Any], stack_id: str) -> list[str]:
    """Return the FSx file systems that the stack made. Raises ClusterError for one that is not AVAILABLE."""
    with aws_errors():
        pages = clients("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack_id)
        ids = [
            resource["PhysicalResourceId"]
            for page in pages
            for resource in page["StackResourceSummaries"]
            if resource["ResourceType"] == "AWS::FSx::FileSystem"
        ]
        if not ids:
            return []
        described = clients("fsx").describe_file_systems(FileSystemIds=ids)["FileSystems"]
    states = {one["FileSystemId"]: one.get("Lifecycle", "UNKNOWN") for one in described}
    wrong = [f"{name} is {state}" for name, state in states.items() if state != "AVAILABLE"]
    if wrong:
        raise ClusterError(
            f"FSx file system {', '.join(wrong)}", remedy="look at it in the FSx console: it may need some minutes more"
        )
    return ids


def require_fleet(dynamodb: Any, cluster_name: str) -> str:
    """Return the compute fleet's status. Raises ClusterError when it does not run.

    ParallelCluster keeps it in the table of the cluster, where `describe-compute-fleet` reads it too.
    """
    with aws_errors():
        item = dynamodb.get_item(
            TableName=f"parallelcluster-{cluster_name}", Key={"Id": {"S": "COMPUTE_FLEET"}}, ConsistentRead=True
        ).get("Item", {})
    status = str(item.get("Data", {}).get("M", {}).get("status", {}).get("S", "UNKNOWN"))
    if status != "RUNNING":
        raise ClusterError(
            f"the compute fleet of {cluster_name} is {status}, so no job can start",
            remedy="pcluster update-compute-fleet --status START_REQUESTED, or look at the log clustermgtd",
        )
    return status
