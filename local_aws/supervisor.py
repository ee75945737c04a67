"""Knows every cluster of the region: turns instances into machines, and what machines do into what AWS shows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from moto.cloudformation.models import cloudformation_backends
from moto.cloudwatch.models import cloudwatch_backends
from moto.ec2.models import ec2_backends
from moto.s3.models import s3_backends

from local_aws import ec2, head_node
from local_aws.cluster import Cluster
from local_aws.cluster_config import ClusterConfig, ComputeResource, parse_cluster_config
from local_aws.errors import RegionError
from local_aws.faults import Faults
from local_aws.fleet import Fleet
from local_aws.head_node import HeadNodeAddress
from local_aws.logs import LogShipper
from local_aws.machine import Spawner
from local_aws.metrics import HeadNodeMeter
from local_aws.network import Slot
from local_aws.seed import KEY_NAME
from local_aws.slurm import Controller
from local_aws.watch import Watch, WatchedCluster

LOG = logging.getLogger(__name__)
CONFIG_OBJECT = "configs/cluster-config-with-implied-values.yaml"


class Supervisor:
    """The region's clusters by name. Methods may be called from any thread."""

    def __init__(self, directory: Path, slot: Slot, account: str, region: str, faults: Faults) -> None:
        self.directory = directory
        self.slot = slot
        self.account = account
        self.region = region
        self.faults = faults
        self.clusters: dict[str, Cluster] = {}
        self._heads: dict[str, str] = {}
        self._consoles: dict[str, str] = {}
        self._failed: dict[str, str] = {}
        self._spawner = Spawner()
        self._lock = threading.RLock()
        self.watch = Watch(account, region, faults)

    def start_cluster(
        self, name: str, nodes: int, cpus: int, subnet_ids: tuple[str, str], settings: Mapping[str, str]
    ) -> tuple[str, str]:
        """Start a cluster without a stack; answers the head node's (instance id, public address)."""
        if name in self.clusters:
            raise RegionError(f"A cluster named {name} is running already.")
        head_subnet, compute_subnet = subnet_ids
        backend = ec2_backends[self.account][self.region]
        tags = {"Name": "HeadNode", "parallelcluster:cluster-name": name, "parallelcluster:node-type": "HeadNode"}
        instance: Any = ec2.run_instance(backend, self.region, "t3.small", head_subnet, tags)
        instance.key_name = KEY_NAME
        instance.nics[0].public_ip = self.slot.public_ip(instance.private_ip)
        resource = ComputeResource("compute", "c5l", "c5.large", compute_subnet, 0, nodes, cpus, 3891)
        custom = tuple(settings.items())
        config = ClusterConfig(name, "alinux2023", (resource,), ("/fsx",), custom_settings=custom, dcv=True)
        cluster = self._start(config, instance)
        self._watch(cluster, instance, None)
        cluster.wait_until_ready()
        return instance.id, instance.public_ip

    def stop_cluster(self, name: str) -> None:
        """Terminate every instance of a cluster that was started without a stack."""
        head = next((instance for instance, cluster in self._heads.items() if cluster == name), None)
        if head is None:
            raise RegionError(f"There is no cluster named {name}.")
        ec2_backends[self.account][self.region].get_instance(head).terminate()

    def stop(self) -> None:
        """End every cluster."""
        self.watch.stop()
        for cluster in list(self.clusters.values()):
            cluster.stop()

    def force_metric(self, alarm_name: str, value: float) -> None:
        """Publish `value` for the metric of an alarm from now on."""
        alarm: Any = cloudwatch_backends[self.account][self.region].alarms.get(alarm_name)
        if alarm is None or alarm.rule:
            raise RegionError(f"There is no metric alarm named {alarm_name}.")
        dimensions = tuple(sorted((dimension.name, dimension.value) for dimension in alarm.dimensions))
        self.faults.force_metric((alarm.namespace, alarm.metric_name, dimensions), value)
        self.watch.now()

    def cluster(self, name: str) -> Cluster:
        """The running cluster `name`; raises `RegionError` when there is none."""
        if name not in self.clusters:
            raise RegionError(f"There is no cluster named {name}. Running: {', '.join(self.clusters) or 'none'}.")
        return self.clusters[name]

    def _start(self, config: ClusterConfig, instance: Any) -> Cluster:
        address = self._address(instance)
        with self._lock:
            controller = self._controller(address, len(config.nodes))
            compute = ec2.ComputeFleet(self.account, self.region, self.faults)
            cluster = Cluster(
                self.directory / "clusters" / config.name,
                config=config,
                address=address,
                controller=controller,
                spawner=self._spawner,
                ec2=compute,
            )
            self.clusters[config.name] = cluster
            self._heads[instance.id] = config.name
            self._failed.pop(config.name, None)
        host_key = cluster.start(self._public_key(instance.key_name))
        self._consoles[instance.id] = head_node.console_output(
            address.hostname, host_key, head_node.fingerprint(host_key)
        )
        LOG.info("%s: head node %s at %s", config.name, instance.id, address.public_ip)
        return cluster

    def _address(self, instance: Any) -> HeadNodeAddress:
        public_ip = instance.public_ip or instance.private_ip
        return HeadNodeAddress(instance.private_ip, public_ip, self.slot.ssh_port, self.slot.dcv_port)

    def _controller(self, address: HeadNodeAddress, nodes: int) -> Controller:
        return Controller(address.hostname, address.private_ip, self.slot.slurmctld_port, self._take_ports(nodes))

    def _watch(self, cluster: Cluster, instance: Any, log_group: str | None) -> None:
        name = cluster.config.name
        description = ec2.instance_types()[instance.instance_type]
        cpus, memory = description["VCpuInfo"]["DefaultVCpus"], description["MemoryInfo"]["SizeInMiB"] * 1024**2
        prefix = f"{cluster.address.hostname}.{instance.id}"
        shipper = LogShipper(self.account, self.region, log_group, prefix) if log_group else None
        fleet = Fleet(self.account, self.region, cluster)
        self.watch.add(WatchedCluster(cluster, fleet, HeadNodeMeter(name, instance.id, cpus, memory), shipper))

    def _public_key(self, key_name: str) -> str:
        return ec2_backends[self.account][self.region].key_pairs[key_name].public_key

    def _take_ports(self, count: int) -> int:
        """Take `count` adjacent node ports; they come back when the cluster ends."""
        used = {port for cluster in self.clusters.values() for port in cluster.node_ports}
        for first in self.slot.node_ports:
            if all(port in self.slot.node_ports and port not in used for port in range(first, first + count)):
                return first
        raise RegionError(
            f"A local region has room for {len(self.slot.node_ports)} compute nodes; {count} more do not fit."
        )

    def bootstrap(self, stack_name: str) -> tuple[bool, str | None]:
        """(finished, failure reason) of the head node of `stack_name`."""
        cluster = self.clusters.get(stack_name)
        if cluster is None:
            return False, None
        failure = self.faults.bootstrap_failure(stack_name) or (None if cluster.head.is_running else cluster.boot_log())
        if failure is not None:
            instance = next((instance for instance, name in self._heads.items() if name == stack_name), "")
            return True, f"WaitCondition received failed message: '{failure}' for uniqueId: {instance}"
        return cluster.is_ready(), None

    def stack_created(self, stack: Any) -> None:
        """The head node's last act: it declares the compute fleet running."""
        if stack.name in self.clusters:
            Fleet(self.account, self.region, self.clusters[stack.name]).declare("RUNNING")

    def stack_updated(self, stack: Any) -> None:
        """Give the cluster its changed configuration."""
        cluster = self.clusters.get(stack.name)
        if cluster is not None:
            config = self._stack_config(stack)
            with self._lock:
                cluster.reconfigure(config, self._controller(cluster.address, len(config.nodes)))

    def head_node_launched(self, instance: Any, stack_id: str) -> None:
        """Boot the machine behind a stack's head node."""
        stack = cloudformation_backends[self.account][self.region].get_stack(stack_id)
        cluster = self._start(self._stack_config(stack), instance)
        self._watch(cluster, instance, _log_group(stack))

    def instance_terminated(self, instance_id: str) -> None:
        """End the machine behind an instance, whoever terminated it."""
        name = self._heads.pop(instance_id, None)
        if name is not None:
            self.watch.remove(name)
            self.clusters.pop(name).stop()
            return
        for cluster in list(self.clusters.values()):
            for node, node_instance in cluster.instances.items():
                if node_instance == instance_id:
                    cluster.lose(node)

    def lustre_directory(self, cluster_name: str) -> Path | None:
        """Where the file system of a cluster has its files; None without one."""
        cluster = self.clusters.get(cluster_name)
        if cluster is None or not cluster.config.lustre_directory:
            return None
        return cluster.root / cluster.config.lustre_directory.lstrip("/")

    def console_output(self, instance_id: str) -> str:
        """What the instance has printed; only head nodes print."""
        return self._consoles.get(instance_id, "")

    def _stack_config(self, stack: Any) -> ClusterConfig:
        """Read the configuration that `pcluster` uploaded for the stack."""
        properties = next(
            resource["Properties"]
            for resource in stack.template_dict["Resources"].values()
            if resource["Type"] == "AWS::CloudFormation::CustomResource"
            and "ArtifactS3RootDirectory" in resource.get("Properties", {})
        )
        bucket = s3_backends[self.account]["aws"].buckets[properties["ResourcesS3Bucket"]]
        document = bucket.keys[f"{properties['ArtifactS3RootDirectory']}/{CONFIG_OBJECT}"].value
        return parse_cluster_config(stack.name, yaml.safe_load(document), ec2.instance_types())


def _log_group(stack: Any) -> str | None:
    """The name of the cluster's own log group, if its configuration asks for one."""
    groups = [
        resource["Properties"].get("LogGroupName", "")
        for resource in stack.template_dict["Resources"].values()
        if resource["Type"] == "AWS::Logs::LogGroup"
    ]
    return next((name for name in groups if isinstance(name, str) and name.startswith("/aws/parallelcluster/")), None)
