"""What happens when a run is past its deadline: people are told of it, and no step towards a job begins any more.

The alert is an error in the triggerer's log as well; Airflow's UI marks the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from asgiref.sync import sync_to_async

from hpc.config import Notify
from hpc.durations import format_duration
from hpc.errors import DeadlineExceededError
from hpc.names import cluster_name, expiry
from hpc.notify import RunOf, Teller
from hpc.site import airflow_url
from hpc.waiting import is_past

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

#: The states that a run does not leave by itself.
FINISHED = frozenset({"success", "failed"})
AFTERWARDS = "Its job is ended now, its results are saved, and its cluster is deleted."
STARTED_LATER = "It has started later, or anew when somebody cleared it, and goes on until {} at the latest."


async def alert(
    simulation: str,
    deadline: str,
    *,
    notify: dict[str, Any] | None = None,
    aws_conn_id: str | None = "aws_default",
    pool: str | None = None,
    seconds: float = 0.0,
    context: dict[str, Any] | None = None,
) -> None:
    """Say which run is late, and which cluster is its, or of which `pool` it is; tell people of it as `notify` says.

    `context` is what Airflow adds for deadline callbacks: `dag_run` is as the REST API shows it, with its `dag_run_id`
    and its `state`. Airflow calls this also for a run that has failed long before, of which people were told then. The
    waits of a run end `seconds` after its start, which is later if it was queued first, or cleared after its end.
    """
    run = (context or {}).get("dag_run") or {}
    run_id = run.get("dag_run_id")
    if run.get("state") in FINISHED:
        log.info("Run %s of %s had ended before its deadline of %s: %s", run_id, simulation, deadline, run["state"])
        return
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
        until = expiry(datetime.fromisoformat(run["start_date"]), seconds) if run.get("start_date") else None
        afterwards = AFTERWARDS if is_past(until) or until is None else STARTED_LATER.format(until)
        await sync_to_async(tell)(RunOf(simulation, run_id, link), event, afterwards)


def require_time(
    deadline: timedelta, context: Context, *, was_reached: Callable[[Context, str], bool] | None = None
) -> None:
    """Raise DeadlineExceededError if a run is past its deadline: the same moment at which its waits end.

    It is for tasks that are not deferred, as `pre_execute`: Airflow calls that again when a task comes back.

    `was_reached` says, of the context and the cluster's name, whether that was ever connected to. Such a one may hold
    results, and whoever clears the connection to save them is let through. What it raises fails the task, which is
    tried again.
    """
    started = context["dag_run"].start_date
    if started is None or not is_past(end := expiry(started, deadline.total_seconds())):
        return
    task: Any = context["task"]
    if was_reached is not None and was_reached(context, task.cluster_name):
        return
    raise DeadlineExceededError(
        f"{task.task_id} does not begin any more: the run is past its deadline of {format_duration(deadline)} ({end})",
        remedy="nothing: what there is of it is saved and its cluster is deleted; if the next run needs longer, raise"
        " the simulation's deadline",
    )
