"""Threads, what they share, and how far they are. Runs on the head node."""
# The syntax and library of Python 3.6, and names as bytes, for a folder may hold any:
# ruff: noqa: UP006, UP035, PTH105, PTH118, PTH123, PTH208

import json
import os
import tempfile
import threading
import time
from typing import Any, Callable, Iterator, List

from hpc.results.exporter.files import Failure, Json

PROGRESS_INTERVAL = 0.5
#: Of a core: busier threads have nothing to wait for.
BUSY = 0.7


class Progress:
    """What is done so far, in a file that is always whole."""

    def __init__(self, record: str, facts: Json) -> None:
        self.file = os.path.join(record, "progress.json")
        self.guard = threading.Lock()
        self.began = time.time()
        self.facts = dict({"state": "running", "files": 0, "files_done": 0, "bytes": 0, "bytes_done": 0}, **facts)

    def add(self, name: str, number: int) -> None:
        """Count more of something."""
        with self.guard:
            self.facts[name] += number

    def count_bytes(self, number: int) -> None:
        """Count bytes done; a negative number takes back what has to be sent again."""
        self.add("bytes_done", number)

    def write(self, **changes: Any) -> None:
        """Replace the file by how it is now."""
        with self.guard:
            self.facts.update(changes, seconds=round(time.time() - self.began, 1))
            text = json.dumps(self.facts)
        write_whole(self.file, text)


def write_whole(name: str, text: str) -> None:
    """Write a file so that readers see the old one or the new one."""
    partial = name + ".partial"
    with open(partial, "w", encoding="ascii") as file:
        file.write(text)
    os.replace(partial, name)


def core_seconds() -> float:
    """Return the seconds in which the threads that live computed, or waited for a core that others had (proc(5))."""
    total = 0.0
    for thread in os.listdir("/proc/self/task"):
        try:
            with open("/proc/self/task/" + thread + "/schedstat") as file:
                total += sum(map(int, file.read().split()[:2])) / 1e9
        except OSError:  # it has just ended, or the kernel does not count
            continue
    return total or time.process_time()


class Crew:
    """Threads that do the same: a few begin, and as many again join them while these mostly wait for disk or network.

    Python runs one at a time, so each that has nothing to wait for costs the others as much as its own work.
    """

    def __init__(self, work: Callable[[], None], first: int, most: int) -> None:
        self.work = work
        self.first = first
        self.most = most
        self.threads: List[threading.Thread] = []

    def start_some(self) -> None:
        """Let a few begin, and later as many as there are."""
        for _ in range(min(len(self.threads) or self.first, self.most - len(self.threads))):
            self.threads.append(threading.Thread(target=self.work, daemon=True))
            self.threads[-1].start()

    def at_work(self) -> List[threading.Thread]:
        """Return those that have not ended."""
        return [thread for thread in self.threads if thread.is_alive()]


def work_to_the_end(crews: List[Crew], look: Callable[[], None]) -> None:
    """Return when all threads of all crews have ended; call `look` now and then."""
    for crew in crews:
        crew.start_some()
    used, looked = core_seconds(), time.monotonic()
    alive = [thread for crew in crews for thread in crew.threads]
    while alive:
        alive[0].join(PROGRESS_INTERVAL)
        look()
        elapsed = time.monotonic() - looked
        if elapsed >= PROGRESS_INTERVAL:
            if core_seconds() - used < BUSY * elapsed:
                for crew in crews:
                    if crew.at_work():
                        crew.start_some()
            used, looked = core_seconds(), time.monotonic()
        alive = [thread for crew in crews for thread in crew.at_work()]


class Stage:
    """What several threads work on; the first failure stops all."""

    def __init__(self, progress: Progress, stopped: threading.Event) -> None:
        self.progress = progress
        self.stopped = stopped
        self.guard = threading.Lock()
        self.failures: List[Exception] = []
        self.crews: List[Crew] = []

    def add(self, items: Iterator[Any], work: Callable[[Iterator[Any]], None], *, first: int, most: int) -> None:
        """Let `first` threads, and up to `most`, call `work` on items that they share."""

        def run() -> None:
            try:
                work(self._shared(items))
            except Exception as error:
                self.failures.append(error)
                self.stopped.set()

        self.crews.append(Crew(run, first, most))

    def _shared(self, items: Iterator[Any]) -> Iterator[Any]:
        while not self.stopped.is_set():
            with self.guard:
                item = next(items, None)
            if item is None:
                return
            yield item

    def work_through(self) -> None:
        """Return when all is done, writing the progress meanwhile. Raises the first failure."""
        work_to_the_end(self.crews, self.progress.write)
        if self.failures:
            raise self.failures[0]
        if self.stopped.is_set():
            raise Failure("stopped", "the export was stopped")


class Spool:
    """Lines of JSON in a file without a name."""

    def __init__(self, record: str) -> None:
        self.file = tempfile.TemporaryFile(dir=record)  # noqa: SIM115
        self.size = 0

    def documents(self) -> Iterator[Any]:
        """Yield what was written, from the beginning."""
        self.file.seek(0)
        return (json.loads(line.decode("ascii")) for line in self.file)

    def fill(self, lines: Iterator[bytes]) -> None:
        """Write lines as they are."""
        self.file.writelines(lines)
        self.file.flush()  # before the process is forked, which would write the rest twice
        self.size = self.file.tell()

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()
