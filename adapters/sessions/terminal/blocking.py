"""What a program asks, of what its screen shows and of what its door tells: one question, reported as it stands and as it is gone.

What a door tells comes first: it has the options as the program means them. The screen of a program whose door has one shows the same
question, and goes on showing it for a moment when it is answered.
Source: ADR-0095.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.host.protocol import Blocked, Unblocked

if TYPE_CHECKING:
    from collections.abc import Callable

WIPED_S = 2.0
"""A program takes a question from its screen within this time after its door said that it is gone, or it is another one."""


class Blocking:
    """Two sources, one report at a time. `report` is called from the event loop, by whoever tells something new."""

    def __init__(self, report: Callable[[Blocked | Unblocked], None]) -> None:
        self._report = report
        self._on_screen: Blocked | None = None
        self._by_door: Blocked | None = None
        self._reported: Blocked | None = None
        self._wiped: asyncio.TimerHandle | None = None
        """Until then the question on the screen is taken for that of the door, which is gone."""

    @property
    def is_told(self) -> bool:
        """The door tells a question with its text and options."""
        return self._by_door is not None and self._by_door.question is not None

    def screen_shows(self, blocked: Blocked | None) -> None:
        """Something else than before."""
        self._on_screen = blocked
        self.close()
        self._tell()

    def door_tells(self, blocked: Blocked | None) -> None:
        """The same as before, or something else; without a `question` it only says that there is one."""
        if blocked == self._by_door:
            return
        if self.is_told and blocked is None and self._on_screen is not None:
            self.close()
            self._wiped = asyncio.get_running_loop().call_later(WIPED_S, self._still_shown)
        self._by_door = blocked
        self._tell()

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._wiped is not None:
            self._wiped.cancel()
            self._wiped = None

    def _still_shown(self) -> None:
        self._wiped = None
        self._tell()

    def _tell(self) -> None:
        on_screen = self._on_screen if self._wiped is None else None
        blocks = self._by_door if self.is_told else on_screen or self._by_door
        if blocks == self._reported:
            return
        former, self._reported = self._reported, blocks
        if former is not None:
            self._report(Unblocked())
        if blocks is not None:
            self._report(blocks)
