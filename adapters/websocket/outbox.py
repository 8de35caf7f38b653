"""Frames that wait for one socket, in order and bounded: by number and by bytes.

Source: spec/node-protocol.md sections 0.2 (A3) and 2.8.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


FRAME_LIMIT = 4096
BYTE_LIMIT = 32 * 1024 * 1024
MANY = 1024
"""While so many frames wait, nothing more is read from the peer that causes them; for `PATIENCE_S` at most."""
PATIENCE_S = 5.0


class OutboxFullError(Exception):
    """The peer takes frames more slowly than they come; the socket must go."""


class Outbox:
    """A bounded queue of encoded frames with one reader. Belongs to one event loop."""

    def __init__(self, *, frame_limit: int = FRAME_LIMIT, byte_limit: int = BYTE_LIMIT) -> None:
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._frame_limit = frame_limit
        self._byte_limit = byte_limit
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._ended = False
        self._waited = False
        """The peer has taken nothing although it was waited for."""

    def put(self, frame: bytes) -> None:
        """Queue a frame; after `end` it is dropped.

        Raises:
            OutboxFullError: it would exceed the number or the bytes that may wait; nothing was queued.
        """
        if self._ended:
            return
        if len(self._frames) >= self._frame_limit or self._bytes + len(frame) > self._byte_limit:
            raise OutboxFullError(f"{len(self._frames)} frames of {self._bytes} bytes are waiting")
        self._frames.append(frame)
        self._bytes += len(frame)
        self._changed.set()

    async def until_few(self) -> None:
        """Wait while many frames wait; not for a peer that took too few last time: it may be waiting for us."""
        if len(self._frames) < MANY:
            self._waited = False
        elif not self._waited:
            self._waited = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    while len(self._frames) >= MANY and not self._ended:
                        self._taken.clear()
                        await self._taken.wait()
                    self._waited = False

    def end(self) -> None:
        """Let the reader finish after the frames that are queued now."""
        self._ended = True
        self._changed.set()
        self._taken.set()

    async def frames(self) -> AsyncIterator[bytes]:
        """Every frame in order, until `end` was called and all before it is taken."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                self._bytes -= len(frame)
                self._taken.set()
                yield frame
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()
