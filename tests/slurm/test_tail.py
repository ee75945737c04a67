from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpc.slurm.on_head_node import LONGEST_TAIL, new_lines
from hpc.slurm.tail import MAX_COLUMNS, MAX_LINES, LogTail


class Reader:
    """A log, read as the head node and the trigger do together."""

    def __init__(self, log: str) -> None:
        self.job: dict[str, Any] = {"log": log, "offset": 0}
        self.tail = LogTail()


def look(reader: Reader) -> list[str]:
    piece = new_lines(reader.job)
    return list(reader.tail.read(piece["skipped"], piece["text"])) if piece else []


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "it's a log.log"


def test_only_new_lines_are_shown(log: Path) -> None:
    tail = Reader(str(log))
    assert look(tail) == []
    log.write_text("one\ntwo\nhal")
    assert look(tail) == ["one", "two"]
    assert look(tail) == []
    with log.open("a") as file:
        file.write("f\nthree\n")
    assert look(tail) == ["half", "three"]
    assert list(tail.tail.rest()) == []


def test_the_last_line_may_lack_its_end(log: Path) -> None:
    log.write_text("one\nkilled her")
    tail = Reader(str(log))
    assert look(tail) == ["one"]
    assert list(tail.tail.rest()) == ["killed her"]
    assert list(tail.tail.last_lines) == ["one", "killed her"]


def test_a_huge_log_is_bounded(log: Path) -> None:
    with log.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 30)
        file.write(b"\nlast\n")
    tail = Reader(str(log))
    shown = look(tail)
    assert shown[0].startswith("… 1,073,709,")
    assert shown[-1] == "last"
    assert sum(map(len, shown)) < LONGEST_TAIL
    assert look(tail) == []


def test_many_lines_are_bounded(log: Path) -> None:
    log.write_text("".join(f"{n}\n" for n in range(1000)))
    shown = look(Reader(str(log)))
    assert len(shown) == MAX_LINES + 1
    assert shown[0] == f"… {1000 - MAX_LINES} lines left out …"
    assert shown[-1] == "999"


def test_a_binary_log_is_made_printable(log: Path) -> None:
    log.write_bytes(bytes(range(256)) * 4 + b"\n\x1b[31mred\n" + b"x" * 5000 + b"\n10 %\r 99 %\r100 %\r\n")
    shown = look(Reader(str(log)))
    assert all(line.isprintable() and len(line) <= MAX_COLUMNS for line in shown)
    assert shown[-1] == "100 %"


def test_a_log_that_was_replaced_is_read_from_its_beginning(log: Path) -> None:
    log.write_text("a long first version\n")
    tail = Reader(str(log))
    look(tail)
    log.write_text("short\n")
    assert look(tail) == ["short"]
