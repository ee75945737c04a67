"""One question per head node for every job that somebody of this event loop waits for.

However many triggers wait, the asker of `hpc.head_node.poller` runs one command a round, `on_head_node.py watch`, which
answers with what has changed since the last round. Whoever waits for a job is woken only by news of it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from hpc.head_node.address import HeadNodeAddress
from hpc.head_node.poller import Answer, Answers, Question, is_final, subscribe
from hpc.head_node.program import MISSING
from hpc.pacing import pause
from hpc.slurm.parse import NodeReason, parse_sinfo
from hpc.slurm.submission import PROGRAM

#: Bytes of changes, and again of new output, that one round carries.
LIMIT = 1 << 20
#: Jobs that may be asked about every second: with more of them, the shortest pause is longer.
JOBS_A_SECOND = 200
#: Triggers that are woken in one turn of the event loop.
WOKEN_AT_ONCE = 50
#: Seconds after a walltime's end at which its job is looked at again.
_AFTER_THE_END = 1.0


@dataclass(frozen=True)
class Tail:
    """What is new at the end of a log, after `skipped` bytes that were too much."""

    skipped: int
    text: str


@dataclass(frozen=True)
class Watched:
    """What the head node needs to know of a job: its names in Slurm with the number of their first element, its places.

    `log` is empty for who does not want to see it.
    """

    names: Mapping[str, int]
    record_dir: str
    log: str = ""
    is_array: bool = False


@dataclass(eq=False, slots=True)
class JobView:
    """What is known of a job. `unknown` says why it is not known now; `confirmed` is when a round last told, monotonic.

    `facts` are None until the first answer: `row` (the fields of squeue, None if it lists no such job) and `record`
    (text) of a job, `counts`, `reason`, `broken` and `ended` of an array.
    """

    watched: Watched
    longest_pause: float
    offset: int = 0
    facts: dict[str, Any] | None = None
    nodes: list[NodeReason] = field(default_factory=list)
    tails: list[Tail] = field(default_factory=list)
    unknown: str = ""
    error: Exception | None = None
    confirmed: float = 0.0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def news(self, longest: float) -> None:
        """Wait for news, at most `longest` seconds."""
        try:
            async with asyncio.timeout(longest):
                await self._news.wait()
        except TimeoutError:
            return
        finally:
            self._news.clear()

    def tell(self) -> None:
        """Wake whoever waits."""
        self._news.set()

    def as_request(self) -> dict[str, Any]:
        """Return what the head node is told of the job."""
        job = self.watched
        places = {"record": job.record_dir, "log": job.log, "offset": self.offset}
        return {"names": dict(job.names), "is_array": job.is_array, **places}


class _JobWatch:
    """The watch over all jobs of one head node; lives as long as somebody waits."""

    def __init__(self, address: HeadNodeAddress, ssh_conn_id: str) -> None:
        self.address = address
        self.ssh_conn_id = ssh_conn_id
        self.views: dict[str, JobView] = {}
        self._keys = map(str, itertools.count())
        self._nodes: list[NodeReason] = []
        self._changed = time.monotonic()
        self._left: float | None = None
        self._confirmed = 0.0
        self._install = False
        self._subscription = ExitStack()
        self._begin_anew()

    # ------------------------------------------------------------------------------------------ who waits
    def join(self, view: JobView) -> str:
        """Watch one more job, at once; return its key."""
        key = next(self._keys)
        if not self.views:
            self._subscription = ExitStack()
            self._hurry = self._subscription.enter_context(
                subscribe(self.address, self.ssh_conn_id, self._questions, hear=self._hear, pace=self._pace)
            )
        self.views[key] = view
        self._added.add(key)
        self._changed = time.monotonic()
        self._hurry()
        return key

    def leave(self, key: str) -> None:
        """Watch one job less."""
        del self.views[key]
        self._added.discard(key)
        self._dropped.add(key)
        if not self.views:
            self._subscription.close()

    # ------------------------------------------------------------------------------------------ a round
    def _begin_anew(self) -> None:
        """Take a new name, by which the head node tells everything once more: an answer may have been lost."""
        self._watcher = secrets.token_hex(8)
        self._is_new = True
        self._added = set(self.views)
        self._dropped: set[str] = set()
        self._is_asked = False

    def _questions(self) -> list[Question]:
        if self._is_asked:
            self._begin_anew()
        request = {
            "watcher": self._watcher,
            "is_new": self._is_new,
            "add": {key: self.views[key].as_request() for key in sorted(self._added)},
            "drop": sorted(self._dropped),
            "limit": LIMIT,
        }
        self._is_asked, self._added, self._dropped = True, set(), set()
        return [Question("watch", PROGRAM.command("watch", install=self._install), json.dumps(request))]

    def _pace(self) -> float:
        """Return the pause to the next round: short after a change and about the end of a walltime, else long."""
        longest = min((view.longest_pause for view in self.views.values()), default=1.0)
        quiet = max(time.monotonic() - self._changed, len(self.views) / JOBS_A_SECOND * 10)
        wait = pause(quiet, longest)
        return wait if self._left is None else min(wait, self._left + _AFTER_THE_END)

    def _hear(self, answer: Answers | Exception) -> None:
        if isinstance(answer, Exception):
            self._begin_anew()
            self._tell_nothing(str(answer), answer if is_final(answer) else None)
            return
        self._install = answer["watch"].exit_status == MISSING
        told = _read(answer["watch"])
        if told is None or told.get("lost"):
            self._begin_anew()
            if told is None and not self._install:
                self._tell_nothing(f"its answer cannot be read (exit status {answer['watch'].exit_status})")
            self._hurry()
            return
        self._is_asked = self._is_new = False
        if "unknown" in told:
            self._tell_nothing(f"slurmctld does not answer: {told['unknown']}")
        else:
            self._tell(told)

    def _tell_nothing(self, why: str, error: Exception | None = None) -> None:
        news = [view for view in self.views.values() if view.unknown != why or error]
        for view in news:
            view.unknown, view.error = why, error
        _wake(news)

    def _tell(self, told: Mapping[str, Any]) -> None:
        self._confirmed, self._left = time.monotonic(), told["left"]
        if "nodes" in told:
            self._nodes = parse_sinfo(told["nodes"])
        if told["changes"]:
            self._changed = self._confirmed
        if not told["is_all"]:
            self._hurry()
        news = []
        for key, view in self.views.items():
            change, tail = told["changes"].get(key), told["tails"].get(key)
            view.confirmed = self._confirmed
            if change is not None:
                view.facts = _merged(view.facts, change)
            if tail is not None:
                view.offset = tail["end"]
                view.tails.append(Tail(tail["skipped"], tail["text"]))
            if change is not None or tail is not None or view.unknown or "nodes" in told:
                view.unknown, view.nodes = "", self._nodes
                news.append(view)
        _wake(news)


def _wake(views: list[JobView]) -> None:
    """Wake those who wait, a few at a time: a thousand at once would hold the event loop up."""
    loop = asyncio.get_running_loop()
    for number, view in enumerate(views):
        loop.call_later(number // WOKEN_AT_ONCE * 0.01, view.tell)


def _read(answer: Answer) -> dict[str, Any] | None:
    try:
        told = json.loads(answer.stdout)
    except ValueError:
        return None
    return told if isinstance(told, dict) and answer.exit_status == 0 else None


def _merged(facts: dict[str, Any] | None, change: dict[str, Any]) -> dict[str, Any]:
    """Return the facts after a change; of an array's ended elements only news are told, unless all are told anew."""
    if "ended" not in change or facts is None or change["is_whole"]:
        return change
    kept = {index: code for index, code in facts["ended"].items() if index not in change["again"]}
    return {**change, "ended": kept | change["ended"]}


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[HeadNodeAddress, str], _JobWatch]]
_watches = WeakKeyDictionary()


@contextmanager
def watch_job(
    address: HeadNodeAddress, ssh_conn_id: str, watched: Watched, *, longest_pause: float
) -> Iterator[JobView]:
    """Watch a job for as long as the block lasts."""
    of_this_loop = _watches.setdefault(asyncio.get_running_loop(), {})
    key = (address, ssh_conn_id)
    watch = of_this_loop.setdefault(key, _JobWatch(address, ssh_conn_id))
    view = JobView(watched, longest_pause)
    number = watch.join(view)
    try:
        yield view
    finally:
        watch.leave(number)
        if not watch.views:
            of_this_loop.pop(key, None)
