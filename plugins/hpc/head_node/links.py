"""The link from a task to a DCV session: to a page that makes the session's URL, for that is valid for 30 s only."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseOperatorLink

from hpc.names import cluster_name

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


def session_page(dag_id: str, run_id: str) -> str:
    """Return the path of the page in Airflow's API server, below the path of `[api] base_url`.

    Without scheme and host, for people reach the UI by more names than one; Airflow's UI opens it in the same tab.
    """
    from airflow.sdk.configuration import conf

    below = urlsplit(conf.get("api", "base_url", fallback=None) or "").path.rstrip("/")
    return f"{below}/hpc/dcv/{quote(dag_id, safe='')}/{quote(run_id, safe='')}"


class DcvLink(BaseOperatorLink):
    """A DCV session on the head node of the run's cluster.

    The page knows a cluster by its DAG run alone (`hpc.names.cluster_name`), so that the right to the DAG is the right
    to the cluster. A task whose `cluster_name` is another one has no such link.
    """

    @property
    def name(self) -> str:
        """The button's label."""
        return "DCV session"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the page's path, or nothing."""
        if getattr(operator, "cluster_name", None) != cluster_name(ti_key.dag_id, ti_key.run_id):
            return ""
        return session_page(ti_key.dag_id, ti_key.run_id)
