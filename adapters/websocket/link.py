"""The node link: one WebSocket to the engine, one dial at a time. It moves frames, reports, and decides nothing.

Rules:

* Every dial ends in exactly one `LinkDialFailed`, or in one `LinkOpened` and later one `LinkClosed`, with its number.
* Frames are written in the order of `send` by one writer. What was sent before `close` is written before the close.
* Reading waits for room in the core's queue and drops nothing; writing never waits for the core: no cycle of waits.
* A socket that gives nothing for 48 s, pongs included, is closed. One that does not take what we write is closed at
  4096 frames or 32 MiB.

Source: spec/node-protocol.md sections 1.4, 2.1, 2.7 and 2.8.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import msgspec
from aiohttp import ClientWSTimeout, WSCloseCode, WSMsgType

from relaybroker.adapters.vault import NODE
from relaybroker.adapters.websocket import captured_frames
from relaybroker.adapters.websocket.outbox import Outbox, OutboxFullError
from relaybroker.domain.inputs import FrameArrived, FrameUnreadable, LinkClosed, LinkDialFailed, LinkOpened

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from relaybroker.adapters.vault import Vault
    from relaybroker.domain.inputs import Input

_log = logging.getLogger(__name__)

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""A bigger frame closes the socket with `frame_too_big`; the engine offers again what was not acked."""
SOCKET_PATH = "/v1/node/ws"

NO_CREDENTIAL = "no_credential"
BAD_ADDRESS = "bad_address"
DIAL_TIMEOUT = "dial_timeout"
REPLACED = "replaced"
IDLE = "idle"
NO_ANSWER = "no_answer"
REDIRECTED = "redirected"
EOF = "eof"
FRAME_TOO_BIG = "frame_too_big"
OUTBOUND_OVERFLOW = "outbound_overflow"
VAULT_FAILED = "vault_failed"

_Socket = aiohttp.ClientWebSocketResponse


class _RedirectedError(aiohttp.ClientError):
    """The engine sent us elsewhere. The token is for this place and no other."""

    def __init__(self, status: int) -> None:
        super().__init__(f"redirected with {status}")
        self.status = status


def _no_redirects() -> aiohttp.TraceConfig:
    async def refuse(
        _session: aiohttp.ClientSession, _context: object, asked: aiohttp.TraceRequestRedirectParams
    ) -> None:
        raise _RedirectedError(asked.response.status)

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return trace


class LinkTimes(NamedTuple):
    """How long the link waits, in seconds."""

    dial: float = 10.0
    ping: float = 12.0
    idle: float = 48.0
    flush: float = 2.0
    """For the frames before a close, and for the close itself."""


def socket_url(base_url: str) -> str:
    """The node socket of an engine: `https` becomes `wss`, `http` becomes `ws`."""
    return "ws" + base_url.removeprefix("http").rstrip("/") + SOCKET_PATH


