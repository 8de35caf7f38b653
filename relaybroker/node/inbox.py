"""The one queue in front of the core. Bounded; nothing that was taken in is dropped.

Source: design/architecture.md section 6; spec/node-protocol.md section 0.2 (A3).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relaybroker.domain.inputs import Input

LIMIT = 8192
"""Inputs that may wait."""
ROUND = 512
"""Inputs that are decided about in one round, and made durable in one batch."""


class Inbox:
    """Inputs on their way to the core, in order of arrival. Belongs to one event loop."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._queue: asyncio.Queue[Input] = asyncio.Queue(limit)

    def __len__(self) -> int:
        return self._queue.qsize()

    async def put(self, item: Input) -> None:
        """Take one input as soon as there is room: for whoever can make its peer wait."""
        await self._queue.put(item)

    def offer(self, item: Input) -> bool:
        """Take one input now; False if there is no room, and then its sender must be told (429 `queue_full`)."""
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            return False
        return True

    async def take(self, timeout_s: float | None) -> list[Input]:
        """What is there, at most a round's worth; waits up to `timeout_s` for the first. May be empty."""
        taken = self._there()
        if not taken:
            try:
                async with asyncio.timeout(timeout_s):
                    taken.append(await self._queue.get())
            except TimeoutError:
                return []
            taken += self._there()
        return taken

    def _there(self) -> list[Input]:
        return [self._queue.get_nowait() for _ in range(min(self._queue.qsize(), ROUND))]
