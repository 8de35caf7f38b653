"""The clock of the loop: epoch seconds that never go back and never stand still.

The wall clock may be set. Forward, this clock follows at once. Back, it goes on from where it is at the pace of real time until the wall
clock has caught up: heartbeats, holds and retries keep their distances, and the log's times stay ascending over restarts.

Source: design/architecture.md section 3; failure-scenarios.md F035.
"""

from __future__ import annotations

import time
from collections.abc import Callable


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

    def __call__(self) -> float:
        tick = self._pace()
        self._now = max(self._wall(), self._now + (tick - self._tick))
        self._tick = tick
        return self._now
