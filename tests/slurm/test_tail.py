from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hpc.slurm.tail import MAX_BYTES, MAX_COLUMNS, MAX_LINES, LogTail


def look(tail: LogTail) -> list[str]:
    printed = subprocess.run(["bash", "-c", tail.command()], capture_output=True, check=True).stdout
    return list(tail.read(printed.decode(errors="replace")))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "it's a log.log"


def test_only_new_lines_are_shown(log: Path) -> None:
    tail = LogTail(str(log))
    assert look(tail) == []
    log.write_text("one\ntwo\nhal")
    assert look(tail) == ["one", "two"]
    assert look(tail) == []
    with log.open("a") as file:
        file.write("f\nthree\n")
    assert look(tail) == ["half", "three"]
    assert list(tail.rest()) == []


def test_the_last_line_may_lack_its_end(log: Path) -> None:
    log.write_text("one\nkilled her")
    tail = LogTail(str(log))
    assert look(tail) == ["one"]
    assert list(tail.rest()) == ["killed her"]
    assert list(tail.last_lines) == ["one", "killed her"]


def test_a_huge_log_is_bounded(log: Path) -> None:
    with log.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 30)
        file.write(b"\nlast\n")
    tail = LogTail(str(log))
    shown = look(tail)
    assert shown[0].startswith("… 1,073,709,")
    assert shown[-1] == "last"
    assert sum(map(len, shown)) < MAX_BYTES
    assert look(tail) == []


def test_many_lines_are_bounded(log: Path) -> None:
    log.write_text("".join(f"{n}\n" for n in range(1000)))
    shown = look(LogTail(str(log)))
    assert len(shown) == MAX_LINES + 1
    assert shown[0] == f"… {1000 - MAX_LINES} lines left out …"
    assert shown[-1] == "999"


def test_a_binary_log_is_made_printable(log: Path) -> None:
    log.write_bytes(bytes(range(256)) * 4 + b"\n\x1b[31mred\n" + b"x" * 5000 + b"\n10 %\r 99 %\r100 %\r\n")
    shown = look(LogTail(str(log)))
    assert all(line.isprintable() and len(line) <= MAX_COLUMNS for line in shown)
    assert shown[-1] == "100 %"


def test_a_log_that_was_replaced_is_read_from_its_beginning(log: Path) -> None:
    log.write_text("a long first version\n")
    tail = LogTail(str(log))
    look(tail)
    log.write_text("short\n")
    assert look(tail) == ["short"]


def test_an_answer_to_an_older_question_is_left_out(log: Path) -> None:
    log.write_text("one\n")
    tail = LogTail(str(log))
    printed = subprocess.run(["bash", "-c", tail.command()], capture_output=True, check=True, text=True).stdout
    assert list(tail.read(printed)) == ["one"]
    assert list(tail.read(printed)) == []
