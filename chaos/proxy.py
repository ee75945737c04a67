"""The network between Airflow and one head node, for one run: it counts bytes, and does something at the n-th."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass


@dataclass
class Fuse:
    """Burns with the bytes of one direction; once `left` of them have passed, `strike` is called, once."""

    up: bool
    left: int
    strike: Callable[[], None]
    is_burnt: bool = False

    def burn(self, data: bytes) -> int | None:
        """Return how many of the bytes still pass before it strikes; None if all do."""
        if self.is_burnt or len(data) <= self.left:
            self.left -= 0 if self.is_burnt else len(data)
            return None
        self.is_burnt = True
        return self.left


class Proxy:
    """A TCP port of 127.0.0.1 that leads to `host` and `port`; a context."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._connections: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        self._silent: set[asyncio.StreamWriter] = set()
        self._closed = asyncio.Event()
        self.fuse: Fuse | None = None
        #: Bytes since the fuse was set or taken away, on the way there and back.
        self.carried = {True: 0, False: 0}

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed.set()
        self._server.close()
        self.cut()

    @property
    def ports(self) -> list[int]:
        """The ports from which the open connections reach the head node: there they name the sessions."""
        return [upstream.get_extra_info("sockname")[1] for upstream in self._connections.values()]

    def cut(self) -> None:
        """End every connection at once, on both sides."""
        for client, upstream in self._connections.items():
            client.transport.abort()
            upstream.transport.abort()

    def fall_silent(self) -> None:
        """Carry nothing more on the connections that are open; they stay open."""
        self._silent.update(self._connections)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            answers, upstream = await asyncio.open_connection(*self._target)
        except OSError:
            client.transport.abort()
            return
        self._connections[client] = upstream
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._carry(reader, upstream, client, up=True))
                ways.create_task(self._carry(answers, client, client, up=False))
        finally:
            self._connections.pop(client, None)
            client.transport.abort()
            upstream.transport.abort()

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, client: asyncio.StreamWriter, *, up: bool
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                self.carried[up] += len(data)
                passing = self.fuse.burn(data) if self.fuse is not None and self.fuse.up is up else None
                if client in self._silent:
                    await self._closed.wait()
                    return
                sink.write(data[:passing])
                await sink.drain()
                if passing is not None and self.fuse is not None:
                    self.fuse.strike()
                    if client in self._silent:
                        continue
                    sink.write(data[passing:])
                    await sink.drain()
            sink.write_eof()