class _Dial:
    """One dial and the socket that came of it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.outbox = Outbox()
        self.opened = False
        self.detail = ""
        """Why we close it; "" while we do not."""
        self.task: asyncio.Task[None] | None = None
        self.started = False
        """Before that it cannot be cancelled without losing its last input."""
        self.ended = False
        """Its last input is on its way: nothing may cancel it any more."""

    def drop(self) -> None:
        """End it now, whatever it waits for. Its last input still comes, from its own task."""
        if self.task is not None and self.started and not self.ended:
            self.task.cancel()


class NodeLink:
    """The socket to the engine.

    Args:
        base_url: the resolved base URL of the engine.
        vault: has the node token; gets the tokens of agents.
        deliver: takes each input; it returns when there is room for it.
        socket: Unix socket by which the engine is reached, whatever the URL says; "" = by the URL.
        times: other limits than those of the contract, for tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        vault: Vault,
        deliver: Callable[[Input], Awaitable[None]],
        socket: str = "",
        times: LinkTimes = LinkTimes(),  # noqa: B008 - an immutable tuple
    ) -> None:
        self._url = socket_url(base_url)
        self._vault = vault
        self._deliver = deliver
        self._socket = socket
        self._times = times
        self._current: _Dial | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    def dial(self, number: int) -> None:
        """Open the socket of dial `number`. A socket that is still open from another dial is closed."""
        if self._current is not None:
            self._abort(self._current, REPLACED)
        dial = self._current = _Dial(number)
        dial.task = asyncio.create_task(self._run(dial), name=f"link dial {number}")
        self._tasks.add(dial.task)
        dial.task.add_done_callback(self._tasks.discard)

    def send(self, number: int, frame: dict[str, Any]) -> None:
        """Write one frame on the socket of dial `number`; dropped if that is not open, which the core is told anyway."""
        dial = self._current
        if dial is None or dial.number != number or not dial.opened or dial.detail:
            return
        try:
            dial.outbox.put(msgspec.json.encode(frame))
        except OutboxFullError as full:
            self._abort(dial, f"{OUTBOUND_OVERFLOW}: {full}")

    def close(self, number: int, detail: str) -> None:
        """Close the socket of dial `number` after what was sent before, or when the flush time is over."""
        dial = self._current
        if dial is None or dial.number != number or dial.detail:
            return
        if not dial.opened:
            self._abort(dial, detail)
            return
        dial.detail = detail
        dial.outbox.end()
        asyncio.get_running_loop().call_later(self._times.flush, dial.drop)

    def cut(self) -> None:
        """Drop what is open: whoever looks after the engine says that it does not answer."""
        if self._current is not None:
            self._abort(self._current, NO_ANSWER)

    async def shut(self) -> None:
        """End what is open, within the flush time, and give the sockets back. Nothing is delivered afterwards."""
        if self._current is not None:
            self.close(self._current.number, "shut")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._times.flush)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _abort(self, dial: _Dial, detail: str) -> None:
        if not dial.detail:
            dial.detail = detail
            dial.drop()

    async def _run(self, dial: _Dial) -> None:
        dial.started = True
        try:
            socket = await self._connect(dial)
        except asyncio.CancelledError:
            if not dial.detail:  # `shut`, not `_abort`
                raise
            ended: LinkDialFailed | LinkClosed = LinkDialFailed(dial=dial.number, status=None, detail=dial.detail)
        else:
            ended = socket if isinstance(socket, LinkDialFailed) else await self._serve(dial, socket)
        dial.ended = True
        if self._current is dial:
            self._current = None
        await self._deliver(ended)

    async def _connect(self, dial: _Dial) -> _Socket | LinkDialFailed:
        number, token = dial.number, self._vault.token(NODE)
        if dial.detail:  # dropped before it began
            return LinkDialFailed(dial=number, status=None, detail=dial.detail)
        if token is None:
            return LinkDialFailed(dial=number, status=None, detail=NO_CREDENTIAL)
        if self._session is None:
            connector = aiohttp.UnixConnector(self._socket) if self._socket else None
            self._session = aiohttp.ClientSession(connector=connector, trace_configs=[_no_redirects()])
        try:
            async with asyncio.timeout(self._times.dial):
                return await self._session.ws_connect(
                    self._url,
                    headers={"Authorization": f"Bearer {token}"},
                    timeout=ClientWSTimeout(ws_receive=self._times.idle, ws_close=self._times.flush),
                    max_msg_size=MAX_FRAME_BYTES,
                )
        except TimeoutError:
            return LinkDialFailed(dial=number, status=None, detail=DIAL_TIMEOUT)
        except _RedirectedError as error:
            return LinkDialFailed(dial=number, status=error.status, detail=REDIRECTED)
        except aiohttp.WSServerHandshakeError as error:
            return LinkDialFailed(dial=number, status=error.status, detail=error.message)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            return LinkDialFailed(dial=number, status=None, detail=BAD_ADDRESS)
        except (aiohttp.ClientError, OSError) as error:  # before ValueError: a bad certificate is one of all three
            return LinkDialFailed(dial=number, status=None, detail=str(error) or type(error).__name__)
        except ValueError:
            return LinkDialFailed(dial=number, status=None, detail=BAD_ADDRESS)

    async def _serve(self, dial: _Dial, socket: _Socket) -> LinkDialFailed | LinkClosed:
        """Move frames both ways until either side ends; the way it ended."""
        writer = asyncio.create_task(self._write(dial, socket), name=f"link writer {dial.number}")
        pinger = asyncio.create_task(self._ping(socket), name=f"link pings {dial.number}")
        ended: LinkDialFailed | LinkClosed = LinkDialFailed(dial=dial.number, status=None, detail=EOF)
        try:
            await self._deliver(LinkOpened(dial=dial.number))
            dial.opened = True
            ended = LinkClosed(dial=dial.number, code=None, detail=EOF)
            ended = await self._read(dial, socket)
            if dial.detail:  # the writer's close frame ended the reader; it waits for the answer
                await asyncio.wait({writer}, timeout=self._times.flush)
        except asyncio.CancelledError:
            if not dial.detail:  # `shut`, not `drop`
                raise
        finally:
            dial.opened = False
            writer.cancel()
            pinger.cancel()
            await asyncio.gather(writer, pinger, return_exceptions=True)
            await self._end(socket)
        return msgspec.structs.replace(ended, detail=dial.detail or ended.detail)

    async def _read(self, dial: _Dial, socket: _Socket) -> LinkClosed:
        while True:
            await dial.outbox.until_few()
            try:
                message = await socket.receive()
            except TimeoutError:
                return LinkClosed(dial=dial.number, code=None, detail=IDLE)
            match message.type:
                case WSMsgType.TEXT:
                    arrived = captured_frames.read_text_frame(dial.number, message.data)
                    if isinstance(arrived, FrameArrived) and captured_frames.holds_token(arrived):
                        try:
                            arrived = await asyncio.to_thread(
                                captured_frames.move_token_into_vault, arrived, self._vault
                            )
                        except OSError as error:
                            _log.warning("an agent's token could not be kept, the link is closed: %s", error)
                            return LinkClosed(dial=dial.number, code=None, detail=VAULT_FAILED)
                    if isinstance(arrived, FrameArrived):
                        arrived = captured_frames.withhold_credentials(arrived, self._vault)
                    await self._deliver(arrived)
                case WSMsgType.BINARY:
                    size = len(message.data)
                    reason = captured_frames.BINARY_FRAME
                    await self._deliver(FrameUnreadable(dial=dial.number, reason=reason, size=size))
                case WSMsgType.ERROR:
                    code = socket.close_code
                    detail = FRAME_TOO_BIG if code == WSCloseCode.MESSAGE_TOO_BIG else str(message.data)
                    return LinkClosed(dial=dial.number, code=code, detail=detail)
                case WSMsgType.CLOSE:
                    return LinkClosed(dial=dial.number, code=message.data, detail=message.extra or "closed")
                case _:
                    return LinkClosed(dial=dial.number, code=None, detail=EOF)

    async def _write(self, dial: _Dial, socket: _Socket) -> None:
        """Write frames in order; after the last one of a `close`, close the socket, which also ends the reader."""
        try:
            async for frame in dial.outbox.frames():
                await socket.send_frame(frame, WSMsgType.TEXT)
        except (aiohttp.ClientError, OSError) as error:
            _log.info("link write ended: %s", error)  # the reader sees the end of the same socket
            return
        await self._end(socket)

    async def _ping(self, socket: _Socket) -> None:
        while True:
            await asyncio.sleep(self._times.ping)
            try:
                await socket.ping()
            except (aiohttp.ClientError, OSError):
                return  # the reader sees the end of the same socket

    async def _end(self, socket: _Socket) -> None:
        """Close the socket; at the end of the flush time it is dropped as it is."""
        try:
            async with asyncio.timeout(self._times.flush):
                await socket.close()
        except TimeoutError:
            _log.info("link close was not answered")
