"""The connections of one HTTP server: bounded, and nobody keeps one for nothing.

Whoever can reach a port can open connections and say nothing, or half a request. Rules:

* A connection on which no whole request head has arrived for `HEAD_S`, or that has been idle for `IDLE_S` between requests, is closed.
* There are at most `LIMIT` connections. When one more comes, another one goes: of the peer that has the most, the oldest on which nobody
  waits for an answer; then the oldest of those whose requests nobody has vouched for. A connection that somebody has vouched for (a valid
  key or token came over it) is never closed for another one; if all are such, the new one is refused.

So whoever sends whole requests with a key is served while strangers fill the port.

Source: spec/local-api.md section 11.11.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

LIMIT = 400
"""Connections of one server; well below the 1024 descriptors that a process has at least."""
HEAD_S = 15.0
"""How long the head of a request may take to arrive."""
IDLE_S = 60.0
"""How long a connection may be idle between two requests."""
_LOOKS = 3
"""How often within `HEAD_S` the connections are looked through."""


class Connections:
    """The connections of one server.

    Args:
        limit: how many.
        head_s: see `HEAD_S`.
        idle_s: see `IDLE_S`.
    """

    def __init__(self, *, limit: int = LIMIT, head_s: float = HEAD_S, idle_s: float = IDLE_S) -> None:
        self._limit, self._head_s, self._idle_s = limit, head_s, idle_s
        self._open: dict[asyncio.BaseTransport, _Connection] = {}
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    async def listen(self, runner: web.AppRunner, host: str, port: int) -> int:
        """Serve the application of a runner that is set up; the port. Raises OSError."""
        serve = runner.server
        assert serve is not None, "the runner is set up"
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(serve(), self), host, port, backlog=self._limit)
        self._servers.append(server)
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        return int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Take no more connections. Those that are open belong to the runner, which ends them."""
        for server in self._servers:
            server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper

    @property
    def middleware(self) -> Any:
        """The outermost middleware: it knows when somebody waits for an answer."""

        @web.middleware
        async def ask(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            connection = None if request.transport is None else self._open.get(request.transport)
            if connection is None:
                return await handler(request)
            connection.waits = True
            try:
                return await handler(request)
            finally:
                connection.rests()

        return ask

    def vouch(self, request: web.Request) -> None:
        """A valid key or token came over this connection."""
        if request.transport is not None and (connection := self._open.get(request.transport)) is not None:
            connection.vouched = True

    def admit(self, transport: asyncio.BaseTransport, connection: _Connection) -> bool:
        """Whether there is room for one more; another one may have to go."""
        if len(self._open) >= self._limit and not self._make_room():
            return False
        self._open[transport] = connection
        return True

    def forget(self, transport: asyncio.BaseTransport | None) -> None:
        """It has ended."""
        if transport is not None:
            self._open.pop(transport, None)

    def _make_room(self) -> bool:
        strangers = [connection for connection in self._open.values() if not connection.vouched]
        resting = [connection for connection in strangers if not connection.waits]
        if not (going := resting or strangers):
            return False
        most, _ = Counter(connection.peer for connection in going).most_common(1)[0]
        next(connection for connection in going if connection.peer == most).abort()
        return True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._head_s / _LOOKS)
            now = asyncio.get_running_loop().time()
            for connection in list(self._open.values()):
                patience = self._idle_s if connection.has_asked else self._head_s
                if not connection.waits and now - connection.since > patience:
                    connection.abort()


class _Connection(asyncio.Protocol):
    """One connection: everything goes on to the framework's own protocol, as soon as the connection is admitted."""

    def __init__(self, inner: asyncio.Protocol, all_of_them: Connections) -> None:
        self._inner = inner
        self._all = all_of_them
        self._transport: asyncio.Transport | None = None
        self.peer = ""
        self.since = asyncio.get_running_loop().time()
        self.waits = False
        self.has_asked = False
        self.vouched = False

    def rests(self) -> None:
        """The answer has been given."""
        self.waits, self.has_asked = False, True
        self.since = asyncio.get_running_loop().time()

    def abort(self) -> None:
        """End it at once; its place is free."""
        if self._transport is not None:
            self._all.forget(self._transport)
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Go on, if there is room."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "abort")
        self._transport = transport  # type: ignore[assignment] # a stream's, whatever the loop calls it
        self.peer = str((transport.get_extra_info("peername") or ("",))[0])
        if self._all.admit(transport, self):
            self._inner.connection_made(transport)
        else:
            self.abort()
            self._inner = asyncio.Protocol()

    def data_received(self, data: bytes) -> None:
        """Go on."""
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Go on."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Go on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Go on."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Its place is free."""
        self._all.forget(self._transport)
        self._inner.connection_lost(exc)
