"""What Airflow calls just before or after a task's own work: its `pre_execute` and `post_execute`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ExecuteHook:
    """A function as such a hook.

    Airflow's DAG processor looks up the source of a hook and stores it with the DAG, each time and of each task. Of
    this one it finds three lines.
    """

    function: Callable[..., None]

    def __call__(self, *arguments: Any) -> None:
        """Call the function."""
        self.function(*arguments)
