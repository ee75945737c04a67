"""Where the link to a DCV session leads."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.types import TaskInstanceKey
from airflow.serialization.serialized_objects import DagSerialization

from hpc.head_node.links import DcvLink, session_page
from hpc.names import cluster_name

DAG_ID, RUN_ID = "lj_melt", "manual__2026-11-23T02:12:00+00:00"
PAGE = "/hpc/dcv/lj_melt/manual__2026-11-23T02%3A12%3A00%2B00%3A00"


class OnCluster(BaseOperator):
    operator_extra_links = (DcvLink(),)

    def __init__(self, *, cluster_name: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.cluster_name = cluster_name


def link(operator: BaseOperator) -> str:
    return DcvLink().get_link(operator, ti_key=TaskInstanceKey(DAG_ID, "connect", RUN_ID, try_number=1))


def test_a_task_on_the_runs_cluster_leads_to_the_runs_page() -> None:
    assert link(OnCluster(task_id="connect", cluster_name=cluster_name(DAG_ID, RUN_ID))) == PAGE


def test_another_cluster_is_not_the_runs_to_open() -> None:
    assert link(OnCluster(task_id="connect", cluster_name="somebody-elses")) == ""
    assert link(BaseOperator(task_id="connect")) == ""


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://airflow.example.org", PAGE),
        ("https://airflow.example.org/", PAGE),
        ("https://example.org/airflow/", f"/airflow{PAGE}"),
    ],
)
def test_the_page_is_below_airflows_own_path(monkeypatch: pytest.MonkeyPatch, base_url: str, expected: str) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    assert session_page(DAG_ID, RUN_ID) == expected


def test_ids_cannot_leave_the_path() -> None:
    assert session_page("a/../b?c#d", "e f") == "/hpc/dcv/a%2F..%2Fb%3Fc%23d/e%20f"


def test_airflow_keeps_the_link_for_its_ui() -> None:
    with DAG("with_link", schedule=None) as dag:
        OnCluster(task_id="connect", cluster_name="any")
    kept = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert kept.get_task("connect").extra_links == ["DCV session"]
