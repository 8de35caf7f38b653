"""The real broker program with a clock that runs faster: `fast_broker.py RATE up --state-dir ...`.

Only the passing of time is changed: `time.time` and the event loop's clock and waits. The PTY host is a process of its own and keeps
real time. So scenarios whose pauses are minutes long are played on real sockets in seconds. The wall clock can be set meanwhile: the file
that `CLOCK_SET` names holds by how many seconds it is off.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import sys
import time
from pathlib import Path
from typing import Any

RATE = float(sys.argv.pop(1))
_REAL_TIME = time.time
_BEGAN = _REAL_TIME()


def wall() -> float:
    """What the machine's clock shows."""
    try:
        off = float(Path(os.environ["CLOCK_SET"]).read_text(encoding="ascii"))
    except (OSError, KeyError, ValueError):
        off = 0.0
    return _BEGAN + (_REAL_TIME() - _BEGAN) * RATE + off


class FastSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Waits for real what is left of a scaled wait."""

    def select(self, timeout: float | None = None) -> Any:
        return super().select(timeout / RATE if timeout is not None and timeout > 0 else timeout)


class FastLoop(asyncio.SelectorEventLoop):
    """A loop whose seconds are shorter."""

    def __init__(self) -> None:
        self._real_began = time.monotonic()
        super().__init__(FastSelector())

    def time(self) -> float:
        return self._real_began + (time.monotonic() - self._real_began) * RATE


class FastPolicy(asyncio.DefaultEventLoopPolicy):
    """Makes such loops."""

    def new_event_loop(self) -> FastLoop:
        return FastLoop()


if __name__ == "__main__":
    time.time = wall
    asyncio.set_event_loop_policy(FastPolicy())
    sys.modules["uvloop"] = None  # type: ignore[assignment]
    from relaybroker.cli import main

    main()
