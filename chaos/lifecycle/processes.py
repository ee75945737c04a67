"""The processes below a task's own."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Return every process that was started by a process or below it, parents first."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = _children(waiting.pop())
        found += children
        waiting += children
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, children.read_text().split())
    return found


def is_pcluster(pid: int) -> bool:
    """Say whether a process is the `pcluster` command."""
    with suppress(OSError):
        return b"/pcluster\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def kill(pids: list[int]) -> int:
    """Kill processes; return how many there were."""
    killed = 0
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed
