"""What Airflow's database knows of one run, in a file; and what people do to a run there.

Tasks change it from their own processes, so each change is made under a lock.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.lifecycle.rules import DONE, Step

Document = dict[str, Any]
#: States of a task that a process works for, or a trigger.
ACTIVE = frozenset({"running", "deferred"})


@dataclass(frozen=True)
class Record:
    """The file of one run."""

    path: Path

    def make(self, dag_id: str, run_id: str, start_date: str, conf: Mapping[str, Any]) -> None:
        """Write it for a run that begins."""
        run = {"dag_id": dag_id, "run_id": run_id, "start_date": start_date, "conf": dict(conf), "state": "running"}
        self._write({**run, "tasks": {}, "xcoms": {}})

    def read(self) -> Document:
        """Return all of it."""
        document: Document = json.loads(self.path.read_text())
        return document

    @contextmanager
    def changing(self) -> Iterator[Document]:
        """Return all of it, and keep what is changed."""
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            document = self.read()
            yield document
            self._write(document)

    def _write(self, document: Document) -> None:
        fresh = self.path.with_suffix(".fresh")
        fresh.write_text(json.dumps(document))
        fresh.rename(self.path)

    def states(self) -> dict[str, str | None]:
        """Return the state of each task that has one."""
        return {key: task["state"] for key, task in self.read()["tasks"].items()}

    def set_state(self, key: str, state: str | None) -> None:
        """Set a task's state, as the scheduler does."""
        with self.changing() as document:
            task_of(document, key)["state"] = state

    # ------------------------------------------------------------------------------------------ what people do
    def mark_failed(self, steps: Mapping[str, Step]) -> None:
        """Mark the run as failed: what is active fails, what waits is skipped, and teardowns are left alone."""
        with self.changing() as document:
            for name, step in steps.items():
                task = task_of(document, name)
                if not step.is_teardown and task["state"] not in DONE:
                    task["state"] = "failed" if task["state"] in ACTIVE else "skipped"

    def clear(self, names: Iterable[str], retries: Mapping[str, int]) -> None:
        """Clear tasks: they run again, and have all their tries again."""
        with self.changing() as document:
            for name in names:
                task = task_of(document, name)
                task.update(state=None, next_method=None, next_kwargs=None)
                task["max_tries"] = task["try_number"] + retries[name]

    def delete(self) -> None:
        """Delete the run: Airflow knows nothing of it any more."""
        with self.changing() as document:
            document.update(state="deleted", tasks={}, xcoms={})


def task_of(document: Document, key: str) -> Document:
    """Return what is known of a task; it is made when it is first asked for."""
    new = {"state": None, "try_number": 0, "max_tries": None, "next_method": None, "next_kwargs": None}
    task: Document = document["tasks"].setdefault(key, new)
    return task


def key_of(task_id: str, map_index: int | None) -> str:
    """Return the name of a task instance as Airflow gives it to those who ask for states."""
    return task_id if map_index is None or map_index < 0 else f"{task_id}_{map_index}"
