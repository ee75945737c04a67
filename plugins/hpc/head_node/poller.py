"""The one asker of a head node: however many triggers wait, one connection and one remote command serve them all.

Every trigger of one event loop (a triggerer has one) that waits for the same head node joins the same asker. In each
round it sends one script on the standard input of `bash -s`, with every question once, and hands each trigger its
answers. A round that fails answers nobody: what is not known is asked again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import WeakKeyDictionary

from hpc.errors import ConfigurationError, ConnectionLostError, HostKeyError, HpcError
from hpc.head_node.address import HeadNodeAddress
from hpc.head_node.session import Session, open_session
from hpc.head_node.shell import quote
from hpc.pacing import pause

log = logging.getLogger(__name__)

#: Bytes of one answer that are kept; the rest is cut off on the head node.
MAX_ANSWER = 4 * 1024 * 1024
#: Seconds that one round may take.
ROUND_TIMEOUT = 60.0
#: Seconds in which somebody who comes late gets an answer, if the head node is there at all.
ONE_ROUND = 90.0
#: Seconds between two tries to connect, after the first few.
LONGEST_BACK_OFF = 60.0
#: Who is due within this share of its own pause is asked with those who are due now.
_TOGETHER = 0.25


@dataclass(frozen=True)
class Question:
    """A shell command whose output answers it; `key` is the asker's own name for it."""

    key: str
    command: str


@dataclass(frozen=True)
class Answer:
    """Exit status and standard output of a question's command, the latter bounded by MAX_ANSWER."""

    exit_status: int
    stdout: str


Answers: TypeAlias = Mapping[str, Answer]
Questions: TypeAlias = Sequence[Question] | Callable[[], Sequence[Question]]


# --------------------------------------------------------------------------------------------- build and parse, pure
def build_round(commands: Sequence[str], marker: str) -> str:
    """Return the script that runs every command and prints its output between lines that only the asker can know.

    A command that is no valid shell fails alone. Its standard error is dropped unless it redirects it.
    """
    lines = ["export LC_ALL=C.UTF-8"]
    for command in commands:
        # `head` reads to its limit only; a subshell keeps `exit` and variables of a command to itself.
        lines.append(f"( eval {quote([command])} ) </dev/null 2>/dev/null | head -c {MAX_ANSWER}")
        lines.append(f"printf '\\n{marker} %d\\n' \"${{PIPESTATUS[0]}}\"")
    return "\n".join(lines) + "\n"


def parse_round(output: str, marker: str, count: int) -> list[Answer]:
    """Read what the script of `build_round` printed. Raises ConnectionLostError if it is not complete."""
    pieces = output.split(f"\n{marker} ")
    if len(pieces) != count + 1:
        raise ConnectionLostError(f"the head node answered {len(pieces) - 1} of {count} questions")
    answers, text = [], pieces[0]
    for piece in pieces[1:]:
        status, _, rest = piece.partition("\n")
        answers.append(Answer(int(status), text))
        text = rest
    return answers


# --------------------------------------------------------------------------------------------- run
@dataclass(eq=False)
class _Waiter:
    """One trigger that waits: what it asks, how often, and where its answers, or an error, are put."""

    questions: Callable[[], Sequence[Question]]
    longest_pause: float
    began: float = field(default_factory=time.monotonic)
    due: float = 0.0
    interval: float = 0.0
    news: asyncio.Queue[Answers | Exception] = field(default_factory=lambda: asyncio.Queue(maxsize=1))

    def tell(self, news: Answers | Exception) -> None:
        """Put news where the trigger finds it, unless it has not read the last ones: it will be asked for again."""
        if self.news.empty():
            self.news.put_nowait(news)

    def asked(self) -> None:
        """Note that a round has answered, and when the next one should."""
        now = time.monotonic()
        self.interval = pause(now - self.began, self.longest_pause)
        self.due = now + self.interval


