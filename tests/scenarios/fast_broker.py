"""The real broker program with a clock that runs faster: `fast_broker.py RATE PULSE up --state-dir ...`.

Only the passing of time is changed: `time.time` and the event loop's clock and waits. The PTY host is a process of its own and keeps
real time. So scenarios whose pauses are minutes long are played on real sockets in seconds. The wall clock can be set meanwhile: the file
that `CLOCK_SET` names holds by how many seconds it is off.

A busy machine must not look like a silent engine or a dead host. Time passes only while the broker and the test, which plays the engine,
both get a processor (`PULSE` is a file in which the test counts the seconds in which it ran, see `tests/scenarios/pace.py`); not while a
commit is under way, nor while the PTY host has a program to start or to end.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import sys
import time
from pathlib import Path
from typing import Any

from relaybroker.adapters.eventstore.recorders import JournalRecorder
from relaybroker.adapters.sessions.host import protocol
from relaybroker.domain import inputs
from relaybroker.node.host_link import HostLink
from tests.scenarios.pace import STEP_S, read_pulse

RATE = float(sys.argv.pop(1))
PULSE = Path(sys.argv.pop(1))
_BEGAN = time.time()
HOST_S = 30.0
"""How long the clock waits for the PTY host."""


class Clock:
    """Seconds that have passed for the broker. Only the event loop moves it on."""

    def __init__(self) -> None:
        self.now = time.monotonic()
        self._commits = 0
        self._owed: dict[str, float] = {}
        """Sessions that the host was told to start or end -> when that is waited for no more, in real seconds."""
        self._seen = time.monotonic()
        self._pulse = read_pulse(PULSE)
        self._granted = 0.0

    def tick(self) -> float:
        real, pulse = time.monotonic(), read_pulse(PULSE)
        mine, self._seen = min(real - self._seen, STEP_S), real
        self._granted, self._pulse = min(self._granted + pulse - self._pulse, STEP_S), pulse
        if not self._commits and not any(until > real for until in self._owed.values()):
            step = min(mine, self._granted)
            self._granted -= step
            self.now += step * RATE
        return self.now

    def asked(self, request: Any) -> None:
        """Something is given to the PTY host."""
        if isinstance(request, protocol.Start | protocol.Stop):
            self._owed[request.session_id] = time.monotonic() + HOST_S

    def answered(self, item: Any) -> None:
        """The PTY host has said something, or is gone."""
        if isinstance(item, inputs.ProgramStarted | inputs.ProgramNotStarted | inputs.ProgramExited):
            self._owed.pop(item.session_id, None)
        elif isinstance(item, inputs.HostAttached | inputs.HostLost):
            self._owed.clear()

    def stand_still_during(self, commit: Any) -> Any:
        def held(*arguments: Any) -> Any:
            self._commits += 1
            try:
                return commit(*arguments)
            finally:
                self._commits -= 1

        return held


def off() -> float:
    """By how many seconds the machine's clock was set."""
    try:
        return float(Path(os.environ["CLOCK_SET"]).read_text(encoding="ascii"))
    except (OSError, KeyError, ValueError):
        return 0.0


class FastSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Waits for real what is left of a scaled wait, and lets the loop look at the clock on the way."""

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout > 0:
            timeout = min(max(timeout / RATE, 0.001), STEP_S / 2)
        return super().select(timeout)


class FastLoop(asyncio.SelectorEventLoop):
    """A loop whose seconds are shorter."""

    def __init__(self, clock: Clock) -> None:
        self._shared = clock
        super().__init__(FastSelector())

    def time(self) -> float:
        return self._shared.tick()


class FastPolicy(asyncio.DefaultEventLoopPolicy):
    """Makes such loops."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._shared = clock

    def new_event_loop(self) -> FastLoop:
        return FastLoop(self._shared)


if __name__ == "__main__":
    clock = Clock()
    began = clock.now
    JournalRecorder.insert_events = clock.stand_still_during(JournalRecorder.insert_events)  # type: ignore[method-assign]
    JournalRecorder.sync = clock.stand_still_during(JournalRecorder.sync)  # type: ignore[method-assign]
    send, put = HostLink.send, HostLink._put
    HostLink.send = lambda self, request: (clock.asked(request), send(self, request))[1]  # type: ignore[method-assign]
    HostLink._put = lambda self, item: (clock.answered(item), put(self, item))[1]  # type: ignore[method-assign]
    time.time = lambda: _BEGAN + clock.now - began + off()
    asyncio.set_event_loop_policy(FastPolicy(clock))
    sys.modules["uvloop"] = None  # type: ignore[assignment]
    from relaybroker.cli import main

    main()
