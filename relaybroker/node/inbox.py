"""The one queue in front of the core. Bounded; nothing that was taken in is dropped.

Whoever may flood it has a share: what it brings waits until there is room in that, so others never wait behind more than a round of it.

Source: design/architecture.md section 6; spec/node-protocol.md section 0.2 (A3).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from relaybroker.domain.inputs import Input

LIMIT = 8192
"""Inputs that may wait."""
ROUND = 512
"""Inputs that are decided about in one round, and made durable in one batch."""
LINK_SHARE = ROUND
"""Frames of the engine that may wait in it; further ones wait in the socket."""


class Share:
    """How much of the inbox one source may fill.

    Args:
        limit: inputs of it that may wait.
    """

    def __init__(self, limit: int) -> None:
        self.room = asyncio.Semaphore(limit)


class _Waiting(NamedTuple):
    item: Input
    share: Share | None


class Inbox:
    """Inputs on their way to the core, in order of arrival. Belongs to one event loop."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(limit)

    def __len__(self) -> int:
        return self._queue.qsize()

    async def put(self, item: Input, share: Share | None = None) -> None:
        """Take one input as soon as there is room, in its source's share too: for whoever can make its peer wait."""
        if share is None:
            await self._queue.put(_Waiting(item, None))
            return
        await share.room.acquire()
        try:
            await self._queue.put(_Waiting(item, share))
        except asyncio.CancelledError:
            share.room.release()
            raise

    def offer(self, item: Input) -> bool:
        """Take one input now; False if there is no room, and then its sender must be told (429 `queue_full`)."""
        try:
            self._queue.put_nowait(_Waiting(item, None))
        except asyncio.QueueFull:
            return False
        return True

    async def take(self, timeout_s: float | None) -> list[Input]:
        """What is there, at most a round's worth; waits up to `timeout_s` for the first. May be empty."""
        taken = self._there()
        if not taken:
            try:
                async with asyncio.timeout(timeout_s):
                    taken.append(_let_go(await self._queue.get()))
            except TimeoutError:
                return []
            taken += self._there()
        return taken

    def _there(self) -> list[Input]:
        return [_let_go(self._queue.get_nowait()) for _ in range(min(self._queue.qsize(), ROUND))]


def _let_go(waiting: _Waiting) -> Input:
    if waiting.share is not None:
        waiting.share.room.release()
    return waiting.item