class _Asker:
    """Asks one head node for everybody who waits for it; lives as long as somebody does."""

    def __init__(self, address: HeadNodeAddress, ssh_conn_id: str) -> None:
        self.address = address
        self.ssh_conn_id = ssh_conn_id
        self.waiters: set[_Waiter] = set()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def join(self, waiter: _Waiter) -> None:
        """Ask for one more, at once."""
        self.waiters.add(waiter)
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"asker of {self.address.host}")

    def leave(self, waiter: _Waiter) -> None:
        """Ask for one less; after the last the connection is closed."""
        self.waiters.discard(waiter)
        self._changed.set()

    async def _run(self) -> None:
        failures = 0
        while self.waiters:
            try:
                async with open_session(self.address, self.ssh_conn_id) as session:
                    while self.waiters:
                        if due := await self._until_due():
                            await self._round(session, due)
                            failures = 0
            except Exception as error:
                failures += 1
                self._tell_all(error)
                await asyncio.sleep(random.uniform(0.5, 1.0) * min(2.0**failures, LONGEST_BACK_OFF))

    async def _until_due(self) -> list[_Waiter]:
        """Wait until somebody is due, joins or leaves; return who is to be asked for now."""
        self._changed.clear()
        wait = min(waiter.due for waiter in self.waiters) - time.monotonic()
        if wait > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)
        now = time.monotonic()
        if all(waiter.due > now for waiter in self.waiters):
            return []
        return [waiter for waiter in self.waiters if waiter.due - now <= waiter.interval * _TOGETHER]

    async def _round(self, session: Session, due: list[_Waiter]) -> None:
        asked = {waiter: waiter.questions() for waiter in due}
        commands = list(dict.fromkeys(question.command for questions in asked.values() for question in questions))
        marker = secrets.token_hex(16)
        script = build_round(commands, marker)
        completed = await session.run("exec bash -s", input=script, timeout=ROUND_TIMEOUT, check=False)
        by_command = dict(zip(commands, parse_round(completed.stdout, marker, len(commands)), strict=True))
        for waiter, questions in asked.items():
            waiter.asked()
            waiter.tell({question.key: by_command[question.command] for question in questions})

    def _tell_all(self, error: Exception) -> None:
        for waiter in self.waiters:
            waiter.tell(error)


_Key: TypeAlias = tuple[HeadNodeAddress, str]
_askers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, _Asker]] = WeakKeyDictionary()


def _asker(address: HeadNodeAddress, ssh_conn_id: str) -> _Asker:
    of_this_loop = _askers.setdefault(asyncio.get_running_loop(), {})
    for key in [key for key, asker in of_this_loop.items() if not asker.waiters]:
        del of_this_loop[key]
    return of_this_loop.setdefault((address, ssh_conn_id), _Asker(address, ssh_conn_id))


def time_left(deadline: float) -> float:
    """Return the seconds until `deadline`, in seconds since 1970; enough for one round if it has passed already.

    What is waited for may have ended while no triggerer ran: so everybody asks at least once.
    """
    left = deadline - time.time()
    return left if left > 0 else ONE_ROUND


async def ask(
    address: HeadNodeAddress, ssh_conn_id: str, questions: Questions, *, longest_pause: float = 30.0
) -> AsyncGenerator[Answers, None]:
    """Ask again and again; yield the answers of each round that succeeded, by the questions' keys.

    The pause between rounds grows from 1 s to `longest_pause` seconds (`hpc.pacing`). `questions` may be a function,
    called before each round, when what is asked depends on the answers before. A round that fails is logged and yields
    nothing, so bound the wait with `asyncio.timeout`, and close it when you leave early (`contextlib.aclosing`).

    Raises HostKeyError and ConfigurationError, and what Airflow says of a connection that does not exist: no later
    round could do better.
    """
    waiter = _Waiter(questions if callable(questions) else lambda: questions, longest_pause)
    asker = _asker(address, ssh_conn_id)
    asker.join(waiter)
    try:
        while True:
            news = await waiter.news.get()
            if isinstance(news, HpcError) and not isinstance(news, HostKeyError | ConfigurationError):
                log.warning("The head node gave no answer, so the state is unknown; asking again: %s", news)
            elif isinstance(news, Exception):
                raise news
            else:
                yield news
    finally:
        asker.leave(waiter)
