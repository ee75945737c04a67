"""The pause between the end of a run and the deletion of its cluster: none when all went well.

Two things hold a cluster back: results that are not safe in S3 yet, and a simulation that asked to keep failed clusters
for people to look at. Both end by themselves, so nothing is left running for ever; the wait is deferred and costs no
worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import BaseOperator

from hpc.durations import format_duration

if TYPE_CHECKING:
    from airflow.sdk import Context

FAILED = frozenset({"failed", "upstream_failed"})


@dataclass(frozen=True)
class Hold:
    """Why a cluster is kept, and for how long."""

    reason: str
    duration: timedelta


def decide_hold(
    states: Mapping[str, str | None],
    *,
    created_by: str,
    reached_by: str,
    exported_by: str | None,
    also_exported_by: Sequence[str] = (),
    regardless_of: Sequence[str] = (),
    keep_for: timedelta | None,
    hold_if_unverified: timedelta,
    was_reached: Callable[[], bool] = lambda: False,
) -> Hold | None:
    """Say whether a finished run's cluster has to wait before it is deleted.

    `states` are the run's task states by task id; a task without one has not run. `exported_by` is None when the
    simulation discards its results. `was_reached` is asked when `reached_by` does not say so: whether it succeeded
    before the run's tasks were cleared, `created_by` with them, which may fail now that the cluster is there. The
    longest of several reasons wins.
    """
    holds: list[Hold] = []
    is_created = states.get(created_by) == "success"
    failed = sorted(task for task, state in states.items() if state in FAILED and task not in regardless_of)
    is_unsaved = exported_by is not None and states.get(exported_by) != "success"
    if is_unsaved and (states.get(reached_by) == "success" or was_reached()):
        reason = f"a job may have run, but {exported_by} did not verify its results in S3"
        holds.append(Hold(reason, hold_if_unverified))
    if not is_created:
        return next(iter(holds), None)
    if unsaved := [task for task in also_exported_by if exported_by is not None and states.get(task) == "failed"]:
        holds.append(Hold(f"{', '.join(unsaved)} did not verify its files in S3", hold_if_unverified))
    if failed and keep_for is not None:
        holds.append(Hold(f"the run failed ({', '.join(failed)}) and the simulation says keep_for", keep_for))
    return max(holds, key=lambda hold: hold.duration, default=None)


class HoldClusterOperator(BaseOperator):
    """Wait before a failed run's cluster is deleted, as long as `decide_hold` says; not at all when all went well.

    To delete a held cluster sooner, mark this task as success. To save the results first, clear the export task: this
    task is cleared with it and decides anew.

    :param cluster_name: the cluster that is held (templated)
    :param created_by: task id whose success means that there may be a cluster
    :param reached_by: task id whose success means that a job may have been submitted, and left results
    :param exported_by: task id whose success means that the results are verified in S3; None when they may be lost
    :param also_exported_by: task ids of further exports, whose failure holds the cluster as well
    :param regardless_of: task ids that need no cluster: none is held because they fail
    :param keep_for: how long a failed run's cluster is kept for people to look at; None to delete it at once
    :param hold_if_unverified: how long a cluster with unsaved results is kept
    :param was_reached: called with the context and the cluster's name, which is empty for a shared cluster that the run
        does not know by now; whether `reached_by` ever succeeded, for Airflow forgets that when the task is cleared.
        What it raises fails this task, which is tried again
    :param tell: called with the context, the event and what it means, when a cluster is kept
    :param keep_lease: of a shared cluster: called with the context and the end of the hold when people have been told
    """

    template_fields = ("cluster_name",)
    ui_color = "#f3e2b3"

    def __init__(
        self,
        *,
        cluster_name: str,
        created_by: str,
        reached_by: str,
        exported_by: str | None,
        also_exported_by: Sequence[str] = (),
        regardless_of: Sequence[str] = (),
        keep_for: timedelta | None,
        hold_if_unverified: timedelta,
        was_reached: Callable[[Context, str], bool] = lambda context, cluster_name: False,
        tell: Callable[[Context, str, str], None] | None = None,
        keep_lease: Callable[[Context, datetime], None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cluster_name = cluster_name
        self.created_by = created_by
        self.reached_by = reached_by
        self.exported_by = exported_by
        self.also_exported_by = also_exported_by
        self.regardless_of = regardless_of
        self.keep_for = keep_for
        self.hold_if_unverified = hold_if_unverified
        self.was_reached = was_reached
        self.tell = tell
        self.keep_lease = keep_lease

    def execute(self, context: Context) -> dict[str, Any]:
        """Defer until the hold is over; return {"held": reason or None, "seconds": length}."""
        instance = context["ti"]
        states = instance.get_task_states(dag_id=instance.dag_id, run_ids=[instance.run_id])[instance.run_id]
        hold = decide_hold(
            {task: state for task, state in states.items() if task != self.task_id},
            created_by=self.created_by,
            reached_by=self.reached_by,
            exported_by=self.exported_by,
            also_exported_by=self.also_exported_by,
            regardless_of=self.regardless_of,
            keep_for=self.keep_for,
            hold_if_unverified=self.hold_if_unverified,
            was_reached=lambda: self.was_reached(context, self.cluster_name),
        )
        if hold is not None:
            self.wait(context, hold)
        self.log.info("Nothing holds cluster %s back: it can be deleted.", self.cluster_name)
        return {"held": None, "seconds": 0}

    def wait(self, context: Context, hold: Hold) -> NoReturn:
        """Say loudly that the cluster is kept, and defer until the hold is over."""
        until = datetime.now(UTC) + hold.duration
        event = f"its cluster is KEPT RUNNING for {format_duration(hold.duration)}"
        text = (
            f"{self.cluster_name or 'It'} is kept until {until.isoformat(timespec='seconds')}: {hold.reason}.\n"
            "  What to do: look at the failed tasks' logs; clear the export to save the results, or copy them by the "
            f"line in the log of {self.reached_by}; mark {self.task_id} as success to delete the cluster now."
        )
        self.log.error("Cluster %s costs money: %s. %s", self.cluster_name, event, text)
        if self.tell is not None:
            self.tell(context, event, text)
        if self.keep_lease is not None:
            try:
                self.keep_lease(context, until)
            except Exception as error:
                # A lease lasts for the run's deadline and this hold anyway: people are told, and the wait begins.
                self.log.exception("The lease could not be renewed; if the run has one, that goes on.")
                if self.tell is not None:
                    self.tell(context, "its shared cluster may be deleted BEFORE that", str(error))
        self.defer(
            trigger=DateTimeTrigger(moment=until),
            method_name="execute_complete",
            kwargs={"reason": hold.reason, "seconds": hold.duration.total_seconds()},
        )

    def execute_complete(self, context: Context, event: Any, reason: str, seconds: float) -> dict[str, Any]:
        """Return why and how long the cluster was held."""
        self.log.warning("The hold on cluster %s is over (%s): it is deleted now.", self.cluster_name, reason)
        return {"held": reason, "seconds": seconds}
