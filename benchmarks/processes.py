"""When the `pcluster` command ran, for which cluster: seen in /proc, for the product keeps no such record."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from pathlib import Path
from types import TracebackType

from benchmarks.intervals import Interval
from benchmarks.proc import TICKS

#: Seconds between two looks: how exact the end of a process is known.
PAUSE = 0.1
#: What stands in the command lines of ParallelCluster's own processes.
PROGRAMS = ("/bin/pcluster", "/check_schema.py")


def cluster_of(command: list[str]) -> str | None:
    """Return the cluster that a command line of ParallelCluster is about; None for any other process."""
    if not any(word.endswith(PROGRAMS) for word in command):
        return None
    if "--cluster-name" in command[:-1]:
        return command[command.index("--cluster-name") + 1]
    return command[-1]


class PclusterWatch:
    """Looks at the processes of this machine from a thread of its own; a context."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._running: dict[tuple[int, int], tuple[str, float]] = {}
        self._others: set[int] = set()
        self._found: dict[str, list[Interval]] = defaultdict(list)

    def of_cluster(self, name: str) -> list[Interval]:
        """Return when `pcluster` ran for a cluster, as far as it has ended."""
        return self._found[name]

    def __enter__(self) -> PclusterWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(PAUSE):
            self._look(time.time())

    def _look(self, now: float) -> None:
        booted = now - time.clock_gettime(time.CLOCK_BOOTTIME)
        alive = {int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()}
        self._others &= alive
        seen = set()
        for pid in alive - self._others:
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
                command = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            began = booted + int(fields[19]) / TICKS
            name = cluster_of(command) if fields[0] not in "ZX" else None
            if name is not None:
                key = (pid, int(fields[19]))
                self._running.setdefault(key, (name, began))
                seen.add(key)
            elif now - began > 2:  # a younger one may still become the command
                self._others.add(pid)
        for key in set(self._running) - seen:
            name, began = self._running.pop(key)
            self._found[name].append(Interval(began, now - PAUSE / 2))
