"""What the head node prints, as Slurm 22.05 and 24.11 and util-linux print it."""

from __future__ import annotations

import pytest

from hpc.cluster.verification import (
    Mount,
    Partition,
    is_shared,
    parse_mount,
    parse_partitions,
    parse_ping,
    probe_command,
)


@pytest.mark.parametrize(
    ("output", "up"),
    [
        ("Slurmctld(primary) at ip-10-0-0-4 is UP\n", True),
        ("Slurmctld(primary) at ip-10-0-0-4 is DOWN\n", False),
        ("Slurmctld(primary) at a is DOWN\nSlurmctld(backup1) at b is UP\n", False),
        ("", False),
    ],
)
def test_only_a_primary_controller_that_is_up_counts(output: str, up: bool) -> None:
    assert parse_ping(output) is up


def test_partitions() -> None:
    assert parse_partitions("compute|up|4\ngpu-spot|inact|1\n") == [
        Partition("compute", "up", 4),
        Partition("gpu-spot", "inact", 1),
    ]


def test_mount() -> None:
    assert parse_mount("/fsx lustre 1228360646656\n") == Mount("/fsx", "lustre", 1_228_360_646_656)


@pytest.mark.parametrize(
    ("directory", "point", "shared"),
    [("/fsx", "/fsx", True), ("/fsx/a", "/fsx", True), ("/scratch", "/", False), ("/home/ec2-user", "/", True)],
)
def test_the_head_nodes_own_disk_is_not_shared(directory: str, point: str, shared: bool) -> None:
    assert is_shared(directory, Mount(point, "xfs", 1)) is shared


def test_the_folder_reaches_the_shell_quoted() -> None:
    assert "folder='/fsx/$(touch x)'; " in probe_command("/fsx/$(touch x)")
