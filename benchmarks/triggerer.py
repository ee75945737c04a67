"""A process that stands in for Airflow's triggerer: one event loop, in which every trigger runs as a task.

`python -m benchmarks.triggerer FILE`: each line of the file is a trigger as the triggerer finds it in its table, class
path and arguments. The first starts at once; what it takes is the baseline. The rest starts when `start` comes on
standard input. `count` is answered with the remote commands so far, and how many triggers have had an answer.

Standard output is lines of JSON: `baseline`, answers to `count`, `command` (for our own trigger only, whose commands
are few) and `event` with the number of the trigger.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
from airflow.providers.ssh.triggers.ssh_remote_job import SSHRemoteJobTrigger
from airflow.triggers.base import TriggerEvent

from hpc.head_node.address import HeadNodeAddress
from hpc.head_node.session import SLURM_BIN, HeadNodeHook
from hpc.slurm.triggers import JobEndTrigger
from hpc.slurm.watch import JobView

#: Commands that the shared connection of `SqueueTrigger` carries at once.
AT_ONCE = 16


class Told:
    """What is counted."""

    def __init__(self) -> None:
        self.commands = 0
        self.last_command = 0.0
        self.answered: set[int] = set()
        self.failed: Counter[str] = Counter()
        self.aloud = False


TOLD = Told()
#: What is logged goes elsewhere: Airflow's loggers write to standard output.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def say(**told: Any) -> None:
    """Print one line."""
    ANSWERS.write(json.dumps(told) + "\n")
    ANSWERS.flush()


def count_commands() -> None:
    """Count every command that asyncssh sends, whoever sends it: each is one session channel."""
    create_session = asyncssh.SSHClientConnection.create_session

    async def counting(self: Any, *arguments: Any, **options: Any) -> Any:
        TOLD.commands += 1
        TOLD.last_command = time.monotonic()
        if TOLD.aloud:
            say(command=TOLD.commands, at=TOLD.last_command)
        return await create_session(self, *arguments, **options)

    asyncssh.SSHClientConnection.create_session = counting  # type: ignore[method-assign]  # that is what it is for


class OurTrigger(JobEndTrigger):
    """Our own; it also says that it has an answer."""

    number = 0

    def decide(self, view: JobView) -> dict[str, Any] | None:
        """Decide as ever."""
        if view.facts is not None:
            TOLD.answered.add(self.number)
        return super().decide(view)


class SshTrigger(SSHRemoteJobTrigger):
    """Airflow's own trigger of SSHRemoteJobOperator; it also says that it has an answer."""

    number = 0

    async def _read_log_chunk(self, conn: Any) -> tuple[str, int]:
        answer = await super()._read_log_chunk(conn)
        TOLD.answered.add(self.number)
        return answer


class SqueueTrigger:
    """One squeue per job and interval, all over one connection: the loop that one writes first."""

    number = 0
    _connection: asyncio.Task[Any] | None = None
    _at_once = asyncio.Semaphore(AT_ONCE)

    def __init__(self, head_node: dict[str, Any], ssh_conn_id: str, job_id: int, interval: float) -> None:
        self.head_node = head_node
        self.ssh_conn_id = ssh_conn_id
        self.job_id = job_id
        self.interval = interval

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask until squeue does not list the job any more."""
        shared = SqueueTrigger
        if shared._connection is None:
            hook = HeadNodeHook(HeadNodeAddress.from_dict(self.head_node), self.ssh_conn_id)
            shared._connection = asyncio.create_task(hook.get_conn())
        connection = await asyncio.shield(shared._connection)
        command = f"{SLURM_BIN}/squeue --noheader --jobs={self.job_id} --format=%T"
        while True:
            async with shared._at_once:
                done = await connection.run(command)
            TOLD.answered.add(self.number)
            if done.exit_status == 0 and done.stdout.strip() in {"", "COMPLETED"}:
                yield TriggerEvent({"status": "success"})  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(self.interval)


KINDS: dict[str, Any] = {"ours": OurTrigger, "ssh": SshTrigger, "squeue": SqueueTrigger}


async def run_trigger(number: int, line: str) -> None:
    """Run one trigger to its event, as Airflow's triggerer does."""
    row = json.loads(line)
    trigger = KINDS[row["kind"]](**row["arguments"])
    trigger.number = number
    async for event in trigger.run():
        if event.payload["status"] != "success":
            TOLD.failed[str(event.payload.get("message", ""))[:200]] += 1
        say(event=number, at=time.time(), status=event.payload["status"])
        break


async def main(file: Path) -> None:
    """Run the triggers until standard input ends."""
    count_commands()
    loop = asyncio.get_running_loop()
    orders: asyncio.Queue[str] = asyncio.Queue()
    loop.add_reader(sys.stdin.fileno(), lambda: orders.put_nowait(sys.stdin.readline().strip()))
    tasks = set()
    with file.open() as lines:
        first = next(lines)
        TOLD.aloud = json.loads(first)["kind"] == "ours"
        tasks.add(asyncio.create_task(run_trigger(0, first)))
        while 0 not in TOLD.answered:  # noqa: ASYNC110 - nothing is measured yet
            await asyncio.sleep(0.05)
        say(baseline=True)
        while order := await orders.get():
            if order == "start":
                for number, line in enumerate(lines, start=1):
                    tasks.add(asyncio.create_task(run_trigger(number, line)))
            say(
                commands=TOLD.commands,
                last=TOLD.last_command,
                answered=len(TOLD.answered),
                failed=sum(TOLD.failed.values()),
                why=TOLD.failed.most_common(1),
            )
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
