"""A pytest plugin: a test that uses a server's fixture bears the server's marker, so that nobody can forget it."""

from __future__ import annotations

import pytest

SERVERS = ("region", "airflow")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests before any are chosen by their markers."""
    for item in items:
        for server in SERVERS:
            if server in getattr(item, "fixturenames", ()):
                item.add_marker(server)
