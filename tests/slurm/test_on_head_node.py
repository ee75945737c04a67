"""What the head node's program makes of squeue, records and logs. Submitting is proven in test_submission.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpc.slurm import on_head_node, parse
from hpc.slurm.on_head_node import NAME, NODE_FIELDS, QUEUE_FIELDS, SEPARATOR, STATE, parse_queue, seconds_of, watch

LIMIT = 1 << 20
Ask = Callable[..., dict[str, Any]]


def row(name: str, state: str = "RUNNING", index: str = "N/A", left: str = "1:00:00", job_id: int = 7) -> list[str]:
    return [str(job_id), index, state, "None", "n-1", name, "2026-11-23T02:41:27", left]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What squeue will print."""
    rows: list[list[str]] = []

    def run(argv: list[str], *inherited: int) -> Any:
        if argv[0] == "sinfo":
            return SimpleNamespace(returncode=0, stdout="nodes\n", stderr="")
        text = "".join(SEPARATOR.join(fields) + "\n" for fields in rows)
        return SimpleNamespace(returncode=0, stdout=f"slurm_load_jobs: a warning\n{text}", stderr="")

    monkeypatch.setattr(on_head_node, "run", run)
    monkeypatch.setenv("HOME", str(tmp_path))
    return rows


def job(tmp_path: Path, name: str, *, is_array: bool = False, log: str = "") -> dict[str, Any]:
    record = tmp_path / "records" / name
    record.mkdir(parents=True, exist_ok=True)
    return {"names": {name: 0}, "record": str(record), "log": log, "offset": 0, "is_array": is_array}


def ask(watcher: str = "w", **request: Any) -> dict[str, Any]:
    answer = watch({"watcher": watcher, "is_new": False, "add": {}, "drop": [], "limit": LIMIT, **request})
    told: dict[str, Any] = json.loads(json.dumps(answer))
    return told


def test_the_triggers_know_the_same_fields() -> None:
    assert parse.SEPARATOR == SEPARATOR
    assert parse._NODE_FIELDS == NODE_FIELDS
    queued = parse.parse_row(row("melt.1")[:-1])
    assert (queued.name, queued.state.slurm_name, queued.job_id) == ("melt.1", "RUNNING", 7)
    assert len(row("melt.1")) == len(QUEUE_FIELDS)


def test_lines_of_another_shape_are_left_out() -> None:
    good = SEPARATOR.join(row("melt.1"))
    rows = parse_queue(f"error: x\n\n{SEPARATOR}\n{good}\n{good[:20]}\n")
    assert [each[NAME] for each in rows["melt.1"]] == ["melt.1"]


@pytest.mark.parametrize(
    ("left", "seconds"),
    [("0:30", 30), ("1:00:00", 3600), ("2-01:00:00", 176_400), ("UNLIMITED", None), ("INVALID", None), ("", None)],
)
def test_the_walltime_that_is_left_is_read(left: str, seconds: int | None) -> None:
    assert seconds_of(left) == seconds


def test_only_changes_are_told(queue: list[list[str]], tmp_path: Path) -> None:
    queue[:] = [row("a"), row("b", "PENDING")]
    added = {"1": job(tmp_path, "a"), "2": job(tmp_path, "b"), "3": job(tmp_path, "gone")}
    first = ask(is_new=True, add=added)
    assert set(first["changes"]) == {"1", "2", "3"}
    assert first["changes"]["3"] == {"row": None, "record": ""}
    assert (first["nodes"], first["left"]) == ("nodes\n", 3600)
    second = ask()
    assert (second["changes"], second["is_all"]) == ({}, True)
    assert "nodes" not in second
    (tmp_path / "records" / "a" / "start").write_text("start=1\n")
    assert ask()["changes"]["1"]["record"] == "start=1\n"
    queue[1][STATE] = "RUNNING"
    assert set(ask()["changes"]) == {"2"}
    queue.pop(0)
    (tmp_path / "records" / "a" / "end").write_text("exit_code=0\n")
    assert ask()["changes"] == {"1": {"row": None, "record": "start=1\nexit_code=0\n"}}
    assert ask(drop=["1", "2", "3"])["changes"] == {}


