"""Processes that may outlive whoever started them: recorded on disk, found again, and ended with all their descendants.

Each runs in a session of its own. The new process writes its record before it becomes the program, so a starter that is
killed at any moment leaves nothing that the next `stop_all` does not find. The record is what the kernel says of the
process (`/proc/<pid>/stat`, proc(5)) and the computer's boot id: process ids are reused, but not with the start time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
RECORD_AND_BECOME = 'cat "/proc/$$/stat" /proc/sys/kernel/random/boot_id > "$0.part" && mv "$0.part" "$0" && exec "$@"'
SUFFIX = ".process"


@dataclass(frozen=True)
class Stat:
    """One process; `started` is in clock ticks since the computer booted, `session` the process id of who began it."""

    pid: int
    state: str
    session: int
    started: int


def parse_stat(text: str) -> Stat:
    """Read the line of `/proc/<pid>/stat`. The program's name in it may hold blanks and brackets."""
    pid, _, rest = text.partition(" (")
    fields = rest.rpartition(") ")[2].split()
    return Stat(pid=int(pid), state=fields[0], session=int(fields[3]), started=int(fields[19]))


def start(name: str, command: Sequence[str], *, records: Path, environment: Mapping[str, str], log: Path) -> None:
    """Start `command` in a session of its own; returns when its record `name` is written."""
    records.mkdir(parents=True, exist_ok=True)
    record = records / (name + SUFFIX)
    record.unlink(missing_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", RECORD_AND_BECOME, str(record), *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    while not record.exists() and process.poll() is None:
        time.sleep(0.005)


def is_running(name: str, records: Path) -> bool:
    """Say whether the process that was recorded as `name` still runs itself."""
    leader = _read(records / (name + SUFFIX))
    return leader is not None and any(stat.pid == leader.pid for stat in _session(leader))


def stop_all(records: Path, *, patience: float = 3.0) -> list[str]:
    """End every recorded session: SIGTERM, SIGKILL after `patience` seconds. Returns the names of what still ran."""
    leaders = {file: leader for file in sorted(records.glob(f"*{SUFFIX}")) if (leader := _read(file))}
    running = [file.stem for file, leader in leaders.items() if any(_session(leader))]
    gone = _end(leaders.values(), signal.SIGTERM, patience) or _end(leaders.values(), signal.SIGKILL, 10.0)
    if not gone:
        raise TimeoutError(f"{', '.join(running)} cannot be killed; the process ids stand in {records}")
    for file in records.glob(f"*{SUFFIX}*"):
        file.unlink()
    return running


def _end(leaders: Iterable[Stat], number: signal.Signals, patience: float) -> bool:
    """Send a signal to whole sessions and say whether all their processes are gone within `patience` seconds."""
    for stat in _members(leaders):
        _send(stat.pid, number)
    limit = time.monotonic() + patience
    while any(_members(leaders)):
        if time.monotonic() > limit:
            return False
        time.sleep(0.05)
    return True


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _members(leaders: Iterable[Stat]) -> Iterator[Stat]:
    for leader in leaders:
        yield from _session(leader)


def _session(leader: Stat) -> Iterator[Stat]:
    """Yield the living processes of the session that `leader` began, whether or not it still lives itself.

    The kernel gives a session's number to no new process while one member lives, so members that are not older than the
    leader are its own, unless another leader bears the number now.
    """
    members = [stat for stat in _all_processes() if stat.session == leader.pid]
    if not any(stat.pid == leader.pid and stat.started != leader.started for stat in members):
        yield from (stat for stat in members if stat.started >= leader.started and stat.state not in "ZX")


def _all_processes() -> Iterator[Stat]:
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                yield parse_stat((directory / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue


def _read(record: Path) -> Stat | None:
    """Return who is recorded, or None for a record of an earlier boot."""
    if not record.exists():
        return None
    line, boot = record.read_text().splitlines()
    return parse_stat(line) if boot == BOOT_ID.read_text().strip() else None
