"""What was wrong with the simulation files when their DAGs were last made.

Two DAG files want to know: simulations.py, which makes the DAGs, and check_simulations.py, which says what is wrong.
The one leaves word for the other, so that a thousand DAGs are not made twice. Without word the other makes them itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hpc import PROJECT_ROOT
from hpc.config import SIMULATIONS_DIR, SimulationFileError

#: What a DAG is made of, beside its simulation file.
_MADE_OF = ("config", "dags", "include", "plugins")
_IGNORED = {"__pycache__", ".git"}


def find_problems(directory: Path = SIMULATIONS_DIR) -> list[str]:
    """Return what is wrong with the simulation files of a folder, an entry for each wrong one."""
    known = recall(directory)
    if known is None:
        from hpc.lifecycle import build_dags

        files = fingerprint(directory)
        known = [str(found) for found in build_dags(directory) if isinstance(found, SimulationFileError)]
        remember(files, known, directory)
    return known


def remember(files: str, problems: list[str], directory: Path = SIMULATIONS_DIR) -> None:
    """Leave word of what is wrong with the files of a folder, whose fingerprint it was before they were read.

    A disk that is full, or may not be written, is fine: everybody looks for himself then.
    """
    with suppress(OSError, RuntimeError):
        place = _place(directory)
        fresh = place.with_suffix(f".{os.getpid()}")
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps({"of": files, "problems": problems}))
        fresh.rename(place)


def recall(directory: Path = SIMULATIONS_DIR) -> list[str] | None:
    """Return what was wrong with the files of a folder; None if they, or what makes their DAGs, are others now."""
    try:
        word = json.loads(_place(directory).read_text())
        return list(map(str, word["problems"])) if word["of"] == fingerprint(directory) else None
    except (OSError, ValueError, LookupError, TypeError, RuntimeError):
        return None


def fingerprint(directory: Path = SIMULATIONS_DIR) -> str:
    """Return what is another text once a file of a folder, or of what its DAGs are made of, changes, comes or goes."""
    folders = [PROJECT_ROOT / name for name in _MADE_OF]
    if not any(directory.is_relative_to(folder) for folder in folders):
        folders.append(directory)
    return _digest([sys.version, *(line for folder in folders for line in sorted(_lines(folder)))])


def _place(directory: Path) -> Path:
    """Return where the word is left. Raises RuntimeError if there is no home."""
    home = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()
    return home / "hpc" / f"problems-{_digest([str(directory.resolve())])[:16]}.json"


def _lines(folder: Path | str) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        yield f"{folder} {error}"
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _IGNORED:
                    yield from _lines(entry.path)
                continue
            found = entry.stat()  # of what a link leads to, whose folders are not looked into: it may lead anywhere
            yield f"{entry.path} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
        except OSError as error:
            yield f"{entry.path} {error}"


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
