"""local-api.md section 11.11: strangers fill a port with connections, and whoever has the key is served all the same."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
import pytest
from aiohttp import web

from relaybroker.serving.connections import Connections
from tests.waiting import WAIT_S

HALF = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-a: "
KEY = {"X-Key": "yes"}


class Port:
    """A server with few connections; a request that has the key vouches for its connection."""

    def __init__(self, connections):
        self.connections = connections
        self.number = 0
        self.held = []
        self.released = asyncio.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.number}/"

    async def answer(self, request):
        if request.headers.get("X-Key"):
            self.connections.vouch(request)
        if "wait" in request.query:
            await self.released.wait()
        return web.Response(text="answered")

    async def half(self, count, sent=HALF):
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.number)
            writer.write(sent)
            self.held.append((reader, writer))

    async def until(self, holds):
        async with asyncio.timeout(WAIT_S):
            while not holds():
                await asyncio.sleep(0.01)


@pytest.fixture
async def make_port():
    async with contextlib.AsyncExitStack() as stack:

        async def make(**bounds):
            port = Port(Connections(**bounds))
            app = web.Application(middlewares=[port.connections.middleware])
            app.router.add_get("/", port.answer)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            stack.push_async_callback(port.connections.close)
            port.number = await port.connections.listen(runner, "127.0.0.1", 0)
            return port

        yield make


async def asked(url, **more):
    async with aiohttp.ClientSession() as session, session.get(url, **more) as answer:
        return await answer.text()


async def test_half_requests_fill_no_server_and_everybody_with_a_whole_one_is_answered(make_port):
    port = await make_port(limit=10)
    await port.half(60)
    assert await asked(port.url) == "answered"
    await port.half(60)
    assert await asked(port.url, headers=KEY) == "answered"
    assert len(port.connections) <= 10


async def test_half_and_silent_connections_are_cut_off_and_those_that_wait_for_an_answer_are_not(make_port):
    port = await make_port(limit=50, head_s=0.1, idle_s=0.1)
    waiting = asyncio.create_task(asked(port.url + "?wait=1"))
    await port.until(lambda: len(port.connections) == 1)
    await port.half(5)
    await port.half(5, sent=b"")
    for reader, _ in port.held:
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
    assert not waiting.done()
    port.released.set()
    assert await waiting == "answered"
    await port.until(lambda: len(port.connections) == 0)


async def test_a_connection_that_somebody_vouched_for_stays_whoever_comes(make_port):
    port = await make_port(limit=3)
    async with aiohttp.ClientSession() as session:
        waiting = [asyncio.create_task(asked(port.url + "?wait=1", headers=KEY)) for _ in range(2)]
        await port.until(lambda: len(port.connections) == 2)
        async with session.get(port.url, headers=KEY) as answer:
            assert await answer.text() == "answered"
        for _ in range(20):
            await port.half(1)
        refused = port.held[-1][0]
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(ConnectionError):
                assert await refused.read() == b"", "all places are taken by those with a key"
        async with session.get(port.url, headers=KEY) as answer:
            assert await answer.text() == "answered", "over the same connection"
        port.released.set()
        assert [await one for one in waiting] == ["answered", "answered"]


async def test_a_websocket_is_no_idle_connection(make_port):
    """It waits for as long as it is open."""
    port = await make_port(head_s=0.05, idle_s=0.05)
    waiting = asyncio.create_task(asked(port.url + "?wait=1"))
    await port.until(lambda: len(port.connections) == 1)
    await port.half(1)
    async with asyncio.timeout(WAIT_S):
        with contextlib.suppress(ConnectionError):
            await port.held[0][0].read()
    assert len(port.connections) == 1
    port.released.set()
    await waiting
