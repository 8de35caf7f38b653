"""The one loop that owns the core: inputs in, decisions made, events made durable, and only then effects carried out.

Rules:

* One task calls the core. In each round it takes what is there (at most 512 inputs, and no more than 50 ms of
  work), decides at one moment of a clock that never goes back, and appends the events as one batch.
* Commits are pipelined: the next round is decided while the journal's threads write and sync. Effects are carried out in
  order, each batch after its own commit, in two stages: what goes to the PTY host when the batch is written, so that no
  disk delays a terminal; everything else when it is on disk (`domain.effects.GRADES`, ADR-0082).
* No adapter is awaited: carrying out an effect means handing it to an adapter's own bounded queue.
* Fail-stop: if a commit fails, or the core or an adapter raises, nothing leaves any more, the reason is logged loudly, and
  the run ends with status 1. Agents live on; the next start goes on from the log.

Source: design/architecture.md sections 3, 4 and 6; failure-scenarios.md LOG-FIRST.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol

from relaybroker.adapters.eventstore.snapshots import Snapshot
from relaybroker.domain import state as domain_state
from relaybroker.domain.effects import GRADES, Grade
from relaybroker.domain.inputs import ClockLeapt
from relaybroker.node.clock import SteadyClock
from relaybroker.node.inbox import Inbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from relaybroker.adapters.eventstore.journal import Journal
    from relaybroker.adapters.eventstore.snapshots import SnapshotFile
    from relaybroker.domain.effects import Effect
    from relaybroker.domain.events import Recorded
    from relaybroker.domain.inputs import Input
    from relaybroker.domain.state import State
    from relaybroker.domain.turn import Decision

_log = logging.getLogger(__name__)

SNAPSHOT_EVERY = 20_000
"""Events between two snapshots."""
ROUND_S = 0.05
"""After so long a round ends, whatever else is there: readers, writers and people wait for no flood."""
PIPELINE = 64
"""Batches that may wait in each of the two stages: decided and not written, written and not durable."""
_IDLE_STEP_S = 0.01
"""Least wait when something is due that the core has nothing to do about."""


class Core(Protocol):
    """What the loop needs of `relaybroker.domain.broker.Broker`."""

    state: State

    def handle(self, item: Input, now: float) -> Decision:
        """Decide about one input."""

    def on_time(self, now: float) -> Decision:
        """Do what is due."""

    def next_deadline(self) -> float | None:
        """When something is due."""


class Dispatch(Protocol):
    """What the loop needs of `relaybroker.node.dispatch.Dispatcher`."""

    def carry_out_written(self, effects: Sequence[Effect]) -> None:
        """Hand effects to their adapters, in order; the events behind them are written."""

    def carry_out(self, events: Sequence[Recorded], effects: Sequence[Effect]) -> None:
        """Hand effects to their adapters, in order; `events` are durable."""


class Recorder(Protocol):
    """What the loop needs of `relaybroker.replay.recording.Recording`."""

    def take(self, decisions: Sequence[Decision]) -> None:
        """Record turns whose events are durable; never waits, never raises."""


class _Decided(NamedTuple):
    written: asyncio.Future[int]
    committed: asyncio.Future[int]
    at: float
    turns: list[Decision]
    events: list[Recorded]
    effects: list[Effect]
    snapshot: Snapshot | None


class Ending(NamedTuple):
    """How a run ended."""

    status: int
    reason: str


class Runtime:
    """The loop.

    Args:
        core: the broker core, folded up to the end of the journal.
        journal: where events become durable.
        snapshots: where the state is kept now and then; None = nowhere.
        recorder: who records the turns; None = nobody.
        committed: hears of each batch how long it took to become durable, in seconds.
        clock: None = one that goes on from the newest record.
        snapshot_every: events between two snapshots.
    """

    def __init__(
        self,
        core: Core,
        journal: Journal,
        *,
        snapshots: SnapshotFile | None,
        recorder: Recorder | None = None,
        committed: Callable[[float], None] = lambda _: None,
        clock: SteadyClock | None = None,
        snapshot_every: int = SNAPSHOT_EVERY,
    ) -> None:
        self.inbox = Inbox()
        self._core = core
        self._journal = journal
        self._snapshots = snapshots
        self._recorder = recorder
        self._committed = committed
        self._clock = clock or SteadyClock(core.state.now)
        self._snapshot_every = snapshot_every
        self._snapshot_at = core.state.position + snapshot_every
        self._saving: asyncio.Task[None] | None = None
        self._now = core.state.now
        self._decided: asyncio.Queue[_Decided] = asyncio.Queue(PIPELINE)
        self._written: asyncio.Queue[_Decided] = asyncio.Queue(PIPELINE)
        self._ending: asyncio.Future[Ending] | None = None
        self._progress = asyncio.Event()

    async def run(self, dispatch: Dispatch) -> Ending:
        """Run until the core asks to exit, or something fails."""
        self._ending = asyncio.get_running_loop().create_future()
        tasks = [
            asyncio.create_task(self._guarded(self._decide()), name="core"),
            asyncio.create_task(self._guarded(self._carry_out_written(dispatch)), name="effects within the machine"),
            asyncio.create_task(self._guarded(self._carry_out(dispatch)), name="effects"),
        ]
        try:
            return await self._ending
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._saving is not None:
                await asyncio.gather(self._saving, return_exceptions=True)

    def end(self, status: int, reason: str) -> None:
        """End the run: the core has said its last word."""
        if self._ending is not None and not self._ending.done():
            self._ending.set_result(Ending(status, reason))

    def fail(self, error: BaseException) -> None:
        """End the run because going on could break a promise. Called with the journal's failure too."""
        if self._ending is not None and not self._ending.done():
            _log.critical("the broker stops, its agents live on: %s", error, exc_info=error)
            self.end(1, f"{type(error).__name__}: {error}")

    async def reached(self, condition: Callable[[State], bool], limit_s: float) -> bool:
        """Wait until the state satisfies a condition, at most this long; whether it does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while not condition(self._core.state):
                    self._progress.clear()
                    await self._progress.wait()
        return condition(self._core.state)

    async def settled(self, limit_s: float) -> None:
        """Wait until everything that is decided by now is durable, at most this long."""
        position = self._core.state.position
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._journal.position < position:
                    self._progress.clear()
                    await self._progress.wait()

    async def save_snapshot(self) -> None:
        """Keep the state as it is, once it is durable. For a clean end; what was decided after the last word may be in no log."""
        position = self._core.state.position
        if self._snapshots is not None and position and await self._journal.append([]) == position:
            await self._save(Snapshot(position, domain_state.encode(self._core.state)))

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the promise of this module: whatever it is, nothing leaves any more
            self.fail(error)

    # --- deciding -----------------------------------------------------------------------------------------------------

    async def _decide(self) -> None:
        idle = False
        rest: list[Input] = []
        while True:
            inputs = rest or await self.inbox.take(self._wait_s(idle=idle))
            now = self._now = max(self._now, self._clock())
            turns: list[Decision] = []
            if leapt_s := self._clock.take_leap():
                turns.append(self._core.handle(ClockLeapt(by_s=leapt_s), now))
            due = self._core.next_deadline()
            if due is not None and due <= now:
                turns.append(self._core.on_time(now))
                idle = not turns[-1].events
            until, decided = time.monotonic() + ROUND_S, 0
            while decided < len(inputs) and (not decided or time.monotonic() < until):
                turns.append(self._core.handle(inputs[decided], now))
                decided += 1
            rest = inputs[decided:]
            events = [recorded for turn in turns for recorded in turn.events]
            effects = [effect for turn in turns for effect in turn.effects]
            if events or effects:
                await self._journal.room()
                written = asyncio.get_running_loop().create_future()
                committed = self._journal.append(events, written)
                await self._decided.put(
                    _Decided(written, committed, time.monotonic(), turns, events, effects, self._due_snapshot())
                )
            await asyncio.sleep(0)  # readers and writers get their turn however full the inbox is

    def _wait_s(self, *, idle: bool) -> float | None:
        due = self._core.next_deadline()
        if due is None:
            return None
        return max(due - self._clock(), _IDLE_STEP_S if idle else 0.0)

    def _due_snapshot(self) -> Snapshot | None:
        position = self._core.state.position
        if self._snapshots is None or position < self._snapshot_at:
            return None
        self._snapshot_at = position + self._snapshot_every
        return Snapshot(position, domain_state.encode(self._core.state))

    # --- carrying out -------------------------------------------------------------------------------------------------

    async def _carry_out_written(self, dispatch: Dispatch) -> None:
        """The first batch waits for the disk: lost in a crash of the machine, the start of this process would leave a clean end behind."""
        is_started = False
        while True:
            decided = await self._decided.get()
            await (decided.written if is_started else decided.committed)
            is_started = True
            dispatch.carry_out_written([one for one in decided.effects if GRADES[type(one)] is Grade.WRITTEN])
            await self._written.put(decided)

    async def _carry_out(self, dispatch: Dispatch) -> None:
        while True:
            decided = await self._written.get()
            await decided.committed
            if decided.events:
                self._committed(time.monotonic() - decided.at)
            if self._recorder is not None:
                self._recorder.take(decided.turns)
            dispatch.carry_out(decided.events, [one for one in decided.effects if GRADES[type(one)] is Grade.DURABLE])
            self._progress.set()
            if decided.snapshot is not None and self._saving is None:
                self._saving = asyncio.create_task(self._save(decided.snapshot), name="snapshot")
            await asyncio.sleep(
                0
            )  # what this batch gave to the sockets is written before the next one, also when both are durable

    async def _save(self, snapshot: Snapshot) -> None:
        assert self._snapshots is not None
        try:
            await asyncio.to_thread(self._snapshots.save, self._journal, snapshot)
        except OSError as error:
            _log.warning("no snapshot at %d, recovery will take longer: %s", snapshot.position, error)
        finally:
            self._saving = None
