"""The shipped DAGs of a simulation and of the janitor, with the waits of runs that have no hours to wait."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from hpc import janitor
from hpc.cluster import abandoned, pool
from hpc.config import SimulationConfig
from hpc.lifecycle import build_dag

Order = Mapping[str, Any]
HERE = Path(__file__).parent
#: Seconds between two looks, and after which a wait gives up: 12 hours are too long for a hundred runs.
DELAY, LONGEST_WAIT = 1, 120
#: Seconds for which AWS may still show what is gone.
SETTLE = 3
#: For how long a shared cluster's deletion is left to the run that began it: it may be gone.
HEAD_START = timedelta(seconds=20)
#: Seconds for which a simulation waits for capacity.
GRACE = timedelta(seconds=5)


def dag_of(order: Order) -> DAG:
    """Return the DAG that an order is about, with the waits of a run that has no hours to wait."""
    if order["simulation"] is None:
        if order["expired"]:
            _let_time_pass_for(order["expired"])
        dag = janitor.build_janitor(janitor.Janitor("janitor", "aws_default"))
    else:
        dag = build_dag(SimulationConfig.model_validate(order["simulation"]))
        dag.get_task("submit_job").job_script = str(HERE / "job.sh")  # type: ignore[union-attr]
    limits = {
        "waiter_delay": DELAY,
        "waiter_max_attempts": LONGEST_WAIT // DELAY,
        "settle_seconds": SETTLE,
        "capacity_grace": GRACE,
    }
    for task in dag.tasks:
        for name in limits.keys() & vars(task).keys():
            setattr(task, name, limits[name])
    return dag


def hurry() -> None:
    """Let a process of its own, for it does not end here, wait for nobody who may be gone."""
    vars(pool)["HEAD_START"] = HEAD_START
    vars(janitor)["MISSING_IS_OVER"] = timedelta(0)


def _let_time_pass_for(clusters: list[str]) -> None:
    """Let the janitor judge these clusters as it would in a month."""
    judge = abandoned.judge

    def later(sighting: Any, run: Any, now: datetime) -> Any:
        return judge(sighting, run, now + timedelta(days=31) if sighting.cluster_name in clusters else now)

    vars(janitor)["judge"] = later
