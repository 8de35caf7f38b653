"""The one writer of a socket: frames leave in the order in which they were given, and the queue is bounded."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from aiohttp import web

log = logging.getLogger(__name__)

FRAME_LIMIT = 16_384
"""Frames queued for one socket; deliveries stop at `READY_FRAMES`, so that only a peer that reads nothing gets here."""
BYTE_LIMIT = 64 * 1024 * 1024
"""Bytes queued for one socket, a single frame apart."""
READY_FRAMES = 1024
"""Below this (and `READY_BYTES`) the socket takes further deliveries."""
READY_BYTES = 4 * 1024 * 1024
_REPORT_EVERY = 256


class _Frame(NamedTuple):
    text: str
    delivery_id: str


class Outbox:
    """Frames on their way to one socket. A socket that does not keep up is cut off.

    Args:
        socket: prepared.
        transport: what is aborted when the peer does not read; no closing handshake could reach it.
        on_written: told the ids of the deliveries that the socket took.
        on_ready: told whenever there is room for deliveries again.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        on_written: Callable[[list[str]], None],
        on_ready: Callable[[], None],
    ) -> None:
        self._socket = socket
        self._transport = transport
        self._on_written = on_written
        self._on_ready = on_ready
        self._frames: deque[_Frame] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._writing_since: float | None = None
        self._task = asyncio.create_task(self._write())

    @property
    def ready(self) -> bool:
        """Whether there is room for deliveries."""
        return len(self._frames) < READY_FRAMES and self._bytes < READY_BYTES

    def put(self, text: str, delivery_id: str = "") -> None:
        """Queue one frame. Without room the socket ends: what it was to get is lost to it, stored deliveries are not."""
        if self._transport.is_closing():
            return
        if len(self._frames) >= FRAME_LIMIT or self._bytes > BYTE_LIMIT:
            self._cut_off()
            return
        self._frames.append(_Frame(text, delivery_id))
        self._bytes += len(text)
        self._wake.set()

    def cut_off_if_stalled(self, limit_s: float) -> None:
        """End the socket when one frame has been waiting for the peer to read for longer than this."""
        now = asyncio.get_running_loop().time()
        if self._writing_since is not None and now - self._writing_since > limit_s:
            self._cut_off()

    async def close(self) -> None:
        """Stop writing."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _cut_off(self) -> None:
        log.warning("a socket does not read what it is sent; closing it")
        self._frames.clear()
        self._bytes = 0
        self._transport.abort()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            written: list[str] = []
            while self._frames:
                text, delivery_id = self._frames.popleft()
                self._bytes -= len(text)
                self._writing_since = loop.time()
                try:
                    await self._socket.send_str(text)
                except (ConnectionError, RuntimeError):
                    return  # the reader sees the end of the socket; what was not written stays queued in the database
                if delivery_id:
                    written.append(delivery_id)
                if len(written) >= _REPORT_EVERY:
                    self._report(written)
                    written = []
            self._writing_since = None
            self._report(written)

    def _report(self, written: list[str]) -> None:
        if written:
            self._on_written(written)
        if self.ready:
            self._on_ready()
