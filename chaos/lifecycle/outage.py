"""A head node that does not answer by SSH: for a while, or for good."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

#: Outages that are under way: each ends by itself, whatever becomes of the run.
_under_way: set[asyncio.Task[None]] = set()


async def begin(cluster: Path, seconds: float) -> bool:
    """End all SSH sessions on the head node of a cluster, and let nobody in for so long; say whether there was one.

    `cluster` is its folder in the local region. A daemon that is stopped takes connections and says nothing; for good,
    it is killed, and connections are refused.
    """
    daemons, sessions = await asyncio.to_thread(_sshd_of, cluster)
    is_for_good = math.isinf(seconds)
    for pid in daemons:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL if is_for_good else signal.SIGSTOP)
    for pid in sessions:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if daemons and not is_for_good:
        task = asyncio.create_task(_end(daemons, seconds))
        _under_way.add(task)
        task.add_done_callback(_under_way.discard)
    return bool(daemons)


async def _end(daemons: list[int], seconds: float) -> None:
    try:
        await asyncio.sleep(seconds)
    finally:
        for pid in daemons:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _sshd_of(cluster: Path) -> tuple[list[int], list[int]]:
    """Return the daemons of a head node, and the processes of its sessions."""
    daemons: list[int] = []
    sessions: list[int] = []
    for process in _processes_of(cluster):
        with suppress(OSError):
            if (process / "comm").read_text().strip() == "sshd":
                is_daemon = b"-D" in (process / "cmdline").read_bytes()
                (daemons if is_daemon else sessions).append(int(process.name))
    return daemons, sessions


def _processes_of(cluster: Path) -> Iterator[Path]:
    """Yield the processes of a cluster's machines: they see its shared tree."""
    try:
        shared = (cluster / "root/fsx").stat()
    except OSError:
        return
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.path.samestat((process / "root/fsx").stat(), shared):
                yield process
