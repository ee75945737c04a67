"""What the region reads from a ParallelCluster configuration: operating system, storage, queues and nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_MAX_COUNT = 10  # ParallelCluster's own
DEFAULT_SCALEDOWN_MINUTES = 10
LOGIN_USERS = {"ubuntu2204": "ubuntu", "ubuntu2404": "ubuntu"}


@dataclass(frozen=True)
class Node:
    """One possible compute node: it exists in Slurm's eyes always, as an instance only while it is powered up."""

    name: str
    queue: str
    compute_resource: str
    instance_type: str
    subnet_id: str
    is_static: bool
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class NodeRange:
    """Nodes that are named by a prefix and the numbers 1 to `count`."""

    prefix: str
    count: int
    is_static: bool

    @property
    def expression(self) -> str:
        """Slurm's name for all of them."""
        return f"{self.prefix}[1-{self.count}]"


@dataclass(frozen=True)
class ComputeResource:
    """A compute resource of a queue: `minimum` static nodes and up to `maximum` in all. Memory is in MiB.

    `tags` are the configuration's, which ParallelCluster puts on every instance and its volumes.
    """

    queue: str
    name: str
    instance_type: str
    subnet_id: str
    minimum: int
    maximum: int
    cpus: int
    memory: int
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def node_ranges(self) -> list[NodeRange]:
        """The static nodes, `<queue>-st-<name>-1` and so on, and the dynamic ones, `<queue>-dy-<name>-1` and so on."""
        static = NodeRange(f"{self.queue}-st-{self.name}-", self.minimum, is_static=True)
        dynamic = NodeRange(f"{self.queue}-dy-{self.name}-", self.maximum - self.minimum, is_static=False)
        return [nodes for nodes in (static, dynamic) if nodes.count > 0]

    @property
    def nodes(self) -> Iterator[Node]:
        """Every node of the compute resource."""
        for nodes in self.node_ranges:
            for number in range(1, nodes.count + 1):
                name = f"{nodes.prefix}{number}"
                yield Node(name, self.queue, self.name, self.instance_type, self.subnet_id, nodes.is_static, self.tags)


@dataclass(frozen=True)
class ClusterConfig:
    """One cluster; `scaledown_minutes` is its ScaledownIdletime, `custom_settings` its CustomSlurmSettings.

    `lustre_directory` is the one of the shared directories that is on FSx for Lustre.
    """

    name: str
    os: str
    compute_resources: tuple[ComputeResource, ...]
    shared_directories: tuple[str, ...]
    scaledown_minutes: int = DEFAULT_SCALEDOWN_MINUTES
    custom_settings: tuple[tuple[str, str], ...] = ()
    dcv: bool = False
    lustre_directory: str = ""

    @property
    def login_user(self) -> str:
        """The user that people log in as on this operating system."""
        return LOGIN_USERS.get(self.os, "ec2-user")

    @property
    def queues(self) -> list[str]:
        """The queues' names: Slurm's partitions."""
        return list(dict.fromkeys(resource.queue for resource in self.compute_resources))

    @property
    def static_nodes(self) -> list[str]:
        """The nodes that always have an instance while the fleet runs."""
        return [node.name for resource in self.compute_resources for node in resource.nodes if node.is_static]

    @property
    def nodes(self) -> dict[str, Node]:
        """Every possible node by name."""
        return {node.name: node for resource in self.compute_resources for node in resource.nodes}


def parse_cluster_config(
    name: str, document: Mapping[str, Any], instance_types: Mapping[str, Mapping[str, Any]]
) -> ClusterConfig:
    """Read the parsed YAML of a configuration; `instance_types` answers as EC2's DescribeInstanceTypes, by type."""
    scheduling = document["Scheduling"]
    settings = scheduling.get("SlurmSettings") or {}
    scaledown = settings.get("ScaledownIdletime")
    custom = [(key, str(value)) for entry in settings.get("CustomSlurmSettings") or [] for key, value in entry.items()]
    return ClusterConfig(
        name=name,
        os=document["Image"]["Os"],
        compute_resources=tuple(
            _parse_compute_resource(queue, resource, instance_types, _parse_tags(document, queue, resource))
            for queue in scheduling["SlurmQueues"]
            for resource in queue["ComputeResources"]
        ),
        shared_directories=tuple(storage["MountDir"] for storage in document.get("SharedStorage") or []),
        lustre_directory=next(
            (storage["MountDir"] for storage in document.get("SharedStorage") or [] if _is_lustre(storage)), ""
        ),
        scaledown_minutes=DEFAULT_SCALEDOWN_MINUTES if scaledown is None else int(scaledown),
        custom_settings=tuple(custom),
        dcv=bool((document["HeadNode"].get("Dcv") or {}).get("Enabled")),
    )


def _parse_compute_resource(
    queue: Mapping[str, Any],
    resource: Mapping[str, Any],
    instance_types: Mapping[str, Mapping[str, Any]],
    tags: tuple[tuple[str, str], ...],
) -> ComputeResource:
    instances = resource.get("Instances") or [{"InstanceType": resource.get("InstanceType")}]
    instance_type = instances[0]["InstanceType"]
    description = instance_types[instance_type]
    minimum, maximum = resource.get("MinCount"), resource.get("MaxCount")
    return ComputeResource(
        queue=queue["Name"],
        name=resource["Name"],
        instance_type=instance_type,
        subnet_id=queue["Networking"]["SubnetIds"][0],
        minimum=int(minimum or 0),
        maximum=max(DEFAULT_MAX_COUNT, int(minimum or 0)) if maximum is None else int(maximum),
        cpus=int(description["VCpuInfo"]["DefaultVCpus"]),
        memory=int(description["MemoryInfo"]["SizeInMiB"] * 0.95),
        tags=tags,
    )


def _is_lustre(storage: Mapping[str, Any]) -> bool:
    return bool(storage["StorageType"] == "FsxLustre")


def _parse_tags(*levels: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Read the tags of cluster, queue and compute resource; the nearer one wins."""
    return tuple({tag["Key"]: str(tag["Value"]) for level in levels for tag in level.get("Tags") or []}.items())
