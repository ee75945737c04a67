"""The watch over many jobs, against a head node that is played: what is lost, late or unreadable decides nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hpc.errors import ConnectionLostError, HostKeyError
from hpc.head_node.address import HeadNodeAddress
from hpc.head_node.poller import Answer, Answers, Question
from hpc.head_node.program import MISSING
from hpc.slurm import watch
from hpc.slurm.watch import Watched, watch_job

ADDRESS = HeadNodeAddress("c", "i-1", "127.0.0.1", ("ssh-ed25519 AAAA",))
QUIET: dict[str, Any] = {"changes": {}, "tails": {}, "is_all": True, "left": None}


class HeadNode:
    """Plays the asker: a test asks for a round, and says what is answered."""

    def __init__(self) -> None:
        self.hurried = 0
        self.is_left = False

    @contextmanager
    def subscribe(
        self,
        address: HeadNodeAddress,
        ssh_conn_id: str,
        questions: Callable[[], list[Question]],
        *,
        hear: Callable[[Answers | Exception], None],
        pace: Callable[[], float],
    ) -> Iterator[Callable[[], None]]:
        self.questions, self.hear, self.pace = questions, hear, pace
        yield self.hurry
        self.is_left = True

    def hurry(self) -> None:
        self.hurried += 1

    def request(self) -> dict[str, Any]:
        [question] = self.questions()
        self.command = question.command
        asked: dict[str, Any] = json.loads(question.input)
        return asked

    def answer(self, told: Any = None, status: int = 0) -> None:
        self.hear({"watch": Answer(status, json.dumps(told))})


@pytest.fixture
def head_node(monkeypatch: pytest.MonkeyPatch) -> HeadNode:
    node = HeadNode()
    monkeypatch.setattr(watch, "subscribe", node.subscribe)
    return node


def watching(name: str) -> Any:
    return watch_job(ADDRESS, "ssh", Watched({name: 0}, f"/fsx/{name}", log=f"/fsx/{name}.log"), longest_pause=30)


async def test_a_job_is_added_once_and_dropped_once(head_node: HeadNode) -> None:
    with watching("a") as a:
        first = head_node.request()
        assert (first["is_new"], list(first["add"])) == (True, ["0"])
        head_node.answer(QUIET | {"changes": {"0": {"row": None, "record": ""}}})
        assert a.facts == {"row": None, "record": ""}
        with watching("b"):
            second = head_node.request()
            assert (second["is_new"], list(second["add"]), second["watcher"]) == (False, ["1"], first["watcher"])
            head_node.answer(QUIET)
        third = head_node.request()
        assert (third["add"], third["drop"]) == ({}, ["1"])
    assert head_node.is_left


@pytest.mark.parametrize("loss", ["error", "no answer", "unreadable", "lost notes"])
async def test_after_a_lost_answer_everything_is_told_once_more(head_node: HeadNode, loss: str) -> None:
    with watching("a") as a:
        first = head_node.request()
        head_node.answer(QUIET | {"tails": {"0": {"skipped": 0, "end": 40, "text": "x"}}})
        head_node.request()
        if loss == "error":
            head_node.hear(ConnectionLostError("cut"))
            assert "cut" in a.unknown
        elif loss == "unreadable":
            head_node.answer("half", status=0)
            assert "cannot be read" in a.unknown
        elif loss == "lost notes":
            head_node.answer({"lost": True})
        again = head_node.request()
        assert again["is_new"]
        assert again["watcher"] != first["watcher"]
        assert again["add"]["0"]["offset"] == 40, "the log goes on where it was read"
        head_node.answer(QUIET)
        assert a.unknown == ""


async def test_what_cannot_pass_ends_the_wait(head_node: HeadNode) -> None:
    with watching("a") as a:
        head_node.request()
        head_node.hear(HostKeyError("another key"))
        assert isinstance(a.error, HostKeyError)


async def test_a_slurmctld_that_does_not_answer_is_unknown(head_node: HeadNode) -> None:
    with watching("a") as a:
        head_node.request()
        head_node.answer({"unknown": "connect failure"})
        assert "connect failure" in a.unknown
        assert not a.confirmed
        assert not head_node.request()["is_new"], "nothing was lost"


async def test_a_missing_program_is_installed_with_the_next_question(head_node: HeadNode) -> None:
    with watching("a"):
        head_node.request()
        assert "mkdir" not in head_node.command
        head_node.answer(None, status=MISSING)
        assert head_node.hurried == 2
        head_node.request()
        assert "mkdir" in head_node.command
        head_node.answer(QUIET)
        head_node.request()
        assert "mkdir" not in head_node.command


async def test_only_who_has_news_wakes(head_node: HeadNode) -> None:
    with watching("a") as a, watching("b") as b:
        head_node.request()
        head_node.answer(QUIET | {"changes": {key: {"row": None, "record": ""} for key in "01"}})
        await asyncio.gather(a.news(5), b.news(5))
        head_node.request()
        head_node.answer(QUIET | {"changes": {"0": {"row": None, "record": "start=1"}}})
        await asyncio.wait_for(a.news(60), 5)
        still = asyncio.create_task(b.news(60))
        await asyncio.sleep(0.1)
        assert not still.done()
        assert a.confirmed == b.confirmed
        b.tell()
        await asyncio.wait_for(still, 5)


async def test_the_pace_follows_the_news(head_node: HeadNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "pause", lambda quiet, longest: min(longest, max(1.0, quiet / 10)))
    now = 1000.0
    monkeypatch.setattr("hpc.slurm.watch.time", type("Clock", (), {"monotonic": staticmethod(lambda: now)}))
    with watching("a"):
        head_node.request()
        head_node.answer(QUIET | {"changes": {"0": {"row": None, "record": ""}}})
        assert head_node.pace() == 1.0
        now += 250
        head_node.request()
        head_node.answer(QUIET)
        assert head_node.pace() == 25.0
        now += 3600
        head_node.request()
        head_node.answer(QUIET | {"left": 4})
        assert head_node.pace() == 5.0, "the walltime ends"


async def test_of_an_array_the_news_are_merged(head_node: HeadNode) -> None:
    with watching("s") as view:
        counts: dict[str, Any] = {"counts": {}, "reason": "", "broken": {}}
        head_node.request()
        whole = counts | {"ended": {"1": "0", "2": "9"}, "again": [], "is_whole": True}
        head_node.answer(QUIET | {"changes": {"0": whole}})
        head_node.request()
        news = counts | {"ended": {"3": "0"}, "again": ["2"], "is_whole": False}
        head_node.answer(QUIET | {"changes": {"0": news}})
        assert view.facts is not None
        assert view.facts["ended"] == {"1": "0", "3": "0"}
