"""Waiting for whatever an injection may wait for: output, readiness, a dialog gone, a new delivery."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_LOOK_S, LAST_LOOK_S = 0.001, 0.05
"""Waits between looks; they double."""


class News:
    """Wakes the one task that waits for it."""

    def __init__(self) -> None:
        self._news: asyncio.Future[None] | None = None

    def notify(self) -> None:
        """Something changed."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def until(self, condition: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait for `condition`, looked at on every news, or the time-out; returns whether it holds."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        while not condition():
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                return False
            await self.next(left)
        return True

    async def pause(self, seconds: float) -> None:
        """Let a time pass that the program itself needs (its own key time-outs), not a condition."""
        await asyncio.sleep(seconds)

    async def next(self, timeout_s: float | None) -> None:
        """Wait for the next change, or the time-out."""
        loop = asyncio.get_running_loop()
        news = self._news = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(timeout_s, self.notify)
        try:
            await news
        finally:
            if timer is not None:
                timer.cancel()
            self._news = None
