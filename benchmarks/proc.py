"""What the kernel tells of processes: CPU seconds, memory, and who descends from whom (proc(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """One line of `/proc/<pid>/stat`: `cpu` are the process's own seconds, `reaped` those of its ended children."""

    pid: int
    name: str
    parent: int
    cpu: float
    reaped: float


def parse_stat(text: str) -> Process:
    """Read the line; the name in it may hold blanks and brackets."""
    pid, _, rest = text.partition(" (")
    name, _, rest = rest.rpartition(") ")
    fields = rest.split()
    user, system, reaped_user, reaped_system = (int(field) / TICKS for field in fields[11:15])
    return Process(int(pid), name, int(fields[1]), user + system, reaped_user + reaped_system)


def parse_memory(text: str, name: str) -> int:
    """Return the kB of a line of `smaps_rollup`: Rss, or Pss, in which memory that is shared counts in parts."""
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) if found else 0


def all_processes() -> dict[int, Process]:
    """Return every process that lives now, by its id."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                process = parse_stat((folder / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue
            found[process.pid] = process
    return found


def tree(processes: dict[int, Process], roots: Iterable[int]) -> list[Process]:
    """Return the roots and all their descendants."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found, todo = {}, [pid for pid in roots if pid in processes]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found[pid] = processes[pid]
            todo += children.get(pid, [])
    return list(found.values())


def memory(pid: int, name: str) -> int:
    """Return the Rss or Pss of a process in kB; 0 once it is gone."""
    try:
        return parse_memory(Path(f"/proc/{pid}/smaps_rollup").read_text(), name)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def parse_peak(text: str) -> int:
    """Return the most kB that a process ever had in memory, from its `status`; a zombie has none."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) if found else 0


def peak(pid: int) -> int:
    """Return the most kB that a process ever had in memory; 0 once it is gone."""
    try:
        return parse_peak(Path(f"/proc/{pid}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0


def command_line(pid: int) -> bytes:
    """Return the words of a process, a NUL after each; nothing once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def free_memory() -> int:
    """Return the kB that programs can still have."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
