"""The region's pulse: fleet requests, logs, metrics and alarms of every cluster, every second."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from local_aws import alarms, metrics
from local_aws.cluster import Cluster
from local_aws.faults import Faults
from local_aws.fleet import Fleet
from local_aws.logs import LogShipper
from local_aws.metrics import HeadNodeMeter

LOG = logging.getLogger(__name__)
TICK_SECONDS = 1.0
METRIC_TICKS = 3
HEAD_NODE_LOGS = {
    "cloud-init": "boot.log",
    "slurmctld": "var/log/slurmctld.log",
    "sshd": "var/log/sshd.log",
    "munged": "var/log/munged.log",
}


@dataclass
class WatchedCluster:
    """A cluster with what observes it."""

    cluster: Cluster
    fleet: Fleet
    meter: HeadNodeMeter
    shipper: LogShipper | None

    def ship_logs(self) -> None:
        """Send the head node's new log lines to CloudWatch."""
        if self.shipper is not None:
            for name, path in HEAD_NODE_LOGS.items():
                self.shipper.ship(name, self.cluster.head.disks / path)
            self.shipper.write("clustermgtd", self.cluster.take_events())


class Watch:
    """Looks after all clusters on one thread."""

    def __init__(self, account: str, region: str, faults: Faults) -> None:
        self._account = account
        self._region = region
        self._faults = faults
        self._clusters: dict[str, WatchedCluster] = {}
        self._wake = threading.Event()
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._wake.set()

    def add(self, watched: WatchedCluster) -> None:
        """Watch a cluster from now on."""
        self._clusters[watched.cluster.config.name] = watched

    def remove(self, name: str) -> None:
        """Stop watching a cluster, after its last log lines were sent."""
        watched = self._clusters.pop(name, None)
        if watched is not None:
            watched.ship_logs()

    def now(self) -> None:
        """Do not wait for the next second."""
        self._wake.set()

    def _run(self) -> None:
        tick = 0
        while not self._ended.is_set():
            hurried = self._wake.wait(TICK_SECONDS)
            self._wake.clear()
            with_metrics = hurried or tick % METRIC_TICKS == 0
            for name, watched in list(self._clusters.items()):
                self._survive(name, partial(self._look, watched, with_metrics=with_metrics))
            self._survive("alarms", self._evaluate)
            tick += 1

    def _survive(self, subject: str, work: Callable[[], None]) -> None:
        """Run `work`; whatever it raises is logged, because the others are still to be looked after."""
        try:
            work()
        except Exception:
            LOG.exception("%s: the watch stumbled, and goes on", subject)

    def _evaluate(self) -> None:
        forced = [metrics.Datum(*key, value) for key, value in self._faults.forced_metrics().items()]
        metrics.publish(self._account, self._region, forced)
        alarms.evaluate(self._account, self._region)

    def _look(self, watched: WatchedCluster, with_metrics: bool) -> None:
        watched.fleet.follow()
        watched.ship_logs()
        if with_metrics:
            cluster = watched.cluster
            data = watched.meter.measure(cluster.head.process_id, cluster.directory)
            data += [
                metrics.cluster_metric(cluster.config.name, name, count)
                for name, count in cluster.take_errors().items()
            ]
            forced = self._faults.forced_metrics()
            metrics.publish(self._account, self._region, [datum for datum in data if datum.key not in forced])
