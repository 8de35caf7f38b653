"""An engine client against an HTTP server that answers as a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from relaybroker.adapters.http.engine_client import EngineClient
from relaybroker.adapters.token_cache import TokenCache
from relaybroker.adapters.vault import Vault
from relaybroker.domain.inputs import EngineAnswered, EngineUnanswered, Input
from tests.waiting import WAIT_S

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Engine:
    """Answers every request with `answer`."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        if self.answer is None:
            return web.json_response({"ok": True, "data": {}})
        return await self.answer(request)

    def says(self, body: object, status: int = 200) -> None:
        async def answer(_request: web.Request) -> web.StreamResponse:
            return web.json_response(body, status=status)

        self.answer = answer


class Bench:
    """A client with everything that it delivered."""

    def __init__(self, client: EngineClient, vault: Vault) -> None:
        self.client = client
        self.vault = vault
        self.answers: dict[str, EngineAnswered | EngineUnanswered] = {}
        self._arrived = asyncio.Condition()

    async def deliver(self, item: Input) -> None:
        assert isinstance(item, EngineAnswered | EngineUnanswered)
        async with self._arrived:
            assert item.call_id not in self.answers, "a second answer"
            self.answers[item.call_id] = item
            self._arrived.notify_all()

    async def wait(self, *call_ids: str) -> list[EngineAnswered | EngineUnanswered]:
        async with asyncio.timeout(WAIT_S), self._arrived:
            await self._arrived.wait_for(lambda: all(call_id in self.answers for call_id in call_ids))
        return [self.answers[call_id] for call_id in call_ids]


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    played = Engine()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", played.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    played.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    yield played
    await runner.cleanup()


@pytest.fixture
async def make_bench(tmp_path: Path) -> AsyncIterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(url: str, *, pinned: str = "") -> Bench:
        def cache(kind: str) -> TokenCache:
            return TokenCache(tmp_path / kind, node_id="node_1", workspace_id="ws_1", base_url="http://e")

        vault = Vault(
            workspace_key="rk_live_key",
            agents_directory=tmp_path / "run",
            node_cache=cache("node"),
            own_cache=cache("own"),
            pinned_node_token=pinned,
        )

        async def deliver(item: Input) -> None:
            await bench.deliver(item)

        bench = Bench(EngineClient(url, vault=vault, deliver=deliver, version="1.0"), vault)
        benches.append(bench)
        return bench

    yield make
    for bench in benches:
        await bench.client.shut()
