"""The clock of the loop: epoch seconds that never go back and never stand still.

The wall clock may be set. Forward, this clock follows at once, and says by how much if it was far. Back, it goes on from where it is at
the pace of real time until the wall clock has caught up: heartbeats, holds and retries keep their distances, and the log's times stay
ascending over restarts.

Source: design/architecture.md section 3; failure-scenarios.md F035.
"""

from __future__ import annotations

import time
from collections.abc import Callable

LEAP_S = 3600.0
"""A wall clock that is set forward by more, or a machine that slept for longer, has leapt."""


class SteadyClock:
    """Call it for the moment.

    Args:
        floor: never earlier than this: the moment of the newest record.
        wall: epoch seconds, may jump.
        pace: seconds that only go forward, from anywhere.
    """

    def __init__(
        self, floor: float, *, wall: Callable[[], float] = time.time, pace: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = floor
        self._wall = wall
        self._pace = pace
        self._tick = pace()
        self._is_first = True
        self._leapt_s = 0.0

    def __call__(self) -> float:
        tick = self._pace()
        expected = self._now + (tick - self._tick)
        self._now = max(self._wall(), expected)
        if self._now - expected > LEAP_S and not self._is_first:  # before the first call, nobody was here
            self._leapt_s += self._now - expected
        self._tick, self._is_first = tick, False
        return self._now

    def take_leap(self) -> float:
        """Seconds by which it has leapt since this was asked last; 0 = it has not."""
        leapt_s, self._leapt_s = self._leapt_s, 0.0
        return leapt_s
