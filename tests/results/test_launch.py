from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc.errors import ConfigurationError, ConnectionLostError, ExportError, HpcError, PermissionDeniedError
from hpc.results.launch import error_of, format_bytes, parse_poll, poll_command, record_of, stop_command
from tests.results.test_exporter import HOLDER

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
