from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from hpc.errors import ConfigurationError, ConnectionLostError, ExportError, HpcError, PermissionDeniedError
from hpc.results.bucket import Unit
from hpc.results.launch import (
    SMALL,
    error_of,
    format_bytes,
    parse_poll,
    poll_command,
    record_of,
    start_upload,
    stop_command,
)
from hpc.results.manifest import parse_sent
from tests.results.test_exporter import CHECKSUM, HOLDER, answering

if TYPE_CHECKING:
    from hpc.head_node.session import Session

FACTS: dict[str, Any] = {
    "state": "running",
    "action": "upload",
    "launch": "mine",
    "files": 1000,
    "files_done": 250,
    "bytes": 4_000_000_000,
    "bytes_done": 1_000_000_000,
    "seconds": 10.0,
}


def answer(running: str, log: str = "", **facts: Any) -> str:
    return f"{running}\n{log}\n{json.dumps(FACTS | facts)}"


def test_progress_in_a_line() -> None:
    progress = parse_poll(answer("running"), "mine")
    assert progress.state == "running"
    assert progress.line() == "sent 250 of 1,000 files, 1.0 GB of 4.0 GB, 100.0 MB/s"


def test_a_failure_carries_its_kind() -> None:
    progress = parse_poll(answer("ended", state="failed", error={"kind": "changed", "message": "a changed"}), "mine")
    assert (progress.state, progress.kind, progress.message) == ("failed", "changed", "a changed")


def test_an_end_without_a_word_is_lost_and_not_done() -> None:
    progress = parse_poll(answer("ended", log="Killed"), "mine")
    assert progress.state == "lost"
    assert "Killed" in progress.message


def test_the_end_of_another_start_is_not_ours() -> None:
    assert parse_poll(answer("ended", state="done", launch="theirs"), "mine").state == "lost"


@pytest.mark.parametrize("stdout", ["", "running\n", "running\n\n{", "bash: cd: no such file", "a\nb\nc\nd"])
def test_an_answer_that_says_nothing_is_unknown(stdout: str) -> None:
    with pytest.raises(ValueError, match=r"lines instead of 3|Expecting"):
        parse_poll(stdout, "mine")


def test_the_poll_and_the_stop_are_shell(tmp_path: Path) -> None:
    record = tmp_path / "it's a record"
    record.mkdir()
    (record / "progress.json").write_text(json.dumps(FACTS))
    (record / "exporter.log").write_text("Traceback\nOSError\n")
    command = poll_command(str(record))
    ended = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, text=True, check=True)
    assert "Traceback OSError" in parse_poll(ended.stdout, "mine").message
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(record / "lock")], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        (record / "pid").write_text(str(holder.pid))
        ended = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, text=True, check=True)
        assert parse_poll(ended.stdout, "mine").state == "running"
        subprocess.run(["bash", "-c", stop_command(str(record))], check=True)
        assert holder.wait() == -signal.SIGTERM


def test_the_record_is_the_same_on_every_retry_and_no_other_exports() -> None:
    places = [("c", "/d", "b", "p"), ("c", "/d", "b", "p/pictures"), ("c2", "/d", "b", "p")]
    assert record_of(*places[0]) == record_of(*places[0])
    assert len({record_of(*place) for place in places}) == 3


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("denied", PermissionDeniedError),
        ("network", ConnectionLostError),
        ("name", ConfigurationError),
        ("changed", ExportError),
        ("lost", ExportError),
        ("a new word", ExportError),
    ],
)
def test_each_kind_is_an_error_that_policies_know(kind: str, error: type[HpcError]) -> None:
    assert type(error_of(kind, "it went wrong")) is error


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (2e12, "2,000.0 GB")],
)
def test_sizes(size: float, text: str) -> None:
    assert format_bytes(size) == text


class LocalSession:
    """Runs on this machine what would run on the head node; keeps what was told on standard input."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.told = ""

    async def run(self, command: str, *, input: str | bytes = b"", **_: Any) -> SimpleNamespace:
        data = input.encode() if isinstance(input, str) else input
        self.told = data.decode()
        run = partial(subprocess.run, input=data, stdout=subprocess.PIPE, env={**os.environ, "HOME": str(self.home)})
        completed = await asyncio.to_thread(run, ["bash", "-c", command], check=True)
        return SimpleNamespace(stdout=completed.stdout)


@pytest.mark.asyncio
async def test_small_files_come_first_and_all_are_sent(tmp_path: Path) -> None:
    lengths = {"small": SMALL, "over": SMALL + 1, "empty": 0}
    units = list[Unit]()
    with answering(lambda _: 200) as (url, _):
        for name, length in lengths.items():
            file = tmp_path / name
            file.write_bytes(bytes(length))
            facts = (length, file.stat().st_mtime_ns, 0, length)
            units.append(Unit(name, 1, *facts, f"{url}/{name}?signed", {CHECKSUM: "="}))
        (tmp_path / "parts").write_bytes(bytes(20))
        changed = (tmp_path / "parts").stat().st_mtime_ns
        for offset in (0, 10):
            units.insert(0, Unit("parts", 2, 20, changed, offset, 10, f"{url}/parts?{offset}", {CHECKSUM: f"{offset}"}))
        session = LocalSession(tmp_path / "home")
        launched = await start_upload(cast("Session", session), record="r", directory=str(tmp_path), units=units)
    _, request, *lines = session.told.splitlines()
    assert json.loads(request)["small"] == 2
    assert [json.loads(line)["path"] for line in lines] == ["small", "empty", "parts", "parts", "over"]
    assert launched.ended is not None
    assert (launched.ended.state, launched.ended.files_done, launched.ended.bytes_done) == ("done", 4, 2 * SMALL + 21)
    sent = parse_sent((tmp_path / "home" / "r" / "sent.jsonl").read_text())
    assert sorted(sent) == sorted((unit.path, unit.offset, unit.headers[CHECKSUM]) for unit in units)
