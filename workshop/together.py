"""A pytest plugin: how tests share the processes of `-n`. A file is not divided, nor is what uses one running Airflow.

The rooms whose tests take minutes begin first, so that no process is left alone with one of them at the end.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

#: Rooms of tests that share what is started once.
UNDIVIDED = ("tests/e2e",)
#: What takes longest begins first.
FIRST = ("tests/e2e", "tests/chaos", "tests/benchmarks", "tests/workshop", "tests/cluster")


def share_of(nodeid: str) -> str:
    """Return what a test stays together with: its file, or its room."""
    file = PurePosixPath(nodeid.partition("::")[0])
    return next((room for room in UNDIVIDED if file.is_relative_to(room)), str(file))


def rank_of(nodeid: str) -> int:
    """Return the place of a test's room among those that begin first."""
    file = PurePosixPath(nodeid.partition("::")[0])
    return next((place for place, room in enumerate(FIRST) if file.is_relative_to(room)), len(FIRST))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the slow rooms first, where several processes share the tests."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: rank_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Return the scheduler that gives whole shares to the processes."""
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False  # by the number of tests, which says nothing about their time

    class Shares(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
        def _split_scope(self, nodeid: str) -> str:
            return share_of(nodeid)

    return Shares(config, log)
