"""Steps 8, 9 and 13: wait for nodes, for the job's end, for an empty queue. Deferred: no worker is held meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator

from hpc.errors import ConfigurationError
from hpc.head_node.address import head_node_of
from hpc.head_node.session import run_on_kill, run_session
from hpc.slurm.cancel import cancel_job
from hpc.slurm.events import end_of, raise_for_end, raise_for_event
from hpc.slurm.identity import JobPlaces, SubmittedJob
from hpc.slurm.states import JobState
from hpc.slurm.submission import move_job
from hpc.slurm.triggers import (
    JobEndTrigger,
    JobStartTrigger,
    QueueEmptyTrigger,
    SlurmTrigger,
    SweepEndTrigger,
    SweepStartTrigger,
)
from hpc.slurm.waiting import wait_for
from hpc.waiting import end_of_wait

if TYPE_CHECKING:
    from airflow.sdk import Context


class _SlurmSensor(BaseSensorOperator):
    """What the sensors of this room share: where to ask, and for how long.

    :param head_node: what HeadNodeConnectOperator returned, or its JSON text; EC2 is asked if it is left out.
    :param waiter_delay: the longest pause between two looks, in seconds.
    :param waiter_max_attempts: times `waiter_delay` it is how long to wait.
    :param until: the wait ends at this moment in any case, `2026-12-31T23:59:59Z`; None for no such moment (templated)
    """

    template_fields: Sequence[str] = ("cluster_name", "head_node", "aws_conn_id", "region_name", "ssh_conn_id", "until")
    ui_color = "#e8eef7"

    def __init__(
        self,
        *,
        cluster_name: str,
        head_node: dict[str, Any] | str | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        ssh_conn_id: str = "hpc_head_node",
        deferrable: bool = True,
        waiter_delay: int = 30,
        waiter_max_attempts: int = 2_880,
        until: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cluster_name = cluster_name
        self.head_node = head_node
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.ssh_conn_id = ssh_conn_id
        self.deferrable = deferrable
        self.waiter_delay = waiter_delay
        self.waiter_max_attempts = waiter_max_attempts
        self.until = until

    def _where_and_how_long(self) -> dict[str, Any]:
        address = head_node_of(
            self.cluster_name, self.head_node, aws_conn_id=self.aws_conn_id, region_name=self.region_name
        )
        return {
            "head_node": address.as_dict(),
            "ssh_conn_id": self.ssh_conn_id,
            "deadline": end_of_wait(self.waiter_delay, self.waiter_max_attempts, self.until),
            "longest_pause": self.waiter_delay,
        }

    def _wait(self, trigger: SlurmTrigger) -> dict[str, Any]:
        return wait_for(self, trigger, deferrable=self.deferrable, looks_first=True)


class _JobSensor(_SlurmSensor):
    """A sensor of one job. Who marks it failed or clears it while it waits cancels the job.

    :param job: what SlurmJobOperator returned with `wait_for_completion=False`, or its JSON text.
    """

    template_fields: Sequence[str] = ("job", *_SlurmSensor.template_fields)

    def __init__(self, *, job: Mapping[str, Any] | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job = job

    @property
    def submitted(self) -> SubmittedJob:
        """The job. Raises ConfigurationError if the submitting task returned none."""
        value = json.loads(self.job) if isinstance(self.job, str) else self.job
        if not isinstance(value, Mapping):
            raise ConfigurationError(
                f"job = {value!r}: is no job",
                remedy="pass what a SlurmJobOperator with wait_for_completion=False returned; clear that task first",
            )
        return SubmittedJob.from_dict(value)

    def on_kill(self) -> None:
        """Cancel the job, if the task waits in its worker.

        One that only has its first look there may be ended for many reasons; its job is what is waited for, and whoever
        ends the run cancels it.
        """
        if not self.deferrable:
            run_on_kill(self._cancel)

    def _cancel(self) -> None:
        address = head_node_of(
            self.cluster_name, self.head_node, aws_conn_id=self.aws_conn_id, region_name=self.region_name
        )
        asyncio.run(cancel_job(address, self.ssh_conn_id, self.submitted))


class SlurmAllocationSensor(_JobSensor):
    """Wait until a job has its nodes and runs, or has ended already. The log says why it is pending, each reason once.

    Returns `{"state", "node_list", "restarts"}`. Raises JobRejectedError for a job that can never start; CapacityError
    when AWS has no instances, or the compute fleet is stopped, for longer than `capacity_grace`; ClusterError when
    instances start but no node joins the cluster for that long.

    :param capacity_grace: how long to wait for capacity before something is done about it.
    :param on_no_capacity: `fail`; `wait` until the task's own limit; or `next_partition`, and fail after the last.
    :param partitions: those that the job is moved to, one after the other.
    :param on_stopped_fleet: `fail`; `wait`; or `start`: call `start_fleet`, once.
    :param start_fleet: called with `cluster_name`, `aws_conn_id` and `region_name`.
    """

    def __init__(
        self,
        *,
        capacity_grace: timedelta = timedelta(minutes=30),
        on_no_capacity: str = "fail",
        partitions: Sequence[str] = (),
        on_stopped_fleet: str = "fail",
        start_fleet: Callable[..., None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.capacity_grace = capacity_grace
        self.on_no_capacity = on_no_capacity
        self.partitions = partitions
        self.on_stopped_fleet = on_stopped_fleet
        self.start_fleet = start_fleet

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait for the job's start."""
        return self._wait_for_start(list(self.partitions), may_start_fleet=True)

    def _wait_for_start(self, partitions: list[str], *, may_start_fleet: bool) -> dict[str, Any]:
        kind = SweepStartTrigger if self.submitted.is_sweep else JobStartTrigger
        pending = {
            "grace": self.capacity_grace.total_seconds(),
            "on_no_capacity": self.on_no_capacity if partitions or self.on_no_capacity == "wait" else "fail",
            "on_stopped_fleet": self.on_stopped_fleet if may_start_fleet or self.on_stopped_fleet == "wait" else "fail",
            "partitions": partitions,
        }
        trigger = kind(job=self.submitted.as_dict(), pending=pending, **self._where_and_how_long())
        kwargs: dict[str, Any] = {"partitions": partitions, "may_start_fleet": may_start_fleet}
        event = wait_for(self, trigger, deferrable=self.deferrable, kwargs=kwargs)
        return self.execute_complete({}, event, **kwargs)

    def execute_complete(
        self, context: Context, event: dict[str, Any], partitions: list[str], may_start_fleet: bool
    ) -> dict[str, Any]:
        """Return where the job runs; or do something about why it does not, and wait again."""
        raise_for_event(event, waited_for=f"nodes for {self.submitted}")
        if event["status"] == "act":
            if event["move"]:
                self._move(event["move"])
                return self._wait_for_start(partitions[1:], may_start_fleet=may_start_fleet)
            self._start_fleet()
            return self._wait_for_start(partitions, may_start_fleet=False)
        if "result" in event:
            result = event["result"]
            if result["state"] == JobState.UNKNOWN.slurm_name:
                raise_for_end(event, self.submitted)
            self.log.warning("%s ended before it was seen to run: %s", self.submitted, result["state"])
            return {key: result[key] for key in ("state", "node_list", "restarts")}
        self.log.info("%s runs%s", self.submitted, f" on {event['node_list']}" if event["node_list"] else "")
        return {key: event[key] for key in ("state", "node_list", "restarts")}

    def _move(self, partition: str) -> None:
        address = head_node_of(
            self.cluster_name, self.head_node, aws_conn_id=self.aws_conn_id, region_name=self.region_name
        )
        places = self.submitted.places
        moved = run_session(address, self.ssh_conn_id, lambda session: move_job(session, places, partition))
        self.log.warning(
            "No capacity for %s: moved %s to partition %s", self.submitted, ", ".join(moved) or "nothing", partition
        )

    def _start_fleet(self) -> None:
        if self.start_fleet is None:
            raise ConfigurationError(
                "on_stopped_fleet is 'start', but start_fleet is not set", remedy="pass a function"
            )
        self.log.warning("The compute fleet of %s is stopped or protected: starting it, once", self.cluster_name)
        self.start_fleet(self.cluster_name, aws_conn_id=self.aws_conn_id, region_name=self.region_name)


