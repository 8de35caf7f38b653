"""A person's keyboard at an agent's terminal, over a WebSocket of its own: what is sent is typed as it is, in its order.

* After the upgrade the client is told that it may type, or why not. Each accepted frame is acknowledged behind the write, in order.
* A text frame that is a JSON object of type `pty_input` gives its `data`; any other text is the keys themselves.
* What is not text, or has no data, is refused and the socket stays. What the terminal refuses ends it; so does the end of the agent.

Source: spec/local-api.md section 1.5.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from relaybroker.adapters.http.api.rendering import STATUS
from relaybroker.adapters.http.api.routing import route
from relaybroker.domain.errors import InvalidRequest, Refusal

MAX_STREAMS = 64
MAX_FRAME_BYTES = 1024 * 1024
PING_S = 30.0
_CLOSE_S = 1.0
_CLOSED = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)

Write = Callable[[str, bytes], Awaitable[int]]
"""Writes keys to the terminal of a session; how many bytes. Raises InvalidRequest."""


class InputStreams:
    """The open keyboards, and the handler of their route.

    Args:
        session_of: the session of the agent of a name; raises InvalidRequest 404.
        write: writes to a terminal.
    """

    def __init__(self, session_of: Callable[[str], str], write: Write) -> None:
        self._session_of, self._write = session_of, write
        self._open: set[web.WebSocketResponse] = set()
        self._reading: dict[asyncio.Task[None], str] = {}
        """What reads a keyboard -> the agent's name."""

    @route(
        "GET /api/input/{name}/stream",
        "WebSocket of a person's keys for the agent's terminal.",
        errors=(400, 429),
        settled=False,
    )
    async def serve(self, request: web.Request) -> web.StreamResponse:
        """GET /api/input/{name}/stream."""
        if request.headers.get("Upgrade", "").lower() != "websocket":
            text = "this is a WebSocket endpoint: the request must be an upgrade"
            raise InvalidRequest(Refusal.INVALID, "invalid_request", text)
        if len(self._open) >= MAX_STREAMS:
            raise InvalidRequest(Refusal.FULL, "queue_full", f"{MAX_STREAMS} input streams are open already")
        name = request.match_info["name"]
        socket = web.WebSocketResponse(
            heartbeat=PING_S, compress=False, timeout=_CLOSE_S, max_msg_size=MAX_FRAME_BYTES + 1024
        )
        await socket.prepare(request)
        self._open.add(socket)
        try:
            await self._attend(socket, name)
        except InvalidRequest as error:
            await _refuse(socket, error)
        except ConnectionError:
            pass  # whoever typed has left
        finally:
            self._open.discard(socket)
            await socket.close()
        return socket

    async def _attend(self, socket: web.WebSocketResponse, name: str) -> None:
        """Type until the client leaves. Raises InvalidRequest if there is nobody, or no more."""
        session_id = self._session_of(name)
        await _say(socket, type="pty_input_ready", name=name)
        reading = asyncio.create_task(self._type(socket, name, session_id))
        self._reading[reading] = name
        try:
            await reading
        except asyncio.CancelledError:
            if not reading.cancelled():
                reading.cancel()
                raise
            gone = "the agent's program has ended"
            raise InvalidRequest(Refusal.UNAVAILABLE, "worker_disappeared", gone) from None
        finally:
            del self._reading[reading]

    async def _type(self, socket: web.WebSocketResponse, name: str, session_id: str) -> None:
        """Read and write until the client leaves; InvalidRequest if the terminal refuses."""
        async for message in socket:
            if message.type in _CLOSED:
                return
            try:
                keys = _keys_of(message.data)
                written = await self._write(session_id, keys)
            except ValueError as error:
                await _say(socket, type="pty_input_error", **_error(str(error)))
                continue
            except InvalidRequest as error:
                if error.kind is not Refusal.FULL:
                    raise
                await _refuse(socket, error)  # F125: these keys are lost, the next ones may be taken
                continue
            await _say(socket, type="pty_input_ack", name=name, bytes_written=written)

    def ended(self, name: str) -> None:
        """The program of this agent is gone: whoever types into it hears so."""
        for task in [known for known, agent in self._reading.items() if agent.lower() == name.lower()]:
            task.cancel()

    async def close_all(self) -> None:
        """The broker stops."""
        open_now = list(self._open)
        await asyncio.gather(
            *(socket.close(code=1001, message=b"broker stopping") for socket in open_now), return_exceptions=True
        )


def _keys_of(data: str | bytes) -> bytes:
    """What a frame types. Raises ValueError for one that types nothing."""
    try:
        text = data.decode() if isinstance(data, bytes) else data
    except UnicodeDecodeError:
        raise ValueError("a binary frame must be UTF-8") from None
    trimmed = text.strip()
    if trimmed.startswith("{") and trimmed.endswith("}"):
        try:
            said = msgspec.json.decode(trimmed)
        except msgspec.DecodeError:
            return text.encode()
        if isinstance(said, dict) and said.get("type") == "pty_input":
            if not isinstance(said.get("data"), str):
                raise ValueError("pty_input needs data, a string")
            return str(said["data"]).encode()
    return text.encode()


def _error(message: str) -> dict[str, Any]:
    return {"code": "invalid_input", "message": message, "retryable": False, "statusCode": 400}


async def _refuse(socket: web.WebSocketResponse, error: InvalidRequest) -> None:
    said = {"message": error.message, "retryable": error.is_retryable, "statusCode": STATUS[error.kind]}
    with contextlib.suppress(ConnectionError):
        await _say(socket, type="pty_input_error", code=error.code, **said)


async def _say(socket: web.WebSocketResponse, **said: Any) -> None:
    await socket.send_str(msgspec.json.encode(said).decode())
