"""Faults that a test, a demonstration or a curious user can order: each stays until it is cleared."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field
from typing import Any

LAUNCH_CODES = (
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "VcpuLimitExceeded",
    "UnauthorizedOperation",
    "InsufficientFreeAddressesInSubnet",
)


MetricKey = tuple[str, str, tuple[tuple[str, str], ...]]
"""Namespace, name and sorted dimensions of a metric."""


@dataclass
class DeletionFault:
    """Resources that do not go when their stack is deleted, for so many `times` (None: always).

    With a `reason` the deletion fails and says it; without one it claims to have succeeded and the resource stays.
    """

    reason: str
    times: int | None


@dataclass
class Faults:
    """The faults in force.

    `bootstrap_failures` maps a cluster's name (`*` for all) to the reason that its head node reports; `launch_failures`
    maps a queue, compute resource or node name (`*` for all compute nodes), or a head node's instance type or subnet,
    to the EC2 error code of its launches; `deletions` maps the logical id or the type of a resource, also with
    `<stack name>/` before it, to what happens when it is deleted; `metrics` are values published instead of measured
    ones; the delays are in seconds.
    """

    bootstrap_failures: dict[str, str] = field(default_factory=dict)
    launch_failures: dict[str, str] = field(default_factory=dict)
    deletions: dict[str, DeletionFault] = field(default_factory=dict)
    create_delay: float = 0.0
    delete_delay: float = 0.0
    metrics: dict[MetricKey, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def fail_bootstrap(self, cluster: str, reason: str) -> None:
        """Let the head nodes of a cluster fail to start."""
        with self._lock:
            self.bootstrap_failures[cluster] = reason

    def bootstrap_failure(self, cluster: str) -> str | None:
        """The reason why a cluster's head node does not start, or None when it does."""
        with self._lock:
            return self.bootstrap_failures.get(cluster) or self.bootstrap_failures.get("*")

    def fail_launches(self, target: str, code: str) -> None:
        """Refuse launches of `target` with the EC2 error `code`."""
        with self._lock:
            self.launch_failures[target] = code

    def launch_failure(self, *names: str) -> str | None:
        """The error code for a launch that goes by any of `names`, or None when it succeeds."""
        with self._lock:
            return next((self.launch_failures[name] for name in (*names, "*") if name in self.launch_failures), None)

    def fail_deletions(self, target: str, fault: DeletionFault) -> None:
        """Keep the resources of that logical id or type from being deleted."""
        with self._lock:
            self.deletions[target] = fault

    def take_deletion(self, *names: str) -> DeletionFault | None:
        """The fault for a deletion that goes by any of `names`, counted; None when it succeeds."""
        with self._lock:
            name = next((name for name in names if name in self.deletions), None)
            if name is None:
                return None
            fault = self.deletions[name]
            if fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    del self.deletions[name]
            return fault

    def head_node_failure(self, instance_type: str, subnet_id: str) -> str | None:
        """The error code for the launch of a head node, or None when it succeeds."""
        with self._lock:
            return self.launch_failures.get(instance_type) or self.launch_failures.get(subnet_id)

    def force_metric(self, key: MetricKey, value: float) -> None:
        """Publish `value` for a metric from now on."""
        with self._lock:
            self.metrics[key] = value

    def forced_metrics(self) -> dict[MetricKey, float]:
        """The metrics whose values are forced."""
        with self._lock:
            return dict(self.metrics)

    def clear(self) -> None:
        """Take back every fault."""
        with self._lock:
            self.bootstrap_failures.clear()
            self.launch_failures.clear()
            self.deletions.clear()
            self.metrics.clear()
            self.create_delay = self.delete_delay = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The faults in force, for people to read."""
        with self._lock:
            return {
                "bootstrap_failures": dict(self.bootstrap_failures),
                "launch_failures": dict(self.launch_failures),
                "deletions": {target: asdict(fault) for target, fault in self.deletions.items()},
                "metrics": {"/".join(key[:2]): value for key, value in self.metrics.items()},
                "create_delay": self.create_delay,
                "delete_delay": self.delete_delay,
            }
