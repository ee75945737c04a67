"""A DCV session for the cluster of a DAG: whose connections lead there, and one at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hpc.cluster.dcv import session_url
from hpc.config import Connections, SimulationConfig, load_simulations
from hpc.errors import TransientError

_starting: set[str] = set()
_guard = threading.Lock()


class AlreadyStartingError(TransientError):
    """Another request is opening a session on the same cluster right now."""


def open_session(dag_id: str, cluster: str) -> str:
    """Open a DCV session and return its one-time URL. Raises what `hpc.cluster.dcv.session_url` raises."""
    used = connections(dag_id)
    with _only_one(cluster):
        return session_url(cluster, aws_conn_id=used.aws, region_name=_region(), ssh_conn_id=used.ssh)


def connections(dag_id: str) -> Connections:
    """Return the connections that a DAG's simulation names; the default ones for a DAG written by hand."""
    for simulation in load_simulations():
        if isinstance(simulation, SimulationConfig) and simulation.name == dag_id:
            return simulation.connections
    return Connections()


def _region() -> str | None:
    """Return the account's region; None leaves it to the AWS connection, as for operators without `region_name`."""
    from airflow.sdk import Variable

    site = Variable.get("hpc_site", default=None, deserialize_json=True)
    return site["region"] if site else None


@contextmanager
def _only_one(cluster: str) -> Iterator[None]:
    """Refuse a second session while one is being opened: each costs seconds of processor time and a thread."""
    with _guard:
        if cluster in _starting:
            raise AlreadyStartingError(
                f"a session on cluster {cluster} is being opened already", remedy="wait some seconds and try again"
            )
        _starting.add(cluster)
    try:
        yield
    finally:
        with _guard:
            _starting.discard(cluster)
