"""A small local API for tests of the start-up: spawn, release, state. The real one is `adapters/http/api`."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import msgspec
from aiohttp import web

from relaybroker.domain import inputs
from tests.rendered import answer_of
from tests.waiting import WAIT_S


class PlainSurface:
    """Serves three routes, and what a test wants to know of the core."""

    def __init__(self, *, api_key: str, settings: Any, request_shutdown: Any) -> None:
        self._key = api_key
        self._request_shutdown = request_shutdown
        self._core: Any = None
        self._replies: dict[str, asyncio.Future[Any]] = {}
        self._used = time.monotonic()
        self._runner: web.AppRunner | None = None
        self.outputs = 0

    async def bind(self, host: str, port: int) -> int:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        assert site._server is not None
        return int(site._server.sockets[0].getsockname()[1])

    def open(self, core: Any) -> None:
        self._core = core
        core.watch_output(on=True)

    def reply(self, reply: Any) -> None:
        waiting = self._replies.pop(reply.request_id, None)
        if waiting is not None:
            waiting.set_result(reply)

    def announce(self, wanted: Any) -> None:
        pass

    def output(self, output: Any) -> None:
        self.outputs += 1

    def idle_s(self) -> float:
        return time.monotonic() - self._used

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self._core is None:
            return web.Response(status=503, text="Broker is starting, please retry")
        if request.headers.get("X-API-Key") != self._key:
            return web.json_response({}, status=401)
        body = await request.json() if request.can_read_body else {}
        request_id = f"req_{uuid.uuid4().hex}"
        match request.path:
            case "/api/spawn":
                return await self._ask(
                    inputs.SpawnRequested(request_id=request_id, spec=msgspec.convert(body, inputs.SpawnSpec))
                )
            case "/api/release":
                return await self._ask(inputs.ReleaseRequested(request_id=request_id, name=body["name"]))
            case "/state":
                state = self._core.state
                return web.json_response(
                    {
                        "link": state.link.state,
                        "reason": str(state.link.reason),
                        "position": state.position,
                        "host": state.host.host_id,
                        "host_pid": state.host.pid,
                        "node_id": state.settings.node_id,
                        "node_name": state.settings.node_name,
                        "agents": {r.name: r.state for r in state.registrations.values()},
                        "workers": {w.name: [w.state, w.pid] for w in state.workers.values()},
                        "acked": state.counters.acked,
                        "typed": state.counters.typed,
                        "outputs": self.outputs,
                    }
                )
            case "/api/shutdown":
                self._request_shutdown("api")
                return web.json_response({})
        return web.json_response({}, status=404)

    async def _ask(self, item: Any) -> web.StreamResponse:
        waiting = self._replies[item.request_id] = asyncio.get_running_loop().create_future()
        if not self._core.offer(item):
            return web.json_response({}, status=429)
        reply = await asyncio.wait_for(waiting, WAIT_S)
        answer = answer_of(reply)
        return web.json_response(answer.body, status=answer.status)
