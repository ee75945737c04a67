from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.errors import ConnectionLostError, HostKeyError
from hpc.head_node import poller
from hpc.head_node.address import HeadNodeAddress
from hpc.head_node.poller import MAX_ANSWER, Answer, Answers, Question, Questions, ask, build_round, parse_round

from .conftest import Sshd, keygen


def in_bash(commands: list[str]) -> list[Answer]:
    script = build_round([Question("", command) for command in commands], "marker")
    printed = subprocess.run(["bash", "-s"], input=script.encode(), capture_output=True, check=True).stdout
    return parse_round(printed.decode(errors="replace"), "marker", len(commands))


def test_each_command_answers_alone() -> None:
    commands = ["echo one", "exit 4", "if then", "x=1; cd /", "pwd; echo ${x-unset}; cat"]
    answers = in_bash(commands)
    assert answers[0] == Answer(0, "one\n")
    assert answers[1] == Answer(4, "")
    assert answers[2].exit_status != 0
    assert answers[4] == Answer(0, f"{Path.cwd()}\nunset\n")


def test_a_command_reads_its_input_and_no_other() -> None:
    questions = [
        Question("a", "cat", input='{"it\'s": "$(id)"}'),
        Question("b", "cat; echo none"),
        Question("c", "cat", input="c"),
    ]
    printed = subprocess.run(
        ["bash", "-s"], input=build_round(questions, "m").encode(), capture_output=True, check=True
    )
    answers = parse_round(printed.stdout.decode(), "m", 3)
    assert [answer.stdout for answer in answers] == ['{"it\'s": "$(id)"}\n', "none\n", "c\n"]


def test_an_endless_answer_is_cut() -> None:
    endless, after = in_bash(["yes", "echo after"])
    assert len(endless.stdout) == MAX_ANSWER
    assert after == Answer(0, "after\n")


def test_an_answer_that_stops_half_way_is_no_answer() -> None:
    with pytest.raises(ConnectionLostError, match="1 of 2"):
        parse_round("one\n\nmarker 0\nhal", "marker", 2)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=30), max_size=4))
def test_what_is_printed_arrives(texts: list[str]) -> None:
    from hpc.head_node.shell import quote

    answers = in_bash([quote(["printf", "%s", text]) for text in texts])
    assert [answer.stdout for answer in answers] == texts


async def first(sshd: Sshd, connection: str, questions: Questions, count: int = 1) -> list[Answers]:
    answers = []
    async with asyncio.timeout(20), aclosing(ask(sshd.address, connection, questions, longest_pause=1)) as rounds:
        async for answer in rounds:
            answers.append(answer)
            if len(answers) == count:
                break
    return answers


async def test_fifty_waiting_are_one_connection_and_one_command_a_round(
    sshd: Sshd, connection: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sent = []

    def counting(questions: list[Question], marker: str) -> str:
        sent.append(questions)
        return build_round(questions, marker)

    monkeypatch.setattr(poller, "build_round", counting)
    counter = tmp_path / "asked"
    common = Question("queue", f"echo x >> {counter}; echo queue")
    waiters = [first(sshd, connection, [common, Question("own", f"echo {n}")], count=3) for n in range(50)]
    connections: set[int] = set()

    async def watch() -> None:
        while True:
            connections.update(sshd.sessions())
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    answers = await asyncio.gather(*waiters)
    watching.cancel()

    assert [each[2]["own"].stdout for each in answers] == [f"{n}\n" for n in range(50)]
    assert {each[2]["queue"].stdout for each in answers} == {"queue\n"}
    assert len(connections) == 1
    assert [len(questions) for questions in sent] == [51] * len(sent)
    assert len(counter.read_text().split()) == len(sent) == 3


async def test_it_connects_again_after_the_connection_was_killed(sshd: Sshd, connection: str) -> None:
    seen = 0
    questions = [Question("q", "echo ok")]
    async with asyncio.timeout(30), aclosing(ask(sshd.address, connection, questions, longest_pause=1)) as rounds:
        async for answers in rounds:
            assert answers["q"].stdout == "ok\n"
            seen += 1
            if seen == 3:
                break
            for pid in sshd.sessions():
                os.kill(pid, signal.SIGKILL)
    assert seen == 3


async def test_a_question_may_follow_from_the_answer_before(sshd: Sshd, connection: str) -> None:
    asked = iter(range(10))
    answers = await first(sshd, connection, lambda: [Question("n", f"echo {next(asked)}")], count=3)
    assert [answer["n"].stdout for answer in answers] == ["0\n", "1\n", "2\n"]


async def test_a_wrong_host_key_ends_the_wait(sshd: Sshd, connection: str, tmp_path: Path) -> None:
    stranger = HeadNodeAddress("alone", "i-0", "127.0.0.1", (keygen(tmp_path / "other"),))
    with pytest.raises(HostKeyError):
        await first(replace(sshd, address=stranger), connection, [Question("q", "true")])


async def test_the_connection_is_closed_after_the_last_has_left(sshd: Sshd, connection: str) -> None:
    await first(sshd, connection, [Question("q", "true")])
    async with asyncio.timeout(10):
        while sshd.sessions():  # noqa: ASYNC110 - another program's state
            await asyncio.sleep(0.02)
