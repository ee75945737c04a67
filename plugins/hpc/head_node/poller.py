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
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
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
#: Seconds between two rounds, however much there is to ask.
SHORTEST_PAUSE = 1.0
#: Seconds between two tries to connect, after the first few.
LONGEST_BACK_OFF = 60.0
#: Who is due within this share of its own pause is asked with those who are due now.
_TOGETHER = 0.25


@dataclass(frozen=True)
class Question:
    """A shell command whose output answers it; `key` is the asker's own name for it, `input` its standard input."""

    key: str
    command: str
    input: str = ""


@dataclass(frozen=True)
class Answer:
    """Exit status and standard output of a question's command, the latter bounded by MAX_ANSWER."""

    exit_status: int
    stdout: str


Answers: TypeAlias = Mapping[str, Answer]
Questions: TypeAlias = Sequence[Question] | Callable[[], Sequence[Question]]


# --------------------------------------------------------------------------------------------- build and parse, pure
def build_round(questions: Sequence[Question], marker: str) -> str:
    """Return the script that asks every question and prints its answer between lines that only the asker can know.

    A command that is no valid shell fails alone. Its standard error is dropped unless it redirects it.
    """
    lines = ["export LC_ALL=C.UTF-8"]
    for question in questions:
        document = f"<<'{marker}'" if question.input else "</dev/null"
        # `head` reads to its limit only; a subshell keeps `exit` and variables of a command to itself.
        lines.append(f"( eval {quote([question.command])} ) {document} 2>/dev/null | head -c {MAX_ANSWER}")
        lines += [question.input, marker] if question.input else []
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
    """One that waits: what it asks, who hears the answers of a round or its error, and how long to the next round."""

    questions: Callable[[], Sequence[Question]]
    hear: Callable[[Answers | Exception], None]
    pace: Callable[[], float]
    due: float = 0.0
    interval: float = 0.0
    last: float = 0.0

    def answered(self, answers: Answers) -> None:
        """Pass the answers on, and note when the next round should be."""
        self.hear(answers)
        self.last, self.interval = time.monotonic(), self.pace()
        self.due = self.last + self.interval


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

    def hurry(self, waiter: _Waiter) -> None:
        """Ask for one who is here already at once, though not sooner than SHORTEST_PAUSE after its last round."""
        waiter.due = min(waiter.due, waiter.last + SHORTEST_PAUSE)
        self._changed.set()

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
        # Equal questions are asked once, whatever each asker calls them.
        distinct = list(dict.fromkeys(replace(each, key="") for questions in asked.values() for each in questions))
        marker = secrets.token_hex(16)
        script = build_round(distinct, marker)
        completed = await session.run("exec bash -s", input=script, timeout=ROUND_TIMEOUT, check=False)
        answers = dict(zip(distinct, parse_round(completed.stdout, marker, len(distinct)), strict=True))
        for waiter, questions in asked.items():
            waiter.answered({question.key: answers[replace(question, key="")] for question in questions})

    def _tell_all(self, error: Exception) -> None:
        for waiter in list(self.waiters):
            waiter.hear(error)


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


@contextmanager
def subscribe(
    address: HeadNodeAddress,
    ssh_conn_id: str,
    questions: Callable[[], Sequence[Question]],
    *,
    hear: Callable[[Answers | Exception], None],
    pace: Callable[[], float],
) -> Iterator[Callable[[], None]]:
    """Join the asker of a head node for as long as the block lasts; what is yielded asks for a round at once.

    `questions` is called before each round. `hear` gets the answers of a round that succeeded, all of them and in
    order, or the error of one that failed; `is_final` tells whether a later round could do better. `pace` is called
    after an answer: the seconds until the next round. None of them may wait or raise.
    """
    waiter = _Waiter(questions, hear, pace)
    asker = _asker(address, ssh_conn_id)
    asker.join(waiter)
    try:
        yield lambda: asker.hurry(waiter)
    finally:
        asker.leave(waiter)


def is_final(error: Exception) -> bool:
    """Say whether no later round could do better: a wrong key, a wrong connection, an error of nobody we know."""
    return not isinstance(error, HpcError) or isinstance(error, HostKeyError | ConfigurationError)


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
    began = time.monotonic()
    news: asyncio.Queue[Answers | Exception] = asyncio.Queue(maxsize=1)

    def hear(answer: Answers | Exception) -> None:
        if news.empty():  # who has not read the last answer yet will be told the next one
            news.put_nowait(answer)

    with subscribe(
        address,
        ssh_conn_id,
        questions if callable(questions) else lambda: questions,
        hear=hear,
        pace=lambda: pause(time.monotonic() - began, longest_pause),
    ):
        while True:
            answer = await news.get()
            if not isinstance(answer, Exception):
                yield answer
            elif is_final(answer):
                raise answer
            else:
                log.warning("The head node gave no answer, so the state is unknown; asking again: %s", answer)
