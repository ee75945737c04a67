"""What happens when a run is past its deadline: an error in the triggerer's log; Airflow's UI marks the run as well."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote

from asgiref.sync import sync_to_async

from hpc.config import Notify
from hpc.names import cluster_name
from hpc.notify import RunOf, Teller
from hpc.site import airflow_url

log = logging.getLogger(__name__)

AFTERWARDS = "Its job is ended now, its results are saved, and its cluster is deleted."


async def alert(
    simulation: str,
    deadline: str,
    *,
    notify: dict[str, Any] | None = None,
    aws_conn_id: str | None = "aws_default",
    pool: str | None = None,
    context: dict[str, Any] | None = None,
) -> None:
    """Say which run is late, and which cluster is its, or of which `pool` it is; tell people of it as `notify` says.

    `context` is what Airflow adds for deadline callbacks: `dag_run` is as the REST API shows it, with its `dag_run_id`.
    """
    run_id = ((context or {}).get("dag_run") or {}).get("dag_run_id")
    own = cluster_name(simulation, run_id) if run_id else "(unknown)"
    log.error(
        "Run %s of %s is not finished after its deadline of %s. Its cluster %s may still be there and cost money.\n"
        "  What to do: look at the run's tasks; marking the run as failed ends the job and deletes the cluster.",
        *(run_id or "(unknown)", simulation, deadline, own if pool is None else f"of pool {pool}"),
    )
    if run_id:
        tell = Teller(Notify.model_validate(notify) if notify else None, aws_conn_id, pool).tell
        link = f"{airflow_url().rstrip('/')}/dags/{simulation}/runs/{quote(run_id)}"
        event = f"it is not finished after its deadline of {deadline}"
        await sync_to_async(tell)(RunOf(simulation, run_id, link), event, AFTERWARDS)
