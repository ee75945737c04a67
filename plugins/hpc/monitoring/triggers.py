"""The watch over CloudWatch alarms."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from airflow.triggers.base import BaseTrigger, TriggerEvent

from hpc.monitoring.alarms import NAMES_PER_CALL, AlarmHistory, AlarmState, Observation, parse_alarms
from hpc.pacing import pause

if TYPE_CHECKING:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

OnAlarm = Literal["warn", "fail"]

#: CloudWatch is eventually consistent: an alarm that was made a moment ago may not be listed yet.
SECONDS_UNTIL_MISSING = 60.0
#: States that a task instance does not leave by itself.
TASK_IS_OVER = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_TYPES = ["MetricAlarm", "CompositeAlarm"]


class CloudWatchAlarmTrigger(BaseTrigger):
    """Watch alarms until tasks of the same DAG run are over, or, without such tasks, until all alarms are OK.

    The event is `{"status": "success" | "failed" | "alarm" | "missing" | "timeout", "history": {alarm: [[time, state,
    reason]]}}` with some more. A question that is not answered counts as nothing: it is asked again.

    :param alarm_names: full names
    :param cluster_name: whose alarms are listed when one of these does not exist
    :param until_tasks: `{"dag_id", "run_id", "task_ids"}`, or None
    :param started: when the watch began, in seconds since 1970, so that a restarted triggerer keeps the limit
    :param waiter_delay: the longest pause between two questions, in seconds
    :param waiter_max_attempts: the watch ends after waiter_delay x waiter_max_attempts seconds
    :param stop_at_alarm: whether the first alarm ends the watch although `on_alarm` is "warn": somebody wants to know
    :param seen: the history of the watch that this one goes on with
    :param missing_after: seconds after which an alarm that was never listed counts as missing
    """

    def __init__(
        self,
        *,
        alarm_names: Sequence[str],
        cluster_name: str | None,
        on_alarm: OnAlarm,
        until_tasks: dict[str, Any] | None,
        started: float,
        aws_conn_id: str | None,
        region_name: str | None,
        waiter_delay: float,
        waiter_max_attempts: int,
        stop_at_alarm: bool = False,
        seen: dict[str, list[list[str]]] | None = None,
        missing_after: float = SECONDS_UNTIL_MISSING,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alarm_names = list(alarm_names)
        self.cluster_name = cluster_name
        self.on_alarm: OnAlarm = on_alarm
        self.until_tasks = until_tasks
        self.started = started
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.waiter_delay = waiter_delay
        self.waiter_max_attempts = waiter_max_attempts
        self.stop_at_alarm = stop_at_alarm
        self.seen = seen
        self.missing_after = missing_after

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "alarm_names": self.alarm_names,
            "cluster_name": self.cluster_name,
            "on_alarm": self.on_alarm,
            "until_tasks": self.until_tasks,
            "started": self.started,
            "aws_conn_id": self.aws_conn_id,
            "region_name": self.region_name,
            "waiter_delay": self.waiter_delay,
            "waiter_max_attempts": self.waiter_max_attempts,
            "stop_at_alarm": self.stop_at_alarm,
            "seen": self.seen,
            "missing_after": self.missing_after,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask until the watch is over."""
        # The first import takes a second, for which a triggerer's loop must not stand still.
        await asyncio.to_thread(import_module, "airflow.providers.amazon.aws.hooks.base_aws")
        from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
        from airflow.sdk.exceptions import AirflowRuntimeError
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        hook: AwsGenericHook[Any] = AwsGenericHook(
            aws_conn_id=self.aws_conn_id, region_name=self.region_name, client_type="cloudwatch"
        )
        history = AlarmHistory.of_dict(self.alarm_names, self.seen or {})
        while True:
            try:
                if event := await self._watch(hook, history):
                    yield event
                    return
            except (ClientError, BotoCoreError, ResponseParserError, OSError) as error:
                self.log.warning("CloudWatch did not say how the alarms are: %s. Asking again.", error)
            except AirflowRuntimeError as error:
                self.log.warning("Airflow did not say whether the job is over: %s. Asking again.", error)
            if time.time() >= self.started + self.waiter_delay * self.waiter_max_attempts:
                yield self._event("timeout", history)
                return
            await self._pause()

    async def _watch(self, hook: AwsGenericHook[Any], history: AlarmHistory) -> TriggerEvent | None:
        """Ask with one client until the watch is over or its time is; a new one may have newer credentials."""
        limit = self.started + self.waiter_delay * self.waiter_max_attempts
        async with await hook.get_async_conn() as client:  # type: ignore[no-untyped-call]
            while True:
                # The tasks first: so the alarms are looked at once more after the tasks were over.
                over = await self._tasks_are_over()
                for change in history.add(await _describe(client, self.alarm_names)):
                    level = self.log.warning if change.state is AlarmState.ALARM else self.log.info
                    level("%s", change.line())
                if event := await self._judge(client, history, over):
                    return event
                if time.time() >= limit:
                    return None
                await self._pause()

    async def _judge(self, client: Any, history: AlarmHistory, tasks_are_over: bool) -> TriggerEvent | None:
        alarms = [alarm.line() for alarm in history.now(AlarmState.ALARM)]
        if alarms and self.on_alarm == "fail":
            return self._event("failed", history, alarms=alarms)
        if alarms and self.stop_at_alarm:
            return self._event("alarm", history, alarms=alarms, started=self.started)
        if tasks_are_over or (self.until_tasks is None and history.all_ok()):
            return self._event("success", history, never_seen=history.missing())
        if history.missing() and time.time() - self.started >= self.missing_after:
            existing = await _names_of_cluster(client, self.cluster_name)
            return self._event("missing", history, missing=history.missing(), existing=existing)
        return None

    async def _tasks_are_over(self) -> bool:
        if self.until_tasks is None:
            return False
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
        from asgiref.sync import sync_to_async

        run_id = self.until_tasks["run_id"]
        answer = await sync_to_async(RuntimeTaskInstance.get_task_states)(
            dag_id=self.until_tasks["dag_id"], run_ids=[run_id], task_ids=list(self.until_tasks["task_ids"])
        )
        states = answer.get(run_id, {})
        return bool(states) and all(state in TASK_IS_OVER for state in states.values())

    def _event(self, status: str, history: AlarmHistory, **facts: Any) -> TriggerEvent:
        return TriggerEvent({"status": status, "history": history.as_dict(), **facts})  # type: ignore[no-untyped-call]

    async def _pause(self) -> None:
        await asyncio.sleep(pause(time.time() - self.started, self.waiter_delay))


async def _describe(client: Any, names: Sequence[str]) -> list[Observation]:
    observations: list[Observation] = []
    for start in range(0, len(names), NAMES_PER_CALL):
        paginator = client.get_paginator("describe_alarms")
        async for page in paginator.paginate(AlarmNames=names[start : start + NAMES_PER_CALL], AlarmTypes=_TYPES):
            observations += parse_alarms(page)
    return observations


async def _names_of_cluster(client: Any, cluster_name: str | None) -> list[str]:
    prefix = {"AlarmNamePrefix": f"{cluster_name}-"} if cluster_name else {}
    pages = client.get_paginator("describe_alarms").paginate(AlarmTypes=_TYPES, **prefix)
    return [alarm.alarm async for page in pages for alarm in parse_alarms(page)]
