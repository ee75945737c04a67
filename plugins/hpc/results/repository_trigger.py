"""The wait for an export task of FSx."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from importlib import import_module
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from hpc.pacing import pause
from hpc.results.repository import RepositoryTask, cancel_export, fsx_client
from hpc.user_action import was_ended


class DataRepositoryTaskTrigger(BaseTrigger):
    """Wait until a data repository task of FSx is over, and show its counts in the task log.

    The event is `{"status": "over", "task": {…}}` or `{"status": "timeout", "task_id": …}`. A question
    without an answer is asked again.

    :param task_id: FSx's id of the task
    :param is_ours: whether it exports our folder: another's is waited for, and never cancelled
    :param until: when the wait gives up, in seconds since 1970, so that a restarted triggerer keeps the limit
    :param waiter_delay: the longest pause between two questions, in seconds
    """

    def __init__(
        self,
        *,
        task_id: str,
        is_ours: bool,
        until: float,
        aws_conn_id: str | None,
        region_name: str | None,
        waiter_delay: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.data_repository_task_id = task_id
        self.is_ours = is_ours
        self.until = until
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.waiter_delay = waiter_delay

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "task_id": self.data_repository_task_id,
            "is_ours": self.is_ours,
            "until": self.until,
            "aws_conn_id": self.aws_conn_id,
            "region_name": self.region_name,
            "waiter_delay": self.waiter_delay,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask until the task or the time is over."""
        # The first import takes a second, for which a triggerer's loop must not stand still.
        await asyncio.to_thread(import_module, "airflow.providers.amazon.aws.hooks.base_aws")
        from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
        from airflow.sdk.exceptions import AirflowRuntimeError
        from botocore.exceptions import BotoCoreError, ClientError

        hook: Any = AwsGenericHook(aws_conn_id=self.aws_conn_id, region_name=self.region_name, client_type="fsx")
        began, shown = time.time(), ""
        while True:
            try:
                # A new client each time: the pauses are long, and its credentials may have run out.
                async with await hook.get_async_conn() as client:
                    answer = await client.describe_data_repository_tasks(TaskIds=[self.data_repository_task_id])
                task = RepositoryTask.parse(answer["DataRepositoryTasks"][0])
                if (line := task.line()) != shown:
                    self.log.info("%s", line)
                    shown = line
                if task.is_over:
                    yield TriggerEvent({"status": "over", "task": asdict(task)})  # type: ignore[no-untyped-call]
                    return
            except (ClientError, BotoCoreError, AirflowRuntimeError, OSError, IndexError, KeyError) as error:
                self.log.warning("FSx did not say how its task is: %s. Asking again.", error)
            if time.time() >= self.until:
                event = {"status": "timeout", "task_id": self.data_repository_task_id}
                yield TriggerEvent(event)  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(pause(time.time() - began, self.waiter_delay))

    async def on_kill(self) -> None:
        """Cancel FSx's task when a person ended ours: while it runs, its file system cannot be deleted."""
        if not self.is_ours or not await was_ended(self.task_instance):
            return
        fsx = await asyncio.to_thread(fsx_client, self.aws_conn_id, self.region_name)
        if problem := await asyncio.to_thread(cancel_export, fsx, self.data_repository_task_id):
            self.log.warning("FSx did not cancel its task, which ends by itself: %s", problem)
