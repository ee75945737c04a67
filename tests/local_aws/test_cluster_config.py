"""What the region reads from a ParallelCluster configuration."""

from __future__ import annotations

from typing import Any

import pytest

from local_aws.cluster_config import parse_cluster_config

INSTANCE_TYPES: dict[str, dict[str, Any]] = {
    "c5.large": {"VCpuInfo": {"DefaultVCpus": 2}, "MemoryInfo": {"SizeInMiB": 4096}},
    "c5.xlarge": {"VCpuInfo": {"DefaultVCpus": 4}, "MemoryInfo": {"SizeInMiB": 8192}},
}


def document(**resource: Any) -> dict[str, Any]:
    compute = {"Name": "c5l", "InstanceType": "c5.large", **resource}
    queue = {"Name": "compute", "ComputeResources": [compute], "Networking": {"SubnetIds": ["subnet-1"]}}
    return {
        "Image": {"Os": "alinux2023"},
        "HeadNode": {"InstanceType": "t3.small"},
        "Scheduling": {"Scheduler": "slurm", "SlurmQueues": [queue]},
        "SharedStorage": [{"MountDir": "/fsx", "Name": "fsx", "StorageType": "FsxLustre"}],
    }


def test_nodes_are_static_up_to_the_minimum_and_dynamic_from_there() -> None:
    config = parse_cluster_config("demo", document(MinCount=1, MaxCount=3), INSTANCE_TYPES)
    assert list(config.nodes) == ["compute-st-c5l-1", "compute-dy-c5l-1", "compute-dy-c5l-2"]
    assert config.static_nodes == ["compute-st-c5l-1"]
    assert config.nodes["compute-dy-c5l-2"].subnet_id == "subnet-1"


@pytest.mark.parametrize("counts", [{}, {"MinCount": None, "MaxCount": None}])
def test_parallelclusters_defaults_hold_where_nothing_is_said(counts: dict[str, Any]) -> None:
    config = parse_cluster_config("demo", document(**counts), INSTANCE_TYPES)
    assert len(config.nodes) == 10
    assert config.scaledown_minutes == 10
    assert not config.dcv


def test_cpus_and_memory_are_those_of_the_instance_type() -> None:
    config = parse_cluster_config("demo", document(InstanceType="c5.xlarge"), INSTANCE_TYPES)
    assert (config.compute_resources[0].cpus, config.compute_resources[0].memory) == (4, 7782)


def test_a_flexible_resource_counts_as_its_first_instance_type() -> None:
    source = document(Instances=[{"InstanceType": "c5.xlarge"}, {"InstanceType": "c5.large"}])
    del source["Scheduling"]["SlurmQueues"][0]["ComputeResources"][0]["InstanceType"]
    config = parse_cluster_config("demo", source, INSTANCE_TYPES)
    assert config.compute_resources[0].instance_type == "c5.xlarge"


def test_a_node_bears_the_tags_of_cluster_queue_and_compute_resource_the_nearest_last() -> None:
    source = document(Tags=[{"Key": "level", "Value": "resource"}])
    source["Scheduling"]["SlurmQueues"][0]["Tags"] = [{"Key": "queue", "Value": "compute"}]
    source["Tags"] = [{"Key": "level", "Value": "cluster"}, {"Key": "owner", "Value": "me"}]
    node = parse_cluster_config("demo", source, INSTANCE_TYPES).nodes["compute-dy-c5l-1"]
    assert dict(node.tags) == {"level": "resource", "owner": "me", "queue": "compute"}


def test_slurm_settings_storage_and_dcv_are_read() -> None:
    source = document()
    source["Scheduling"]["SlurmSettings"] = {"ScaledownIdletime": 3, "CustomSlurmSettings": [{"MinJobAge": 900}]}
    source["HeadNode"]["Dcv"] = {"Enabled": True}
    config = parse_cluster_config("demo", source, INSTANCE_TYPES)
    assert config.scaledown_minutes == 3
    assert config.custom_settings == (("MinJobAge", "900"),)
    assert config.shared_directories == ("/fsx",)
    assert config.dcv


@pytest.mark.parametrize(
    ("system", "user"), [("alinux2023", "ec2-user"), ("ubuntu2404", "ubuntu"), ("rhel9", "ec2-user")]
)
def test_the_login_user_is_that_of_the_operating_system(system: str, user: str) -> None:
    source = document()
    source["Image"]["Os"] = system
    assert parse_cluster_config("demo", source, INSTANCE_TYPES).login_user == user
