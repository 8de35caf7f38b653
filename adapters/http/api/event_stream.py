"""`/ws`: every durable event once and in order, ephemeral output beside it, and an explicit gap where something is missing.

Rules:

* A client that is up to date has its frames in one bounded queue (1024 frames or 4 MiB). When that overflows, the queue is dropped and
  the client is brought up from the stored events; a `replay_gap` with reason `slow_consumer` stands before the next frame and counts the
  durable events that are not stored any more.
* What is queued follows what was queued before without a hole: an event with another number than the next one sends the client back to the
  stored events. So nothing depends on when a client came or when the router opened.
* Only what is on disk is sent: `published` is the number of the last durable event that was handed out, and bounds every reading of
  the store.
* A client that says nothing for 90 s (no Pong to three Pings either) is cut off. One that says more than a person's terminal can, too
  (1008 `frame_flood`): nothing that it could say is worth the time that it takes from others.

Source: spec/local-api.md section 1.4; scenarios F118, F120.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from relaybroker.adapters.http.api.event_frames import frame_of
from relaybroker.domain.announcements import Announced
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.state import State

_log = logging.getLogger(__name__)

QUEUE_FRAMES = 1024
QUEUE_BYTES = 4 * 1024 * 1024
PING_S = 30.0
SILENCE_S = 90.0
MAX_SOCKETS = 256
MAX_INBOUND_BYTES = 1024 * 1024
SAID_MAX = 1000
"""Frames of one client within `SAID_S`."""
SAID_S = 10.0
_BATCH = 256
"""Stored events that are taken in hand at once."""
_DRAIN_S = 0.5
"""What clients get at the end of the broker to take their last events."""
_CLOSE_S = 1.0
"""How long a Close waits for its answer."""


def stored(state: State, since: int, upto: int, limit: int) -> list[dict[str, Any]]:
    """At most `limit` stored events numbered above `since` and up to `upto` (the last durable one), oldest first."""
    kept = state.announcements
    if not kept or since >= upto:
        return []
    first = kept[0].seq
    start = max(0, since + 1 - first)
    return [frame_of(item) for item in kept[start : min(start + limit, upto + 1 - first)]]


def durable_so_far(state: State) -> int:
    """A number up to which events are surely durable: those of former runs. What was decided since may not be on disk yet."""
    return next((item.seq for item in reversed(state.announcements) if item.at < state.started_at), 0)


def oldest(state: State) -> int:
    """Number of the oldest stored event; 0 = none."""
    return state.announcements[0].seq if state.announcements else 0


def gap(state: State, since: int, upto: int, epoch: str | None) -> dict[str, Any] | None:
    """The `replay_gap` for a client that comes with this cursor; None if nothing is missing.

    Args:
        state: of the core.
        since: the client has every event up to this number, however large it is.
        upto: number of the last durable event.
        epoch: of which sequence the client speaks, if it said.
    """
    first = oldest(state)
    if epoch is not None and epoch != state.epoch:
        reason, missing = "epoch_changed", 0
    elif since > upto:
        reason, missing = "cursor_ahead", 0
    elif first and since + 1 < first:
        reason, missing = "retention", first - since - 1
    else:
        return None
    return _gap_frame(state, since, upto, reason=reason, seq=max(0, first - 1), missing=missing)


def _gap_frame(state: State, since: int, upto: int, *, reason: str, seq: int, missing: int) -> dict[str, Any]:
    """`seq` is the number just before the next event that will be sent."""
    return {
        "kind": "replay_gap",
        "requestedSinceSeq": since,
        "oldestAvailable": oldest(state) or 1,
        "seq": seq,
        "currentSeq": upto,
        "epoch": state.epoch,
        "reason": reason,
        "droppedCount": missing,
        "timestamp": int(state.now * 1000),
    }


class _Frame(NamedTuple):
    """One event as text. `seq` is 0 for an ephemeral one."""

    seq: int
    text: str


class _Client:
    """One `/ws` connection: what it has, and what waits for it.

    Args:
        stream: the events.
        since: the client has every durable event up to this number.
        epoch: of which sequence, if it said.
    """

    def __init__(self, stream: EventStream, since: int, epoch: str | None) -> None:
        self._stream = stream
        self._queue: deque[_Frame] = deque()
        self._bytes = 0
        self._gap = gap(stream.state(), since, stream.published, epoch)
        self._sent = since
        self._queued = 0
        """Number of the last durable event in the queue or sent; of use while the client is not behind."""
        self._behind = True
        self._overflowed = False
        self._wake = asyncio.Event()
        self._wake.set()
        self.drained = asyncio.Event()

    def offer(self, frame: _Frame) -> None:
        """A new event. A client that is behind reads durable ones from the store when it gets there, and misses ephemeral ones."""
        if self._behind:
            self._wake.set()
        elif frame.seq == 0:
            self._put(frame)
        elif frame.seq == self._queued + 1:
            self._queued = frame.seq
            self._put(frame)
        elif frame.seq > self._queued:
            self._fall_behind()

    def _put(self, frame: _Frame) -> None:
        self._queue.append(frame)
        self._bytes += len(frame.text)
        if len(self._queue) > QUEUE_FRAMES or self._bytes > QUEUE_BYTES:
            self._overflowed = True
            self._fall_behind()
        self.drained.clear()
        self._wake.set()

    def _fall_behind(self) -> None:
        self._queue.clear()
        self._bytes = 0
        self._behind = True
        self.drained.clear()
        self._wake.set()

    async def send_to(self, socket: web.WebSocketResponse) -> None:
        """Write, in order, until the socket ends. Raises ConnectionError when it does."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._behind:
                await self._catch_up(socket)
            while self._queue:
                frame = self._queue.popleft()
                self._bytes -= len(frame.text)
                await socket.send_str(frame.text)
                self._sent = frame.seq or self._sent
            if not self._behind:
                self.drained.set()

    async def _catch_up(self, socket: web.WebSocketResponse) -> None:
        while True:
            if (missing := self._missing()) is not None:
                self._sent = missing["seq"]
                await socket.send_str(_text(missing))
                continue
            batch = stored(self._stream.state(), self._sent, self._stream.published, _BATCH)
            if not batch:
                self._behind, self._queued = False, self._sent
                return
            for body in batch:
                await socket.send_str(_text(body))
                self._sent = body["seq"]

    def _missing(self) -> dict[str, Any] | None:
        """The gap to announce before the next frame, if any."""
        if self._gap is not None:
            unannounced, self._gap = self._gap, None
            return unannounced
        state = self._stream.state()
        before_first = max(self._sent, oldest(state) - 1)
        if before_first == self._sent and not self._overflowed:
            return None
        self._overflowed = False
        return _gap_frame(
            state,
            self._sent,
            self._stream.published,
            reason="slow_consumer",
            seq=before_first,
            missing=before_first - self._sent,
        )


