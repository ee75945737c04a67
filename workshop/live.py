"""What a person sees of a DAG run: a table that renews itself, or plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from workshop.rest import TaskProgress

LOOKS = {
    "success": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "upstream_failed": ("✗", "red"),
    "skipped": ("-", "magenta"),
    "running": ("▶", "bright_green"),
    "deferred": ("◌", "cyan"),
    "up_for_retry": ("↻", "yellow"),
    "queued": ("·", "white"),
    "scheduled": ("·", "white"),
}
NOT_YET = (" ", "bright_black")


class View(Protocol):
    """Shows the progress of a run; a context manager."""

    def show(self, tasks: Sequence[TaskProgress]) -> None:
        """Show the present state of all tasks."""

    def note(self, text: str) -> None:
        """Show a remark, and leave it there."""

    def __enter__(self) -> View: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def view_for(title: str) -> View:
    """Return the view that standard output can show."""
    return TableView(title) if sys.stdout.isatty() else LineView()


class LineView:
    """One line for each change of a task's state: for logs and pipes."""

    def __init__(self, say: Callable[[str], None] = lambda line: print(line, flush=True)) -> None:
        self._say = say
        self._began = time.monotonic()
        self._states: dict[str, str] = {}

    def show(self, tasks: Sequence[TaskProgress]) -> None:
        """Print what changed since the last call."""
        done = sum(task.finished for task in tasks)
        for task in tasks:
            if task.state != self._states.get(task.task_id, "none") and task.state not in {"scheduled", "queued"}:
                elapsed = time.monotonic() - self._began
                took = f" after {task.seconds:.1f} s" if task.finished and task.seconds is not None else ""
                self._say(f"{elapsed:7.1f} s  {done:2}/{len(tasks)}  {task.task_id:<24}{task.state}{took}")
            self._states[task.task_id] = task.state

    def note(self, text: str) -> None:
        """Print the remark, indented."""
        self._say("\n".join(f"           {line}" for line in text.splitlines()))

    def __enter__(self) -> LineView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave everything as it is: lines stay."""


class TableView:
    """A table of all tasks with a progress bar below, drawn anew in place."""

    def __init__(self, title: str, console: Console | None = None) -> None:
        self._title = title
        self._began = time.monotonic()
        self._live = Live(console=console, auto_refresh=False)

    def show(self, tasks: Sequence[TaskProgress]) -> None:
        """Draw the table."""
        self._live.update(render(self._title, tasks, time.monotonic() - self._began), refresh=True)

    def note(self, text: str) -> None:
        """Print the remark above the table."""
        self._live.console.print(Text(text, "yellow"))

    def __enter__(self) -> TableView:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)


def render(title: str, tasks: Sequence[TaskProgress], elapsed: float) -> Group:
    """Return the picture of a run: one row a task, and how many are done."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for heading, justify in (("", "left"), ("task", "left"), ("state", "left"), ("seconds", "right")):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    for task in tasks:
        sign, style = LOOKS.get(task.state, NOT_YET)
        seconds = "" if task.seconds is None else f"{task.seconds:.1f}"
        state = "" if task.state == "none" else task.state
        attempt = f" (attempt {task.try_number})" if task.try_number > 1 else ""
        table.add_row(Text(sign, style), task.task_id, Text(state + attempt, style), seconds)
    done = sum(task.finished for task in tasks)
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(total=max(len(tasks), 1), completed=done, width=40), f"{done}/{len(tasks)} tasks, {elapsed:.0f} s"
    )
    return Group(table, bar)
