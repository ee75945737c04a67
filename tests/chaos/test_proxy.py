from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from chaos.proxy import Fuse, Proxy


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A proxy before a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


async def test_all_passes_and_is_counted(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"0123456789")
    writer.write_eof()
    assert await reader.read() == b"0123456789"
    assert proxy.carried == {True: 10, False: 10}
    writer.close()


async def test_a_cut_is_after_its_byte(proxy: Proxy) -> None:
    proxy.fuse = Fuse(False, 3, proxy.cut)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"0123456789")
    assert await reader.read() == b"012"
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"once only")
    assert await reader.read(9) == b"once only"
    writer.close()


async def test_a_silent_network_keeps_its_connections_and_lets_new_ones_pass(proxy: Proxy) -> None:
    proxy.fuse = Fuse(True, 3, proxy.fall_silent)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"0123456789")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(), 0.2)
    other, to_other = await asyncio.open_connection("127.0.0.1", proxy.port)
    to_other.write(b"hello")
    assert await other.read(5) == b"hello"
    writer.close()
    to_other.close()
