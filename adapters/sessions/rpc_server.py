"""A program's server that speaks JSON-RPC over a WebSocket over a Unix socket, and we as one of its clients."""

from __future__ import annotations

import asyncio
import importlib
import json
from typing import TYPE_CHECKING, Any

from relaybroker.adapters.sessions.rows import Row, inner, read_row
from relaybroker.adapters.unix_address import address_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import aiohttp

ANSWER_S = 10.0
"""The server answers a request within this time (10 ms are usual), or nobody knows what became of it."""
MAX_FRAME = 64 * 1024 * 1024
"""Bytes of a frame of the server."""


class RefusedError(Exception):
    """The server answered with an error."""

    def __init__(self, error: Any) -> None:
        super().__init__(str(inner(error, "message"))[:300])
        self.code = inner(error, "code")


class RpcServer:
    """JSON-RPC over a WebSocket over the server's Unix socket."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        socket: aiohttp.ClientWebSocketResponse,
        on_notification: Callable[[str, Row], None],
        on_request: Callable[[object, str, Row], None],
    ) -> None:
        self._session = session
        self._socket = socket
        self._on_notification = on_notification
        self._on_request = on_request
        self._asked: dict[int, asyncio.Future[Row]] = {}
        self._numbers = iter(range(1, 2**53))
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def join(
        cls, socket: Path, on_notification: Callable[[str, Row], None], on_request: Callable[[object, str, Row], None]
    ) -> RpcServer:
        """Both get method and values; a request its id as well, for `respond`. Raises OSError (also aiohttp's)."""
        # 0.4 s and 16 MiB, for which the host has no other use
        web = await asyncio.to_thread(importlib.import_module, "aiohttp")
        session = web.ClientSession(connector=web.UnixConnector(address_of(socket)))
        try:
            connection = await session.ws_connect("ws://localhost/", max_msg_size=MAX_FRAME)
            return cls(session, connection, on_notification, on_request)
        except web.ClientError as error:
            await session.close()
            raise OSError(str(error)) from error
        except BaseException:
            await session.close()
            raise

    @property
    def is_closed(self) -> bool:
        return self._socket.closed or self._reader.done()

    async def ended(self) -> None:
        """Wait until the connection has ended."""
        await asyncio.wait([self._reader])

    async def call(self, method: str, **values: Any) -> Row:
        """The result of a request.

        Raises:
            RefusedError: the server answered with an error.
            OSError, TimeoutError: it did not answer.
        """
        number = next(self._numbers)
        self._asked[number] = asyncio.get_running_loop().create_future()
        answer = self._asked[number]
        try:
            await self._socket.send_str(json.dumps({"id": number, "method": method, "params": values}))
            async with asyncio.timeout(ANSWER_S):
                return await answer
        finally:
            self._asked.pop(number, None)

    async def notify(self, method: str) -> None:
        """Send what is not answered. Raises OSError."""
        await self._socket.send_str(json.dumps({"method": method}))

    async def respond(self, identifier: object, result: Row) -> None:
        """Answer a request of the server. Raises OSError."""
        await self._socket.send_str(json.dumps({"id": identifier, "result": result}))

    async def leave(self) -> None:
        await self._session.close()
        self._reader.cancel()
        await asyncio.wait([self._reader])

    async def _read(self) -> None:
        """Until the connection ends."""
        try:
            async for frame in self._socket:
                row = read_row(frame.data)
                if row is None:
                    continue
                if "method" not in row:
                    self._answered(row)
                elif isinstance(values := row.get("params"), dict):
                    if "id" in row:
                        self._on_request(row["id"], row["method"], values)
                    else:
                        self._on_notification(row["method"], values)
        finally:
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the server has ended"))

    def _answered(self, row: Row) -> None:
        answer = self._asked.get(row.get("id", 0))
        if answer is None or answer.done():
            return
        if isinstance(result := row.get("result"), dict):
            answer.set_result(result)
        else:
            answer.set_exception(RefusedError(row.get("error")))
