"""The metrics of a head node, measured on the processes that it consists of."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moto.cloudwatch.models import cloudwatch_backends

from local_aws.faults import MetricKey

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
ROOT_VOLUME_BYTES = 45 * 1024**3


@dataclass(frozen=True)
class Datum:
    """One measurement. Two data with the same `key` belong to the same metric."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    value: float

    @property
    def key(self) -> MetricKey:
        """What tells one metric from another."""
        return self.namespace, self.name, tuple(sorted(self.dimensions))


@dataclass(frozen=True)
class ProcessSample:
    """CPU seconds and resident bytes of a tree of processes."""

    cpu_seconds: float
    resident_bytes: int


def sample_tree(root: int) -> ProcessSample:
    """Add up the process `root` and all that descend from it."""
    parents, cpu, resident = {}, {}, {}
    for pid, fields in _process_table():
        parents[pid] = int(fields[1])
        cpu[pid] = (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
        resident[pid] = int(fields[21]) * PAGE
    tree, size = {root}, 0
    while len(tree) != size:
        size = len(tree)
        tree |= {pid for pid, parent in parents.items() if parent in tree}
    return ProcessSample(sum(cpu.get(pid, 0) for pid in tree), sum(resident.get(pid, 0) for pid in tree))


def _process_table() -> Iterator[tuple[int, list[str]]]:
    """Each process id with the fields of its stat file from the state on (proc_pid_stat(5))."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue  # it ended while we looked


class HeadNodeMeter:
    """Measures one head node; the first call has no CPU share to tell, because a share needs two looks.

    `cpus` and `memory` (bytes) are those of its instance type: this computer's other work does not count, as on
    AWS.
    """

    def __init__(self, cluster: str, instance_id: str, cpus: int, memory: int) -> None:
        self._cluster = cluster
        self._instance_id = instance_id
        self._cpus = cpus
        self._memory = memory
        self._last: tuple[float, float] | None = None

    def measure(self, first_process: int | None, directory: Path) -> list[Datum]:
        """Measure the head node whose process tree begins at `first_process`; None when it is down."""
        instance = (("InstanceId", self._instance_id),)
        if first_process is None:
            return [Datum("AWS/EC2", "StatusCheckFailed", instance, 1)]
        sample, now = sample_tree(first_process), time.monotonic()
        free = min(shutil.disk_usage(directory).free, ROOT_VOLUME_BYTES)
        data = [
            Datum("AWS/EC2", "StatusCheckFailed", instance, 0),
            Datum("CWAgent", "mem_used_percent", instance, min(100, 100 * sample.resident_bytes / self._memory)),
            Datum("CWAgent", "disk_used_percent", (*instance, ("path", "/")), 100 * (1 - free / ROOT_VOLUME_BYTES)),
            Datum("ParallelCluster", "ClustermgtdHeartbeat", (*instance, ("ClusterName", self._cluster)), 1),
        ]
        if self._last is not None:
            then, cpu_then = self._last
            share = 100 * (sample.cpu_seconds - cpu_then) / (now - then) / self._cpus
            data.append(Datum("AWS/EC2", "CPUUtilization", instance, max(0, min(100, share))))
        self._last = now, sample.cpu_seconds
        return data


def cluster_metric(cluster: str, name: str, value: float) -> Datum:
    """One of the metrics that ParallelCluster filters out of its own event log, such as InsufficientCapacityErrors."""
    return Datum("ParallelCluster", name, (("ClusterName", cluster),), value)


def publish(account: str, region: str, data: list[Datum]) -> None:
    """Put the data into CloudWatch, with the time of now."""
    backend = cloudwatch_backends[account][region]
    for datum in data:
        dimensions = [{"Name": name, "Value": value} for name, value in datum.dimensions]
        entry: Any = {"MetricName": datum.name, "Value": datum.value, "Dimensions": dimensions}
        backend.put_metric_data(datum.namespace, [entry])
