"""The wait for the exporter on the head node."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from hpc.errors import HpcError
from hpc.head_node.address import HeadNodeAddress
from hpc.head_node.poller import Answer, Question, ask, time_left
from hpc.head_node.session import open_session
from hpc.results.launch import ExportProgress, parse_poll, poll_command, stop_command
from hpc.user_action import was_ended


def ended_event(progress: ExportProgress) -> dict[str, Any]:
    """Return the event of an exporter that is over."""
    return {"status": "success" if progress.state == "done" else "failed", "progress": asdict(progress)}


class ResultsExportTrigger(BaseTrigger):
    """Wait until a started scan or upload is over, and show its progress in the task log.

    The event is `{"status": "success" | "failed" | "timeout", "progress": {...}}`. An answer that cannot be read is
    asked for again.

    :param record: the exporter's record directory on the head node
    :param launch: which start of the exporter is waited for
    :param until: when the wait gives up, in seconds since 1970, so that a restarted triggerer keeps the limit
    :param waiter_delay: the longest pause between two questions, in seconds
    """

    def __init__(
        self,
        *,
        head_node: dict[str, Any],
        ssh_conn_id: str,
        record: str,
        launch: str,
        until: float,
        waiter_delay: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.head_node = head_node
        self.ssh_conn_id = ssh_conn_id
        self.record = record
        self.launch = launch
        self.until = until
        self.waiter_delay = waiter_delay

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "head_node": self.head_node,
            "ssh_conn_id": self.ssh_conn_id,
            "record": self.record,
            "launch": self.launch,
            "until": self.until,
            "waiter_delay": self.waiter_delay,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask until the exporter is over or the time is."""
        try:
            async with asyncio.timeout(time_left(self.until)):
                progress = await self._wait()
        except TimeoutError:
            yield TriggerEvent({"status": "timeout"})  # type: ignore[no-untyped-call]
            return
        yield TriggerEvent(ended_event(progress))  # type: ignore[no-untyped-call]

    async def _wait(self) -> ExportProgress:
        address = HeadNodeAddress.from_dict(self.head_node)
        question = Question(key=self.record, command=poll_command(self.record))
        shown = ""
        async with aclosing(ask(address, self.ssh_conn_id, [question], longest_pause=self.waiter_delay)) as rounds:
            async for answers in rounds:
                progress = self._read(answers[question.key])
                if progress is None:
                    continue
                if progress.bytes and (line := progress.line()) != shown:
                    self.log.info("%s", line)
                    shown = line
                if progress.state != "running":
                    return progress
                if time.time() >= self.until:
                    raise TimeoutError
        raise AssertionError("the asker never ends by itself")

    def _read(self, answer: Answer) -> ExportProgress | None:
        try:
            return parse_poll(answer.stdout, self.launch)
        except (ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
            self.log.warning(
                "The head node's answer says nothing about the export (exit status %s, %s). Asking again.",
                answer.exit_status,
                error,
            )
            return None

    async def on_kill(self) -> None:
        """Stop the exporter when a person ended the task."""
        if not await was_ended(self.task_instance):
            return
        try:
            async with open_session(HeadNodeAddress.from_dict(self.head_node), self.ssh_conn_id) as session:
                await session.run(stop_command(self.record), check=False)
        except HpcError as error:
            self.log.warning("Could not stop the export on the head node; it ends by itself. %s", error)
