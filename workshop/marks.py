"""A pytest plugin: a test that uses a server's fixture bears the server's marker, so that nobody can forget it."""

from __future__ import annotations

import pytest

#: Which marker a fixture brings; those of the other servers are built on these.
MARKERS = {"region": "region", "endpoint": "region", "sshd": "slurm", "airflow": "airflow", "api_server": "airflow"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests before any are chosen by their markers."""
    for item in items:
        for fixture, marker in MARKERS.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
