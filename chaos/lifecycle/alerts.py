"""A web hook of Slack's kind: it keeps what the runs' notifiers tell people."""

from __future__ import annotations

import html
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiohttp import web


class Alerts:
    """What was told."""

    def __init__(self) -> None:
        self._told: list[str] = []
        self._port = 0

    def connection(self) -> str:
        """Return an Airflow connection by which a run tells."""
        host = f"http://127.0.0.1:{self._port}"
        path = "T0/B0/chaos"
        return json.dumps({"conn_type": "slackwebhook", "host": host, "password": path})

    def about(self, names: Iterable[str]) -> list[str]:
        """Return what was told about a run or its clusters, oldest first."""
        names = list(names)
        return [text for text in self._told if any(name in text for name in names)]

    async def _take(self, request: web.BaseRequest) -> web.Response:
        document = await request.json()
        self._told.append(html.unescape(document["text"]))
        return web.Response(text="ok")


@asynccontextmanager
async def open_alerts() -> AsyncIterator[Alerts]:
    """Listen until the end of the block."""
    alerts = Alerts()
    runner = web.ServerRunner(web.Server(alerts._take, access_log=None), shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    alerts._port = runner.addresses[0][1]
    try:
        yield alerts
    finally:
        await runner.cleanup()
