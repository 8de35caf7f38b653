"""`/ws`: every durable event once and in order, ephemeral output beside it, and an explicit gap where something is missing.

Each client has one bounded queue (1024 frames or 4 MiB). When it overflows, queued ephemeral events are dropped and the client is brought
up from the stored events, with a `replay_gap` in front if they do not reach back far enough.

Source: spec/local-api.md section 1.4.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from domain.state import Notification, State

QUEUE_FRAMES = 1024
QUEUE_BYTES = 4 * 1024 * 1024
PING_S = 30.0
MAX_SOCKETS = 256


def stored(state: State, since: int, upto: int, limit: int = 1 << 62) -> list[dict[str, Any]]:
    """Stored events numbered above `since` and up to `upto` (the last durable one), oldest first."""
    kept = state.notifications
    if not kept or since >= upto:
        return []
    first = kept[0].seq
    start = max(0, since + 1 - first)
    return [item.body for item in kept[start : min(start + limit, upto + 1 - first)]]


def durable_so_far(state: State) -> int:
    """Number of the last event before this run: what was decided since may not be on disk yet."""
    began = int(state.started_at * 1000)
    return next((item.seq for item in reversed(state.notifications) if item.body["timestamp"] < began), 0)


def oldest(state: State) -> int:
    """Number of the oldest stored event; 0 = none."""
    return state.notifications[0].seq if state.notifications else 0


def gap(state: State, since: int, upto: int, epoch: str | None) -> dict[str, Any] | None:
    """The `replay_gap` a client needs that has seen everything up to `since`; None if nothing is missing."""
    first = oldest(state)
    if epoch is not None and epoch != state.epoch:
        reason, missing = "epoch_changed", 0
    elif since > upto:
        reason, missing = "cursor_ahead", 0
    elif first and since + 1 < first:
        reason, missing = "retention", first - since - 1
    else:
        return None
    return {
        "kind": "replay_gap",
        "requestedSinceSeq": since,
        "oldestAvailable": first or 1,
        "seq": max(0, first - 1),
        "currentSeq": upto,
        "epoch": state.epoch,
        "reason": reason,
        "droppedCount": missing,
    }


class Client:
    """One `/ws` connection.

    Args:
        stream: the events.
        since: the client has every durable event up to this number.
        epoch: of which sequence, if it said.
    """

    def __init__(self, stream: EventStream, since: int, epoch: str | None) -> None:
        self._stream = stream
        self._queue: deque[tuple[bytes, bool]] = deque()
        self._bytes = 0
        self._behind = True
        self._wake = asyncio.Event()
        self._wake.set()
        self._gap = gap(stream.state(), since, stream.published, epoch)
        self._next = since + 1 if self._gap is None else self._gap["seq"] + 1

    def durable(self, notification: Notification) -> None:
        """A new durable event."""
        if self._behind:
            self._wake.set()  # it is read from the store when the client gets there
        else:
            self._put(msgspec.json.encode(notification.body), durable=True)

    def ephemeral(self, frame: bytes) -> None:
        """A new ephemeral event; dropped for a client that is behind."""
        if not self._behind:
            self._put(frame, durable=False)

    def _put(self, frame: bytes, *, durable: bool) -> None:
        self._queue.append((frame, durable))
        self._bytes += len(frame)
        if len(self._queue) > QUEUE_FRAMES or self._bytes > QUEUE_BYTES:
            self._queue.clear()
            self._bytes = 0
            self._behind = True
        self._wake.set()

    async def send_to(self, socket: web.WebSocketResponse) -> None:
        """Write until the socket ends."""
        while not socket.closed:
            await self._wake.wait()
            self._wake.clear()
            if self._behind:
                await self._catch_up(socket)
            while self._queue:
                frame, durable = self._queue.popleft()
                self._bytes -= len(frame)
                await socket.send_str(frame.decode())
                if durable:
                    self._next += 1

    async def _catch_up(self, socket: web.WebSocketResponse) -> None:
        while True:
            state, upto = self._stream.state(), self._stream.published
            missing = self._gap or gap(state, self._next - 1, upto, None)
            self._gap = None
            if missing is not None:
                if missing["reason"] == "retention" and self._next > 1:
                    missing = missing | {"reason": "slow_consumer"}
                self._next = missing["seq"] + 1
                await socket.send_str(msgspec.json.encode(missing).decode())
            batch = stored(state, self._next - 1, upto, 256)
            if not batch:
                self._behind = False
                return
            for body in batch:
                await socket.send_str(msgspec.json.encode(body).decode())
                self._next = body["seq"] + 1


class EventStream:
    """All `/ws` clients.

    Args:
        state: the core's state now.
    """

    def __init__(self, state: Callable[[], State]) -> None:
        self.state = state
        self.published = durable_so_far(state())
        """Number of the last event that is durable and was given to the clients."""
        self._clients: set[Client] = set()
        self._sockets: set[web.WebSocketResponse] = set()

    def __len__(self) -> int:
        return len(self._clients)

    def notify(self, notification: Notification) -> None:
        """A durable event for everybody."""
        self.published = notification.seq
        for client in self._clients:
            client.durable(notification)

    def output(self, name: str, chunk: str, now: float) -> None:
        """Terminal output for everybody who watches."""
        if self._clients:
            frame = msgspec.json.encode(
                {
                    "kind": "worker_stream",
                    "name": name,
                    "stream": "stdout",
                    "chunk": chunk,
                    "timestamp": int(now * 1000),
                }
            )
            for client in self._clients:
                client.ephemeral(frame)

    async def serve(self, request: web.Request, since: int, epoch: str | None) -> web.WebSocketResponse:
        """Serve one client until it leaves; its own messages are read and ignored."""
        socket = web.WebSocketResponse(heartbeat=PING_S, max_msg_size=1024 * 1024)
        await socket.prepare(request)
        client = Client(self, since, epoch)
        self._clients.add(client)
        self._sockets.add(socket)
        writer = asyncio.create_task(client.send_to(socket))
        try:
            await socket.ping()
            async for message in socket:
                if message.type is WSMsgType.ERROR:
                    break
        finally:
            self._clients.discard(client)
            self._sockets.discard(socket)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return socket

    async def close(self) -> None:
        """End every socket with 1001."""
        await asyncio.gather(
            *(socket.close(code=1001, message=b"broker stopping") for socket in self._sockets), return_exceptions=True
        )