def test_a_settled_job_costs_no_look_at_the_file_system(
    queue: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue[:] = [row("a"), row("b", "PENDING")]
    (tmp_path / "records" / "a").mkdir(parents=True)
    (tmp_path / "records" / "a" / "start").write_text("start=1\n")
    ask(is_new=True, add={"1": job(tmp_path, "a"), "2": job(tmp_path, "b")})
    looked: list[Path] = []
    read = on_head_node.read
    monkeypatch.setattr(on_head_node, "read", lambda path: looked.append(path) or read(path))
    ask()
    assert [path.suffix for path in looked] == [".json"], "the watcher's own notes only"


def test_a_failed_squeue_is_unknown_and_forgets_nothing(
    queue: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue[:] = [row("a")]
    works = on_head_node.run
    failed = SimpleNamespace(returncode=1, stdout="", stderr="Unable to contact slurm controller")
    monkeypatch.setattr(on_head_node, "run", lambda *_: failed)
    assert ask(is_new=True, add={"1": job(tmp_path, "a")}) == {"unknown": "Unable to contact slurm controller"}
    monkeypatch.setattr(on_head_node, "run", works)
    assert set(ask()["changes"]) == {"1"}


def test_a_watcher_without_notes_is_told_so(queue: list[list[str]], tmp_path: Path) -> None:
    assert ask("somebody") == {"lost": True}


def test_an_answer_is_bounded_and_the_ended_come_first(queue: list[list[str]], tmp_path: Path) -> None:
    names = [f"job-{number:03}" for number in range(200)]
    queue[:] = [row(name, "PENDING" if number < 150 else "COMPLETED") for number, name in enumerate(names)]
    added = {name: job(tmp_path, name) for name in names}
    answer = ask(is_new=True, add=added, limit=8_000)
    told = list(answer["changes"])
    assert told[0] == "job-150"
    assert len(json.dumps(answer["changes"])) < 12_000
    assert not answer["is_all"]
    for _ in range(20):
        answer = ask(limit=8_000)
        told += answer["changes"]
    assert answer["is_all"]
    assert sorted(told) == names


def test_every_log_has_its_turn(queue: list[list[str]], tmp_path: Path) -> None:
    logs = {name: tmp_path / f"{name}.log" for name in ("a", "b", "c")}
    queue[:] = [row(name) for name in logs]
    for log in logs.values():
        log.write_text("x" * 5_000)
    ask(is_new=True, add={name: job(tmp_path, name, log=str(log)) for name, log in logs.items()}, limit=1)
    seen = set()
    for _ in range(4):
        for log in logs.values():
            log.write_text(log.read_text() + "y" * 5_000)
        seen |= set(ask(limit=1)["tails"])
    assert seen == {"a", "b", "c"}


def test_an_array_is_told_in_counts_and_by_what_is_new(queue: list[list[str]], tmp_path: Path) -> None:
    queue[:] = [row("s", "RUNNING", "0"), row("s", "PENDING", "1"), row("s", "PENDING", "2"), row("s", "TIMEOUT", "3")]
    added = {"1": job(tmp_path, "s", is_array=True)}
    first = ask(is_new=True, add=added)["changes"]["1"]
    assert first["counts"] == {"RUNNING": 1, "PENDING": 2}
    assert (first["broken"], first["ended"], first["is_whole"]) == ({"3": "TIMEOUT"}, {}, True)
    ends = tmp_path / "records" / "s" / "ends"
    ends.mkdir()
    (ends / "0=0").touch()
    (ends / "1=7").touch()
    second = ask()["changes"]["1"]
    assert (second["ended"], second["again"], second["is_whole"]) == ({"0": "0", "1": "7"}, [], False)
    (ends / "1=7").unlink()  # it was put back and starts again
    third = ask()["changes"]["1"]
    assert (third["ended"], third["again"]) == ({}, ["1"])


def test_watchers_that_never_came_back_are_forgotten(
    queue: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("old", is_new=True)
    monkeypatch.setattr(on_head_node, "FORGOTTEN", -1)
    ask("new", is_new=True)
    assert ask("old") == {"lost": True}
