"""The only file here that Airflow's plugin loader executes: it mounts the pages of `hpc.ui` below /hpc, and says since
when deadlines count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

from hpc.deadline_reference import DagRunCreatedDeadline

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


async def pages(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request. Every Airflow process loads this file, but only the API server needs what the pages import."""
    from hpc.ui.app import app

    await app(scope, receive, send)


class HpcPlugin(AirflowPlugin):
    """Our pages inside Airflow's own UI, and the reference of our deadlines."""

    name = "hpc"
    fastapi_apps: list[dict[str, Any]] = [{"name": "hpc", "app": pages, "url_prefix": "/hpc"}]  # noqa: RUF012 - the base class has no ClassVar
    deadline_references: list[Any] = [DagRunCreatedDeadline]  # noqa: RUF012
