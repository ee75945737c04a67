"""The compute fleet's status: the DynamoDB item through which `pcluster update-compute-fleet` and the head node talk.

`follow` is the part of ParallelCluster's `clustermgtd` that acts on it, and that keeps static nodes running.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from moto.dynamodb.models import dynamodb_backends

from local_aws.cluster import Cluster

KEY = {"Id": {"S": "COMPUTE_FLEET"}}


class Fleet:
    """The fleet of one cluster. A cluster without a table (started without a stack) always runs."""

    def __init__(self, account: str, region: str, cluster: Cluster) -> None:
        self._backend = dynamodb_backends[account][region]
        self._cluster = cluster
        self._table = f"parallelcluster-{cluster.config.name}"

    @property
    def status(self) -> str | None:
        """The status in the table; None until the head node has declared one."""
        if self._table not in self._backend.tables:
            return None
        item: Any = self._backend.get_item(self._table, KEY)
        if item is None:
            return None
        status: str = item.to_json()["Attributes"]["Data"]["M"]["status"]["S"]
        return status

    def declare(self, status: str) -> None:
        """Write the status, if the cluster has a table."""
        if self._table in self._backend.tables:
            data = {"status": {"S": status}, "lastStatusUpdatedTime": {"S": str(datetime.now(UTC))}}
            self._backend.put_item(self._table, {**KEY, "Data": {"M": data}})

    def follow(self) -> None:
        """Do what was requested since the last call, and tell Slurm about lost instances."""
        self._set_lost_nodes_down()
        status = self.status
        if status == "STOP_REQUESTED":
            self.declare("STOPPING")
            self._stop()
            self.declare("STOPPED")
        elif status == "START_REQUESTED":
            self.declare("STARTING")
            self._set_partitions("UP")
            self.declare("RUNNING")
        elif status == "RUNNING":
            self._keep_static_nodes()

    def _set_lost_nodes_down(self) -> None:
        """What clustermgtd does within a minute on AWS; slurmctld alone needs SlurmdTimeout and more to notice."""
        for name in self._cluster.take_lost():
            reason = "reason=(Code:NoCorrespondingInstance)The instance was lost"
            self._cluster.scontrol("update", f"nodename={name}", "state=down", reason)
            self._cluster.scontrol("update", f"nodename={name}", "state=power_down_force", reason)

    def _stop(self) -> None:
        self._set_partitions("INACTIVE")
        running = list(self._cluster.instances)
        if running:
            names = ",".join(running)
            reason = "reason=(Code:ScheduledStop)The compute fleet was stopped"
            self._cluster.scontrol("update", f"nodename={names}", "state=power_down_force", reason)
            self._cluster.suspend(running)

    def _set_partitions(self, state: str) -> None:
        for queue in self._cluster.config.queues:
            self._cluster.scontrol("update", f"partitionname={queue}", f"state={state}")

    def _keep_static_nodes(self) -> None:
        """Power up the static nodes that are off: at the start, and after one was lost."""
        running = self._cluster.instances
        for name in self._cluster.config.static_nodes:
            if name not in running:
                state = self._cluster.scontrol("--oneliner", "show", "node", name).stdout
                if "POWERED_DOWN" in state:
                    self._cluster.scontrol("update", f"nodename={name}", "state=power_up")
