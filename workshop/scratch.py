"""Where the tests put what they make: a folder for each run of them below `.local/tests`.

A run holds a lock in its folder while it lives, and the kernel forgets the lock of a killed one. So two runs in one
checkout leave each other alone, and the next run ends the servers of a dead one and removes its files. What a finished
run wrote can be looked at until then.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

from workshop import LOCAL, processes, region

DIRECTORY = LOCAL / "tests"
LOCK = "lock"


def begin(parent: Path = DIRECTORY) -> Path:
    """Clean up after dead runs, and return a new folder that is this process's until it ends."""
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / LOCK).open("w") as beginning:
        fcntl.flock(beginning, fcntl.LOCK_EX)
        for folder in parent.iterdir():
            if folder.is_dir() and not _is_held(folder):
                stop(folder)
                region.remove_tree(folder)
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=""))  # short: a Unix socket's path has 108 characters
        fcntl.flock(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)  # open until the process ends
    return folder


def stop(directory: Path) -> None:
    """End what was started anywhere below a folder: the recorded processes, and then the regions that they asked."""
    found = [(Path(where), files) for where, _, files in os.walk(directory)]
    for where, files in found:
        if any(name.endswith(processes.SUFFIX) for name in files):
            processes.stop_all(where, patience=1)
    for where, files in found:
        if "region.json" in files:
            region.down(where)


def _is_held(folder: Path) -> bool:
    with (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
