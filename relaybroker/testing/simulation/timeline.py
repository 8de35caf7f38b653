"""Virtual time: what is to happen, in order, and nothing in between."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

MOST_IN_A_SECOND = 100_000


class Appointment:
    """Something that will happen, unless it is cancelled."""

    __slots__ = ("arguments", "cancelled", "what")

    def __init__(self, what: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self.what = what
        self.arguments = arguments
        self.cancelled = False

    def cancel(self) -> None:
        """It will not happen."""
        self.cancelled = True


class Timeline:
    """True time in seconds from 0, and a wall clock that may be set."""

    def __init__(self, epoch: float = 1_700_000_000.0) -> None:
        self.now = 0.0
        self.wall_offset = epoch
        self._order = 0
        self._heap: list[tuple[float, int, Appointment]] = []
        self._second = 0
        self._in_second = 0

    def wall(self) -> float:
        """What the machine's clock shows."""
        return self.now + self.wall_offset

    def pace(self) -> float:
        """What the machine's monotonic clock shows."""
        return self.now

    def after(self, delay: float, what: Callable[..., None], *arguments: Any) -> Appointment:
        """Let it happen in `delay` seconds; appointments for the same moment keep their order."""
        appointment = Appointment(what, arguments)
        self._order += 1
        heapq.heappush(self._heap, (self.now + delay, self._order, appointment))
        return appointment

    def run(self, seconds: float) -> None:
        """Let everything happen that is due within the next `seconds`."""
        end = self.now + seconds
        heap = self._heap
        while heap and heap[0][0] <= end:
            when, _, appointment = heapq.heappop(heap)
            if not appointment.cancelled:
                self.now = when
                self._count()
                appointment.what(*appointment.arguments)
        self.now = end

    def step(self, end: float) -> bool:
        """Let what is next happen, if it is due by `end`; whether something was."""
        if not self._heap or self._heap[0][0] > end:
            return False
        self.run(max(0.0, self._heap[0][0] - self.now))
        return True

    def _count(self) -> None:
        """A world that goes round in circles is told apart from a busy one."""
        if int(self.now) != self._second:
            self._second, self._in_second = int(self.now), 0
        self._in_second += 1
        if self._in_second > MOST_IN_A_SECOND:
            raise AssertionError(
                f"more than {MOST_IN_A_SECOND} things happen within one second: the world does not come to rest"
            )


class Pipe:
    """One direction of a connection: everything arrives in order, or the connection is cut.

    Args:
        timeline: time.
        random: where delays come from.
        delay: least and greatest time on the way, in seconds.
        take: gets each item.
    """

    def __init__(
        self, timeline: Timeline, random: Random, delay: tuple[float, float], take: Callable[[Any], None]
    ) -> None:
        self._timeline = timeline
        self._random = random
        self._delay = delay
        self._take = take
        self._free_at = 0.0
        self.is_cut = False

    def send(self, item: Any) -> None:
        """Put an item on its way."""
        if self.is_cut:
            return
        now = self._timeline.now
        self._free_at = max(self._free_at, now + self._random.uniform(*self._delay))
        self._timeline.after(self._free_at - now, self._arrive, item)

    def stall(self, seconds: float) -> None:
        """Nothing sent from now on arrives within this time."""
        self._free_at = max(self._free_at, self._timeline.now + seconds)

    def cut(self) -> None:
        """Nothing arrives any more, also not what is on its way."""
        self.is_cut = True

    def close(self, after: Callable[[], None]) -> None:
        """Let what is on its way arrive, then call `after`; nothing more is taken."""
        if not self.is_cut:
            self._timeline.after(max(0.0, self._free_at - self._timeline.now), after)

    def _arrive(self, item: Any) -> None:
        if not self.is_cut:
            self._take(item)
