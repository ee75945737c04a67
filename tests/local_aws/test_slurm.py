"""`slurm.conf` from a cluster configuration."""

from __future__ import annotations

from local_aws.cluster_config import ClusterConfig, ComputeResource
from local_aws.machine import Login
from local_aws.slurm import Controller, slurm_conf

CONTROLLER = Controller("ip-127-64-0-4", "127.64.0.4", 12001, 12008)
LOGIN = Login("ec2-user", 1000, 1000)


def settings(*resources: ComputeResource, custom: tuple[tuple[str, str], ...] = (), scaledown: int = 10) -> list[str]:
    config = ClusterConfig("demo", "alinux2023", resources, ("/fsx",), scaledown, custom)
    return slurm_conf(config, CONTROLLER, LOGIN).splitlines()


def resource(queue: str = "compute", name: str = "c5l", minimum: int = 0, maximum: int = 4) -> ComputeResource:
    return ComputeResource(queue, name, "c5.large", "subnet-1", minimum, maximum, cpus=2, memory=3891)


def test_the_controller_and_the_user() -> None:
    lines = settings(resource())
    assert "SlurmctldHost=ip-127-64-0-4(127.64.0.4)" in lines
    assert "SlurmctldPort=12001" in lines
    assert "SlurmUser=ec2-user" in lines


def test_static_and_dynamic_nodes_are_named_as_parallelcluster_names_them_and_share_no_port() -> None:
    nodes = [line for line in settings(resource(minimum=1, maximum=3)) if line.startswith("NodeName=")]
    assert nodes[0].startswith("NodeName=compute-st-c5l-[1-1] Port=[12008-12008] CPUs=2 RealMemory=3891 State=CLOUD")
    assert nodes[1].startswith("NodeName=compute-dy-c5l-[1-2] Port=[12009-12010] CPUs=2 RealMemory=3891 State=CLOUD")
    assert "SuspendExcNodes=compute-st-c5l-1" in settings(resource(minimum=1, maximum=3))


def test_a_cluster_without_static_nodes_excludes_none_from_power_saving() -> None:
    assert not any(line.startswith("SuspendExcNodes") for line in settings(resource()))


def test_each_queue_is_a_partition_and_the_first_is_the_default() -> None:
    lines = settings(resource("cpu"), resource("big", "c5x"), resource("cpu", "m5l"))
    partitions = [line for line in lines if line.startswith("PartitionName=")]
    assert partitions[0].startswith("PartitionName=cpu Nodes=cpu-dy-c5l-[1-4],cpu-dy-m5l-[1-4] ")
    assert partitions[0].endswith("Default=YES")
    assert partitions[1].startswith("PartitionName=big Nodes=big-dy-c5x-[1-4] ")
    assert partitions[1].endswith("Default=NO")


def test_custom_settings_replace_ours_whatever_their_case() -> None:
    lines = settings(resource(), custom=(("MINJOBAGE", "900"),))
    assert [line for line in lines if line.lower().startswith("minjobage")] == ["MINJOBAGE=900"]


def test_scaledown_is_on_a_laptops_scale_but_never_hectic() -> None:
    assert "SuspendTime=20" in settings(resource(), scaledown=10)
    assert "SuspendTime=5" in settings(resource(), scaledown=1)
