"""Which connections lead to a DAG's cluster, and one session at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hpc.config import Connections, SimulationConfig, load_simulations
from hpc.ui import session


def test_a_simulation_names_its_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    first = next(one for one in load_simulations() if isinstance(one, SimulationConfig))
    own = first.model_copy(update={"name": "own", "connections": Connections(aws="aws_other", ssh="ssh_other")})
    monkeypatch.setattr(session, "load_simulations", lambda: [first, own])
    assert session.connections("own") == Connections(aws="aws_other", ssh="ssh_other")


@pytest.mark.parametrize("dag_id", ["written_by_hand", "../lj_melt", ""])
def test_other_dags_use_the_default_ones(dag_id: str) -> None:
    assert session.connections(dag_id) == Connections(aws="aws_default", ssh="hpc_head_node")


def test_a_second_session_on_a_cluster_waits_for_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(cluster: str, **_: Any) -> str:
        if cluster == "one":
            started.set()
            assert go_on.wait(30)
        return f"https://{cluster}"

    monkeypatch.setattr(session, "session_url", slow)
    monkeypatch.setattr(session, "_region", lambda: "us-east-1")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(session.open_session, "dag", "one")
        assert started.wait(30)
        with pytest.raises(session.AlreadyStartingError, match="cluster one"):
            session.open_session("dag", "one")
        assert session.open_session("dag", "two") == "https://two"
        go_on.set()
        assert first.result(30) == "https://one"
    assert session.open_session("dag", "one") == "https://one"


def test_a_failed_session_leaves_the_way_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(cluster: str, **_: Any) -> str:
        raise OSError(cluster)

    monkeypatch.setattr(session, "session_url", broken)
    monkeypatch.setattr(session, "_region", lambda: None)
    for _ in range(2):
        with pytest.raises(OSError, match="one"):
            session.open_session("dag", "one")
