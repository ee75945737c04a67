"""What happens when a run is past its deadline: an error in the triggerer's log; Airflow's UI marks the run as well."""

from __future__ import annotations

import logging
from typing import Any

from hpc.names import cluster_name

log = logging.getLogger(__name__)


async def alert(simulation: str, deadline: str, context: dict[str, Any] | None = None) -> None:
    """Say which run is late, and which cluster is its.

    `context` is what Airflow adds for deadline callbacks: `dag_run` is as the REST API shows it, with its `dag_run_id`.
    """
    run_id = ((context or {}).get("dag_run") or {}).get("dag_run_id")
    log.error(
        "Run %s of %s is not finished after its deadline of %s. Its cluster %s may still be there and cost money.\n"
        "  What to do: look at the run's tasks; marking the run as failed ends the job and deletes the cluster.",
        *(run_id or "(unknown)", simulation, deadline, cluster_name(simulation, run_id) if run_id else "(unknown)"),
    )
