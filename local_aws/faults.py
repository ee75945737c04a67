"""Faults that a test, a demonstration or a curious user can order: each stays until it is cleared."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

LAUNCH_CODES = (
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "VcpuLimitExceeded",
    "UnauthorizedOperation",
)


MetricKey = tuple[str, str, tuple[tuple[str, str], ...]]
"""Namespace, name and sorted dimensions of a metric."""


@dataclass
class Faults:
    """The faults in force.

    `bootstrap_failure` is the reason that the next head nodes report; `launch_failures` maps a queue, compute resource
    or node name (`*` for all) to the EC2 error code of its launches; `metrics` are values published instead of measured
    ones; the delays are in seconds.
    """

    bootstrap_failure: str | None = None
    launch_failures: dict[str, str] = field(default_factory=dict)
    create_delay: float = 0.0
    delete_delay: float = 0.0
    metrics: dict[MetricKey, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def fail_launches(self, target: str, code: str) -> None:
        """Refuse launches of `target` with the EC2 error `code`."""
        with self._lock:
            self.launch_failures[target] = code

    def launch_failure(self, *names: str) -> str | None:
        """The error code for a launch that goes by any of `names`, or None when it succeeds."""
        with self._lock:
            return next((self.launch_failures[name] for name in (*names, "*") if name in self.launch_failures), None)

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
            self.bootstrap_failure = None
            self.launch_failures.clear()
            self.metrics.clear()
            self.create_delay = self.delete_delay = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The faults in force, for people to read."""
        with self._lock:
            return {
                "bootstrap_failure": self.bootstrap_failure,
                "launch_failures": dict(self.launch_failures),
                "metrics": {"/".join(key[:2]): value for key, value in self.metrics.items()},
                "create_delay": self.create_delay,
                "delete_delay": self.delete_delay,
            }
