"""How long a broker runs: until a signal, a request, the end of its lease, or a failure. And how long its end may take.

Source: spec/local-api.md sections 7.3 and 7.4.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from typing import TYPE_CHECKING

from relaybroker.config.settings import LEASE_S

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from relaybroker.node.assembly import Assembly
    from relaybroker.node.runtime import Ending
    from relaybroker.node.surface import Surface

_log = logging.getLogger(__name__)

STOP_S = 4.5
"""From the request to stop to the end of the process."""
LEASE_CHECK_S = 10.0
TOGETHER_S = 0.05
"""Signals within this time come from one cause: the kernel delivers those that are sent together in any order."""
LOCKED_STOP_S = 2.5
"""From the request to stop until it is given up because another program holds the log's write lock."""
_LEAST_S = 0.3
"""What closing gets even when the time is over."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Lifetime:
    """The reasons to end one run. Made inside the event loop; takes over the termination signals.

    SIGINT and SIGTERM ask for a clean stop, the second one ends at once. SIGHUP means that the terminal was closed: the broker ends
    in order, and what it ran goes on, agents and engine, for the next broker of this directory (ADR-0043). Without agents, or
    without a directory that a next broker could find, it is a clean stop too. It never hurries anything: terminals, shells and
    session managers send it beside other signals and more than once, so it outweighs those that come with it. Before there is
    anything to stop, a signal ends the start.
    """

    def __init__(self) -> None:
        self._main = asyncio.current_task()
        self._parts: Assembly | None = None
        self._ending: Ending | None = None
        self._persist = False
        self._published = False
        self._agents_live_on = False
        self._signals: list[signal.Signals] = []
        self._asked_at: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)

    @property
    def stop_asked(self) -> bool:
        """Whether somebody asked for the end."""
        return self._asked_at is not None

    @property
    def ready(self) -> bool:
        """Whether the start came as far as clients that find the broker."""
        return self._published

    @property
    def leaves_nothing(self) -> bool:
        """Whether the run ended, cleanly, with everything that it ran, because somebody asked for it."""
        return self._ending is not None and self._ending.status == 0 and not self._agents_live_on

    def time_left_s(self) -> float:
        """Seconds that the end may still take."""
        asked = self._asked_at if self._asked_at is not None else time.monotonic()
        return max(_LEAST_S, asked + STOP_S - time.monotonic())

    def attend(self, parts: Assembly, surface: Surface, *, persist: bool) -> None:
        """From now on a request stops these parts, and without `persist` so does the end of the lease."""
        self._parts, self._persist = parts, persist
        if self._failure is not None:
            parts.runtime.fail(self._failure)
        if not persist:
            self._spawn(self._watch_lease(surface))

    def published(self) -> None:
        """The start is over: clients find the broker."""
        self._published = True

    def ended(self, ending: Ending) -> None:
        """The run is over."""
        self._ending = ending
        for task in self._tasks:
            task.cancel()

    def fail(self, error: BaseException) -> None:
        """The journal failed."""
        self._failure = error
        if self._parts is not None:
            self._parts.runtime.fail(error)

    def ask_to_stop(self, reason: str, *, agents_too: bool = True) -> None:
        """Ask for a clean stop, with or without the agents; a repeated request changes nothing."""
        if self._asked_at is not None:
            return
        self._asked_at = time.monotonic()
        self._agents_live_on = not agents_too
        _log.info("the broker is asked to stop: %s%s", reason, "" if agents_too else "; its agents live on")
        if self._parts is not None:
            self._spawn(self._parts.stop(reason, agents_too=agents_too))
            self._spawn(self._end_if_locked(self._parts))
        elif self._main is not None:
            self._main.cancel()

    def restore_signals(self) -> None:
        """Give the signals back."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

    def _signalled(self, number: signal.Signals) -> None:
        if self._asked_at is None:
            if not self._signals:
                asyncio.get_running_loop().call_later(TOGETHER_S, self._stop_for_signals)
            self._signals.append(number)
        elif number == signal.SIGHUP or self._agents_live_on:
            _log.info("%s: the broker ends already", number.name)
        elif self._parts is not None:
            _log.warning("second signal: agents are killed")
            self._parts.stop_at_once()

    def _stop_for_signals(self) -> None:
        hung_up = signal.SIGHUP in self._signals
        leave = hung_up and self._persist and self._parts is not None and self._parts.has_agents
        self.ask_to_stop((signal.SIGHUP if hung_up else self._signals[0]).name, agents_too=not leave)

    async def _end_if_locked(self, parts: Assembly) -> None:
        """A stop that cannot be written, because another program holds the log's lock, ends without a word: the agents live on."""
        await asyncio.sleep(LOCKED_STOP_S)
        while not parts.log_locked_s():  # noqa: ASYNC110 - whether a lock is held can only be looked at
            await asyncio.sleep(_LEAST_S)
        parts.runtime.end(
            1, "another program holds the write lock of the log, so the stop cannot be recorded; agents live on"
        )

    async def _watch_lease(self, surface: Surface) -> None:
        while (left_s := LEASE_S - surface.idle_s()) > 0:  # noqa: ASYNC110 - a lease is a length of time, not an event
            await asyncio.sleep(min(left_s, LEASE_CHECK_S))
        self.ask_to_stop("lease_expired")

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