class EventStream:
    """All `/ws` clients.

    Args:
        state: the core's state now.
        ping_s: between two Pings.
        silence_s: after which a client that said nothing is cut off.
    """

    def __init__(self, state: Callable[[], State], *, ping_s: float = PING_S, silence_s: float = SILENCE_S) -> None:
        self.state = state
        self.published = 0
        """Number of the last event that is known to be durable."""
        self._ping_s, self._silence_s = ping_s, silence_s
        self._clients: dict[web.WebSocketResponse, _Client] = {}
        self._places = 0

    def __len__(self) -> int:
        return self._places

    def open(self) -> None:
        """The state is there: what former runs stored may be read."""
        self.published = max(self.published, durable_so_far(self.state()))

    def announce(self, announced: Announced) -> None:
        """A durable event for everybody."""
        self.published = announced.seq
        if self._clients:
            self._offer(_Frame(announced.seq, _text(frame_of(announced))))

    def output(self, name: str, chunk: str, offset: int, now: float) -> None:
        """Terminal output for everybody who watches. `offset`: bytes of output up to the end of the chunk."""
        body = {
            "kind": "worker_stream",
            "name": name,
            "stream": "stdout",
            "chunk": chunk,
            "offset": offset,
            "timestamp": int(now * 1000),
        }
        self._offer(_Frame(0, _text(body)))

    def _offer(self, frame: _Frame) -> None:
        for client in self._clients.values():
            client.offer(frame)

    async def serve(
        self, request: web.Request, since: int, epoch: str | None, heard: Callable[[str], Awaitable[None]]
    ) -> web.WebSocketResponse:
        """Serve one client until it leaves; its own messages are given to `heard`.

        Raises:
            InvalidRequest: `queue_full`, if there are 256 already.
        """
        if self._places >= MAX_SOCKETS:
            raise InvalidRequest(Refusal.FULL, "queue_full", f"{MAX_SOCKETS} WebSockets are open already")
        self._places += 1
        try:
            socket = web.WebSocketResponse(
                autoping=False, compress=False, timeout=_CLOSE_S, max_msg_size=MAX_INBOUND_BYTES
            )
            await socket.prepare(request)
            await self._attend(socket, _Client(self, since, epoch), request.transport, heard)
            return socket
        finally:
            self._places -= 1

    async def _attend(
        self,
        socket: web.WebSocketResponse,
        client: _Client,
        transport: asyncio.Transport | None,
        heard: Callable[[str], Awaitable[None]],
    ) -> None:
        self._clients[socket] = client
        work = [
            asyncio.create_task(client.send_to(socket)),
            asyncio.create_task(self._pulse(socket)),
            asyncio.create_task(self._listen(socket, heard)),
        ]
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._clients[socket]
            for task in work:
                task.cancel()
            ends = await asyncio.gather(*work, return_exceptions=True)
            if not socket.closed and transport is not None:
                transport.abort()  # it is silent or gone: nobody would answer a Close
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, (ConnectionError, TimeoutError)):
                raise end

    async def _pulse(self, socket: web.WebSocketResponse) -> None:
        while True:
            await socket.ping()
            await asyncio.sleep(self._ping_s)

    async def _listen(self, socket: web.WebSocketResponse, heard: Callable[[str], Awaitable[None]]) -> None:
        """Read until the client leaves. Raises TimeoutError when it is silent for too long."""
        since, said = 0.0, 0
        while True:
            async with asyncio.timeout(self._silence_s):
                message = await socket.receive()
                if message.type is WSMsgType.PING:
                    await socket.pong(message.data)
            now = asyncio.get_running_loop().time()
            since, said = (since, said + 1) if now - since < SAID_S else (now, 1)
            if said > SAID_MAX:
                _log.warning("a client of /ws sent more than %d frames within %g s: it is cut off", SAID_MAX, SAID_S)
                await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"frame_flood")
                return
            if message.type is WSMsgType.TEXT:
                await heard(message.data)
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                return

    async def close(self) -> None:
        """Let clients take what waits for them, shortly, and end every socket with 1001."""
        waiting = [asyncio.create_task(client.drained.wait()) for client in self._clients.values()]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=_DRAIN_S)
            for task in late:
                task.cancel()
        await asyncio.gather(
            *(socket.close(code=1001, message=b"broker stopping") for socket in list(self._clients)),
            return_exceptions=True,
        )


def _text(body: dict[str, Any]) -> str:
    return msgspec.json.encode(body).decode()