class SlurmJobSensor(_JobSensor):
    """Wait until a job has ended; new lines of its output, or the progress of a sweep, appear in the log.

    Returns `JobResult.as_dict()`, of a sweep `SweepProgress.result()`. Raises JobFailedError with the last lines or the
    points that failed, JobStateUnknownError if the job vanished.
    """

    def __init__(self, *, waiter_max_attempts: int = 20_160, **kwargs: Any) -> None:
        super().__init__(waiter_max_attempts=waiter_max_attempts, **kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait for the job's end."""
        kind = SweepEndTrigger if self.submitted.is_sweep else JobEndTrigger
        trigger = kind(job=self.submitted.as_dict(), **self._where_and_how_long())
        return self.execute_complete(context, self._wait(trigger))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Return how it ended."""
        raise_for_event(event, waited_for=f"the end of {self.submitted}")
        return end_of(event, self.submitted, self.log)


class SlurmQueueEmptySensor(_SlurmSensor):
    """Wait until no job of the cluster is pending, running or ending; the log says which still are.

    :param jobs_of: ids of tasks of this run: only their jobs count, for others share the cluster. All jobs if empty.
    :param directory: the folder of their jobs.
    """

    template_fields: Sequence[str] = ("directory", *_SlurmSensor.template_fields)

    def __init__(self, *, jobs_of: Sequence[str] = (), directory: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.jobs_of = jobs_of
        self.directory = directory

    def execute(self, context: Context) -> None:
        """Wait for the empty queue."""
        names = [
            JobPlaces.of_task(context["ti"], directory=self.directory, task_id=task).job_name for task in self.jobs_of
        ]
        self.execute_complete(context, self._wait(QueueEmptyTrigger(names=names, **self._where_and_how_long())))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:
        """Say that it is empty."""
        raise_for_event(event, waited_for=f"an empty queue on {self.cluster_name}")
        self.log.info("The queue of %s is empty", self.cluster_name)


class SlurmEndJobsSensor(SlurmQueueEmptySensor):
    """Cancel every job of the SSH user on a cluster, and wait until the queue is empty: nothing writes any more."""

    def execute(self, context: Context) -> None:
        """Cancel, then wait."""
        address = head_node_of(
            self.cluster_name, self.head_node, aws_conn_id=self.aws_conn_id, region_name=self.region_name
        )
        self.log.warning("Cancelling the jobs of %s", self.cluster_name)
        run_session(address, self.ssh_conn_id, lambda session: session.run('scancel --user="$(id -un)"'))
        super().execute(context)
