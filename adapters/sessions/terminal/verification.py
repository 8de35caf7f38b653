"""Looks, after Enter, for the proof that a program shows what was typed, without holding anything up.

Each typed delivery ends in exactly one Verified report: `echo` as soon as its marker is in the output (or, at the end of the
window, on the screen), else `timeout_fallback`. Source: node-protocol.md 6.7.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.host.protocol import Fact, Inject, Verified
from relaybroker.adapters.sessions.terminal.sequences import without_spaces

if TYPE_CHECKING:
    from collections.abc import Callable

    from relaybroker.adapters.sessions.host.output_ring import OutputRing

MAX_VERIFYING = 256
"""Deliveries looked for at the same time; the oldest one's window ends early when there are more."""


class Verifications:
    """The open verification windows of one session."""

    def __init__(
        self, window_s: float, ring: OutputRing, screen: Callable[[], str], report: Callable[[Fact], None]
    ) -> None:
        self._window_s = window_s
        self._ring = ring
        self._screen = screen
        self._report = report
        self._open: dict[str, tuple[Callable[[OutputRing], bool], asyncio.TimerHandle]] = {}

    @property
    def is_empty(self) -> bool:
        return not self._open

    def begin(self, inject: Inject, seen_in: Callable[[OutputRing], bool], *, seen: bool) -> None:
        """Open the window of a typed delivery; `seen`: its echo was there before Enter already."""
        if seen:
            self._report(Verified(delivery_id=inject.delivery_id, verification="echo"))
            return
        if len(self._open) >= MAX_VERIFYING:
            self._end(next(iter(self._open)), "timeout_fallback")
        timer = asyncio.get_running_loop().call_later(self._window_s, self._last_look, inject)
        self._open[inject.delivery_id] = (seen_in, timer)

    def output_came(self) -> None:
        for delivery_id in [key for key, (seen_in, _) in self._open.items() if seen_in(self._ring)]:
            self._end(delivery_id, "echo")

    def close(self) -> None:
        """End every window: the program is gone."""
        for delivery_id in list(self._open):
            self._end(delivery_id, "timeout_fallback")

    def _last_look(self, inject: Inject) -> None:
        """The window is over: a program that repaints only differences may show on the screen what its bytes do not."""
        needle = without_spaces(inject.marker)
        on_screen = bool(needle) and needle in without_spaces(self._screen())
        self._end(inject.delivery_id, "echo" if on_screen else "timeout_fallback")

    def _end(self, delivery_id: str, verification: str) -> None:
        _seen_in, timer = self._open.pop(delivery_id)
        timer.cancel()
        self._report(Verified(delivery_id=delivery_id, verification=verification))
