"""Step 10: watch the CloudWatch alarms of a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseSensorOperator

from hpc.durations import format_duration
from hpc.errors import AlarmError, ConfigurationError, DeadlineExceededError
from hpc.monitoring.alarms import warnings
from hpc.monitoring.links import CloudWatchDashboardLink, CloudWatchLogsLink, dashboard_name, log_group_name
from hpc.monitoring.triggers import CloudWatchAlarmTrigger, OnAlarm
from hpc.waiting import run_trigger

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context


class CloudWatchAlarmSensor(BaseSensorOperator):
    """Watch alarms, metric and composite, and log every change of state with CloudWatch's reason.

    The watch ends when the tasks `until_task_ids` of the same DAG run are over, however they ended; without such tasks
    it ends when all alarms are OK. INSUFFICIENT_DATA is neither OK nor ALARM.

    Returns `{"alarms": {name: [[time, state, reason], …]}, "warnings": [one line for each time that one went off]}`.

    Raises AlarmError as soon as an alarm is in ALARM and `on_alarm` is "fail"; ConfigurationError for an alarm that
    does not exist, with the names of those that do; DeadlineExceededError.

    :param alarm_names: full names; ParallelCluster makes `<cluster>-HeadNode`, which goes off with any of its others
    :param cluster_name: the cluster, for the links and for the list of alarms that exist
    :param on_alarm: "warn" logs an alarm and succeeds in the end, "fail" fails at once
    :param tell: called with the context, the event and CloudWatch's reasons when the first alarm goes off
    :param until_task_ids: ids of tasks of this DAG
    :param waiter_delay: the longest pause between two questions, in seconds
    :param waiter_max_attempts: the watch gives up after waiter_delay x waiter_max_attempts seconds
    """

    template_fields: Sequence[str] = ("alarm_names", "cluster_name", "aws_conn_id", "region_name")
    operator_extra_links: ClassVar[tuple[BaseOperatorLink, ...]] = (  # type: ignore[misc]
        CloudWatchDashboardLink(),
        CloudWatchLogsLink(),
    )
    ui_color = "#f7e6ee"

    def __init__(
        self,
        *,
        alarm_names: Sequence[str],
        cluster_name: str | None = None,
        on_alarm: OnAlarm = "warn",
        tell: Callable[[Context, str, str], None] | None = None,
        until_task_ids: Sequence[str] = (),
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        deferrable: bool = True,
        waiter_delay: float = 15,
        waiter_max_attempts: int = 5760,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alarm_names = alarm_names
        self.cluster_name = cluster_name
        self.on_alarm: OnAlarm = on_alarm
        self.tell = tell
        self.until_task_ids = until_task_ids
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.deferrable = deferrable
        self.waiter_delay = waiter_delay
        self.waiter_max_attempts = waiter_max_attempts

    def execute(self, context: Context) -> dict[str, Any]:
        """Watch, in the triggerer when deferrable."""
        if not self.alarm_names or isinstance(self.alarm_names, str):
            raise ConfigurationError(f"alarm_names must be a list of names, not {self.alarm_names!r}")
        self._persist_links(context)
        return self._watch(context, time.time(), stop_at_alarm=self.tell is not None)

    def _watch(
        self, context: Context, started: float, *, stop_at_alarm: bool, seen: dict[str, list[list[str]]] | None = None
    ) -> dict[str, Any]:
        trigger = CloudWatchAlarmTrigger(
            alarm_names=self.alarm_names,
            cluster_name=self.cluster_name,
            on_alarm=self.on_alarm,
            until_tasks=self._until_tasks(context),
            started=started,
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name or None,
            waiter_delay=self.waiter_delay,
            waiter_max_attempts=self.waiter_max_attempts,
            stop_at_alarm=stop_at_alarm,
            seen=seen,
        )
        if self.deferrable:
            self.defer(trigger=trigger, method_name="execute_complete")
        return self.execute_complete(context, run_trigger(trigger))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Return what was seen, or raise what it means; after an alarm that people are told of, watch on."""
        status = event["status"]
        if self.tell is not None and status in ("alarm", "failed"):
            self.tell(context, "a CloudWatch alarm went off", "\n".join(event["alarms"]))
        if status == "alarm":
            return self._watch(context, event["started"], stop_at_alarm=False, seen=event["history"])
        if status == "failed":
            raise AlarmError(
                "A CloudWatch alarm went off:\n" + "\n".join(event["alarms"]),
                remedy="open the dashboard link of this task; `on_alarm: warn` would only have logged it",
            )
        if status == "missing":
            where, existing = self.cluster_name or "this account", ", ".join(event["existing"]) or "none"
            raise ConfigurationError(
                f"there is no alarm {', '.join(event['missing'])}; of {where} exist: {existing}",
                remedy="correct the names, or turn Monitoring/Alarms on in the cluster's template",
            )
        if status == "timeout":
            limit = timedelta(seconds=self.waiter_delay * self.waiter_max_attempts)
            raise DeadlineExceededError(f"the watch over {', '.join(self.alarm_names)} took {format_duration(limit)}")
        went_off = warnings(event["history"])
        for line in went_off:
            self.log.warning("%s", line)
        if never_seen := event["never_seen"]:
            self.log.warning("CloudWatch never listed %s while this was watched", ", ".join(never_seen))
        self.log.info("%s alarms watched, %s times one went off", len(self.alarm_names), len(went_off))
        return {"alarms": event["history"], "warnings": went_off}

    def _until_tasks(self, context: Context) -> dict[str, Any] | None:
        if not self.until_task_ids:
            return None
        run = context["dag_run"]
        if unknown := sorted(set(self.until_task_ids) - set(context["dag"].task_ids)):
            raise ConfigurationError(f"until_task_ids: DAG {run.dag_id} has no task {', '.join(unknown)}")
        return {"dag_id": run.dag_id, "run_id": run.run_id, "task_ids": list(self.until_task_ids)}

    def _persist_links(self, context: Context) -> None:
        """Find what the links lead to. A link is a comfort: without permission for it the watch goes on."""
        if not self.cluster_name:
            return
        from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
        from botocore.exceptions import BotoCoreError, ClientError

        hook: AwsGenericHook[Any] = AwsGenericHook(
            aws_conn_id=self.aws_conn_id, region_name=self.region_name or None, client_type="logs"
        )
        place = {
            "context": context,
            "operator": self,
            "region_name": hook.conn_region_name,
            "aws_partition": hook.conn_partition,
            "endpoint_url": hook.conn_config.endpoint_url or "",
        }
        dashboard = dashboard_name(self.cluster_name, hook.conn_region_name or "")
        CloudWatchDashboardLink.persist(**place, dashboard=dashboard)
        try:
            pages = hook.get_conn().get_paginator("describe_log_groups")
            prefix = f"/aws/parallelcluster/{self.cluster_name}-"
            groups = [group for page in pages.paginate(logGroupNamePrefix=prefix) for group in page["logGroups"]]
        except (ClientError, BotoCoreError) as error:
            self.log.warning("No link to the logs: %s", error)
            return
        if log_group := log_group_name(self.cluster_name, groups):
            CloudWatchLogsLink.persist(**place, log_group=log_group)
