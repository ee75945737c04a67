"""The wait for a stack: asks CloudFormation, never `pcluster`, and shows the stack's events as they happen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from importlib import import_module
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from hpc.cluster.stacks import (
    Progress,
    Stack,
    StackEvent,
    Target,
    count_resources,
    of_operation,
    progress,
    says_missing,
)
from hpc.durations import format_duration
from hpc.pacing import pause

#: A stack that was asked for a moment ago may not be seen yet.
SECONDS_UNTIL_MISSING = 30
#: A silence longer than this gets a line that says that the wait goes on.
SECONDS_OF_SILENCE = 60


class ClusterStackTrigger(BaseTrigger):
    """Wait until a cluster's stack is created or gone.

    The event is `{"status": "success" | "failed" | "timeout", "stack_status": …, "stack_id": …}`; `stack_status` is
    "MISSING" when there is no such stack. A question without an answer counts as nothing: it is asked again until
    the limit.

    :param stack: the stack's name, or better its id, which stays the same when the name is used again
    :param target: CREATE_COMPLETE or DELETE_COMPLETE
    :param started: when the wait began, in seconds since 1970, so that a restarted triggerer keeps the limit
    :param waiter_delay: the longest pause between two questions, in seconds
    :param waiter_max_attempts: the wait ends after waiter_delay x waiter_max_attempts seconds
    """

    def __init__(
        self,
        *,
        stack: str,
        target: Target,
        started: float,
        aws_conn_id: str | None,
        region_name: str | None,
        waiter_delay: float,
        waiter_max_attempts: int,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stack = stack
        self.target: Target = target
        self.started = started
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.waiter_delay = waiter_delay
        self.waiter_max_attempts = waiter_max_attempts

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "stack": self.stack,
            "target": self.target,
            "started": self.started,
            "aws_conn_id": self.aws_conn_id,
            "region_name": self.region_name,
            "waiter_delay": self.waiter_delay,
            "waiter_max_attempts": self.waiter_max_attempts,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask until the stack is there, gone or failed, or the time is over."""
        # The first import takes a second, for which a triggerer's loop must not stand still.
        await asyncio.to_thread(import_module, "airflow.providers.amazon.aws.hooks.cloud_formation")
        from airflow.providers.amazon.aws.hooks.cloud_formation import CloudFormationHook
        from airflow.sdk.exceptions import AirflowRuntimeError
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        hook: Any = CloudFormationHook(  # type: ignore[no-untyped-call]
            aws_conn_id=self.aws_conn_id, region_name=self.region_name
        )
        feed = EventFeed(self.stack, self.target)
        while True:
            # A new client after each error: it may be the client's credentials that have run out.
            try:
                async with await hook.get_async_conn() as client:
                    yield await self._watch(client, feed)
                    return
            except (ClientError, BotoCoreError, ResponseParserError, AirflowRuntimeError, OSError) as error:
                self.log.warning("CloudFormation did not say how %s is: %s. Asking again.", self.stack, error)
            if self._is_over():
                yield _event("timeout", "UNKNOWN", self.stack)
                return
            await self._pause()

    async def _watch(self, client: Any, feed: EventFeed) -> TriggerEvent:
        """Ask until the wait ends, and log what happens. Raises whatever the client raises."""
        spoke = time.time()
        while True:
            stack = await _describe(client, self.stack)
            events = await feed.read(client) if stack else []
            for event in events:
                self.log.info("%s", event.line())
            result = self._judge(stack)
            if result is None and self._is_over():
                result = _event_of("timeout", stack)
            if result is not None:
                return result
            if events:
                spoke = time.time()
            elif time.time() - spoke >= SECONDS_OF_SILENCE:
                self.log.info("%s", self._heartbeat(stack, feed))
                spoke = time.time()
            await self._pause()

    def _is_over(self) -> bool:
        return time.time() - self.started >= self.waiter_delay * self.waiter_max_attempts

    def _judge(self, stack: Stack | None) -> TriggerEvent | None:
        """Return the event that ends the wait; None when it goes on."""
        if stack is None:
            if self.target == "DELETE_COMPLETE":
                return _event("success", "DELETE_COMPLETE", self.stack)
            return _event("failed", "MISSING", "") if time.time() - self.started >= SECONDS_UNTIL_MISSING else None
        how = progress(stack.status, self.target)
        if how is Progress.WAITING:
            return None
        return _event_of("success" if how is Progress.REACHED else "failed", stack)

    def _heartbeat(self, stack: Stack | None, feed: EventFeed) -> str:
        done, seen = count_resources(feed.shown, self.target)
        status = stack.status if stack else "not there yet"
        waited = format_duration(timedelta(seconds=time.time() - self.started))
        verb = "made" if self.target == "CREATE_COMPLETE" else "gone"
        return f"{waited}: stack {stack.name if stack else self.stack} is {status}, {done} of {seen} resources {verb}"

    async def _pause(self) -> None:
        await asyncio.sleep(pause(time.time() - self.started, self.waiter_delay))


class EventFeed:
    """The events of a stack and of the stacks nested in it, each given out once."""

    def __init__(self, stack: str, target: Target) -> None:
        self._target: Target = target
        self._stacks = [stack]
        self._seen: set[str] = set()
        #: What was given out so far, oldest first.
        self.shown: list[StackEvent] = []

    async def read(self, client: Any) -> list[StackEvent]:
        """Return the events that happened since the last call, oldest first."""
        new: list[StackEvent] = []
        for stack in self._stacks:  # grows while it is read: a nested stack is found in its parent's events
            events = await self._read_one(client, stack)
            new += events
            found = {event.nested_stack_id for event in events if event.nested_stack_id}
            self._stacks += sorted(found - set(self._stacks))
        new.sort(key=lambda event: event.time)
        self.shown += new
        return new

    async def _read_one(self, client: Any, stack: str) -> list[StackEvent]:
        from botocore.exceptions import ClientError

        first_time = not any(stack in (event.stack_id, event.stack_name) for event in self.shown)
        new: list[StackEvent] = []
        try:
            async for page in client.get_paginator("describe_stack_events").paginate(StackName=stack):
                parsed = [StackEvent.parse(event) for event in page["StackEvents"]]  # newest first
                fresh = [event for event in parsed if event.id not in self._seen]
                new += fresh
                if len(fresh) < len(parsed):
                    break
        except ClientError as error:
            if not says_missing(error):
                raise
        self._seen.update(event.id for event in new)
        new.reverse()
        return of_operation(new, self._target) if first_time else new


async def _describe(client: Any, stack: str) -> Stack | None:
    from botocore.exceptions import ClientError

    try:
        return Stack.parse(await client.describe_stacks(StackName=stack))
    except ClientError as error:
        if says_missing(error):
            return None
        raise


def _event(status: str, stack_status: str, stack_id: str) -> TriggerEvent:
    return TriggerEvent(  # type: ignore[no-untyped-call]
        {"status": status, "stack_status": stack_status, "stack_id": stack_id}
    )


def _event_of(status: str, stack: Stack | None) -> TriggerEvent:
    return _event(status, stack.status, stack.id) if stack else _event(status, "MISSING", "")
