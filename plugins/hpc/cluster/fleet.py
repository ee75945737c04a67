"""The compute fleet of a cluster: stopped by a person, or protected by ParallelCluster after too many failed starts."""

from __future__ import annotations

from hpc.cluster.account import Account
from hpc.cluster.cli import Pcluster
from hpc.cluster.install import require_installed


def start_compute_fleet(cluster_name: str, *, aws_conn_id: str | None, region_name: str | None) -> None:
    """Ask for the compute fleet to be started, which also ends its protection. Raises what `Pcluster` raises."""
    account = Account(aws_conn_id, region_name or None)
    Pcluster(require_installed(), account.variables()).start_fleet(cluster_name)
