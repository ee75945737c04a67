"""What happens when a run is past its deadline: an error in the triggerer's log; Airflow's UI marks the run as well."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)


async def alert(simulation: str, deadline: str, **context: Any) -> None:
    """Say which run is late. `context` is what Airflow hands to deadline callbacks: the DAG run among it."""
    run = (context.get("context") or {}).get("dag_run") or {}
    run_id = run.get("run_id") if isinstance(run, dict) else getattr(run, "run_id", None)
    log.error(
        "Run %s of %s is not finished after its deadline of %s. Its cluster may still be there and cost money.\n"
        "  What to do: look at the run's tasks; marking the run as failed ends the job and deletes the cluster.",
        *(run_id or "(unknown)", simulation, deadline),
    )
