"""How a session ends: told to, or because its program did; everything that is on its way is handed back before the exit is reported.

Source: architecture.md 5; node-protocol.md 6.1; F099-F110.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Protocol

from relaybroker.adapters.sessions.host import tasks
from relaybroker.adapters.sessions.host.protocol import Exited, Fact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relaybroker.adapters.sessions.host.process import Program

LAST_OUTPUT_CHARACTERS = 2000
UNREQUESTED_EXIT_GRACE_S = 0.5
"""What a program that ended by itself left behind in its session gets SIGHUP, then SIGKILL after this time."""


class Ended(Protocol):
    """What the end needs of its session."""

    async def hand_back(self, reason: str) -> None:
        """Everything that is on its way to the program."""

    def drain(self) -> None:
        """Take what the program has still written."""

    def shut(self) -> None:
        """Close what is open; nothing comes any more."""

    def last_output(self) -> str:
        """The clean end of what it wrote."""

    def cause(self, number: int | None) -> str:
        """Why the host ended it, if it did, with this signal; see `Exited`."""

    def report(self, fact: Fact) -> None: ...


class Ending:
    """The way of one program out, by whoever began it.

    Args:
        session: whose program it is.
        process: the program.
        stop_signals: what ends it, by name, in order.
    """

    def __init__(self, session: Ended, process: Program, stop_signals: Sequence[str]) -> None:
        self._session, self._process, self._stop_signals = session, process, stop_signals
        self._loop = asyncio.get_running_loop()
        self._born = self._loop.time()
        self.phase: str | None = None
        """`stopping` or `exited`, once it is."""
        self.exited = asyncio.Event()
        self.requested = False
        self.status: tuple[int | None, int | None] | None = None
        """Exit status and signal, of which one is a number."""
        self.exit_seen = asyncio.Event()
        """The program is reaped."""
        self._task: asyncio.Task[None] | None = None
        self._deadline: float | None = None
        process.watch_exit(self._process_exited)

    def stop(self, grace_s: float) -> None:
        """End the program and all of its session: SIGTERM now, SIGKILL after `grace_s`. A second call only shortens."""
        if self.phase == "exited":
            return
        deadline = self._loop.time() + grace_s
        self._deadline = min(deadline, self._deadline) if self._deadline is not None else deadline
        if self.requested:
            return
        self.requested = True
        self.phase = "stopping"
        if self._task is None:
            self._task = tasks.start(self._stop())

    def kill(self) -> None:
        """End the program at once; its exit is reported as one that nobody asked for."""
        self._process.signal_group(signal.SIGKILL)

    async def _stop(self) -> None:
        await self._session.hand_back("agent_released")
        for name in self._stop_signals:
            self._process.signal_group(signal.Signals[f"SIG{name}"])
        self._process.signal_group(signal.SIGCONT)  # a stopped program gets its signal only when it goes on
        while not self.exit_seen.is_set():
            assert self._deadline is not None
            left = self._deadline - self._loop.time()
            if left <= 0:
                self._process.signal_group(signal.SIGKILL)
                await self.exit_seen.wait()
                break
            try:
                async with asyncio.timeout(left):
                    await self.exit_seen.wait()
            except TimeoutError:
                continue
        await self._end()

    def _process_exited(self, code: int | None, number: int | None) -> None:
        self.status = (code, number)
        self.exit_seen.set()
        if self._task is None:
            self._task = tasks.start(self._end())

    async def _end(self) -> None:
        """Everything after the program is reaped: open deliveries, survivors, last output, the report."""
        assert self.status is not None
        session, requested = self._session, self.requested
        session.drain()
        await session.hand_back("agent_released" if requested else "worker_exited")
        if not requested:
            self.phase = "stopping"
            self._process.signal_group(signal.SIGHUP)
            self._deadline = self._loop.time() + UNREQUESTED_EXIT_GRACE_S
        assert self._deadline is not None
        survivors = self._process.end_survivors(self._deadline)
        if requested:
            await survivors
            session.drain()
        session.shut()
        code, number = self.status
        self.phase = "exited"
        session.report(
            Exited(
                code=code,
                signal=number,
                last_output=session.last_output().strip()[-LAST_OUTPUT_CHARACTERS:],
                uptime_s=round(self._loop.time() - self._born, 3),
                requested=requested,
                cause=session.cause(number),
            )
        )
        if not requested:
            await survivors
        self.exited.set()
