"""A node link against an engine that does what a test tells it to, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from relaybroker.adapters.token_cache import TokenCache
from relaybroker.adapters.vault import Vault
from relaybroker.adapters.websocket.link import LinkTimes, NodeLink
from relaybroker.domain.inputs import Input
from tests.waiting import WAIT_S

Serve = Callable[[web.WebSocketResponse], Awaitable[None]]


class Engine:
    """One node socket endpoint. `serve` plays the open socket; `refuse` is a status to answer the upgrade with."""

    def __init__(self) -> None:
        self.serve: Serve | None = None
        self.refuse = 0
        self.sends_to = ""
        self.authorizations: list[str] = []
        self.received: list[str] = []
        self.received_bytes = 0
        self.closed: asyncio.Queue[tuple[int | None, str]] = asyncio.Queue()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.authorizations.append(request.headers.get("Authorization", ""))
        if self.sends_to:
            raise web.HTTPTemporaryRedirect(self.sends_to)
        if self.refuse:
            return web.Response(status=self.refuse)
        socket = web.WebSocketResponse(max_msg_size=64 * 1024 * 1024, autoping=True)
        await socket.prepare(request)
        if self.serve is not None:
            await self.serve(socket)
        else:
            await self.collect(socket)
        return socket

    async def collect(self, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            self.received.append(message.data)
            self.received_bytes += len(message.data)
        await self.closed.put((socket.close_code, ""))


class Bench:
    """A link with everything that it delivered."""

    def __init__(self, link: NodeLink, vault: Vault) -> None:
        self.link = link
        self.vault = vault
        self.inputs: list[Input] = []
        self.room = asyncio.Event()
        self.room.set()
        self._arrived = asyncio.Condition()

    async def deliver(self, item: Input) -> None:
        await self.room.wait()
        async with self._arrived:
            self.inputs.append(item)
            self._arrived.notify_all()

    async def wait(self, kind: type[Any], count: int = 1) -> list[Any]:
        """The inputs of one kind, as soon as there are this many."""
        async with asyncio.timeout(WAIT_S), self._arrived:
            await self._arrived.wait_for(lambda: sum(isinstance(item, kind) for item in self.inputs) >= count)
        return [item for item in self.inputs if isinstance(item, kind)]


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    played = Engine()
    app = web.Application()
    app.router.add_get("/v1/node/ws", played.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    played.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    yield played
    await runner.cleanup()


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    def cache(kind: str) -> TokenCache:
        return TokenCache(tmp_path / kind, node_id="node_1", workspace_id="ws_1", base_url="http://e")

    return Vault(
        workspace_key="rk_live_w",
        agents_directory=tmp_path / "run",
        node_cache=cache("node"),
        own_cache=cache("own"),
        pinned_node_token="nt_live_secret",
    )


@pytest.fixture
async def make_bench(vault: Vault) -> AsyncIterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(url: str, **times: float) -> Bench:
        async def deliver(item: Input) -> None:
            await bench.deliver(item)

        link = NodeLink(url, vault=vault, deliver=deliver, times=LinkTimes(**times))
        bench = Bench(link, vault)
        benches.append(bench)
        return bench

    yield make
    for bench in benches:
        bench.room.set()
        await bench.link.shut()
