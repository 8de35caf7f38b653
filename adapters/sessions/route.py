"""Leads the deliveries of one session through its door: one at a time, in order, and each only when the program may take it now.

The procedure for one delivery:
1. Wait until the program is ready. While it works or asks a person something, what waits is handed back; a `steer` message goes in, if the
   door folds it into the running turn.
2. Hand it over. If the door raises `NotHandedOver`, nothing has left: the next door is chosen, which is reported before anything else,
   and everything is handed back, so that nothing enters by the new door before the broker knows of it.
3. Wait for the program's own evidence and report `Injected` with it. If it does not come within the bound, or the session ends, the
   delivery is handed back as `unknown`: nobody hands it over again before it was looked up and is absent.

Source: ADR-0093; failure-scenarios.md PROOF, TYPED-ONCE, ORDER.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from relaybroker.adapters.pty import tasks
from relaybroker.adapters.pty.news import News
from relaybroker.adapters.pty.protocol import (
    Blocked,
    DoorChosen,
    Fact,
    Freed,
    Inject,
    Injected,
    InjectFailed,
    Occupied,
)
from relaybroker.adapters.sessions.door import MAX_PLACE, MAX_POINTER, Evidence, NotHandedOver, Opened, PassedOver

if TYPE_CHECKING:
    from collections.abc import Callable

    from relaybroker.adapters.sessions.door import Door
    from relaybroker.adapters.sessions.kinds import Prepared

MAX_QUEUED = 256
MAX_TEXT_BYTES = 16 * 1024
"""Longer texts are refused as `too_large` (F083)."""
OPEN_S = 15.0
"""A program that is ready offers its door within this time, or the door is passed over."""
EVIDENCE_S = 15.0
"""A program that is not at work shows within this time that it took what it was handed, or it is in doubt."""
EVIDENCE_AT_WORK_S = 1800.0
"""So long it may be at work before that; the broker waits longer (`HOST_SILENT_S`)."""
AT_WORK_LOOK_S = 1.0
"""Whether it still is at work is looked at so often."""
LOOK_S = 0.1
"""A door through which something waits to go is looked at so often."""
MAX_DOUBTFUL = 1024
"""Deliveries that may have been taken, and are not handed over again, as far as this is remembered."""
CLOSE_S = 2.0
"""Longest wait for a door to close."""
ASKS = "question"
"""What a program is blocked by that asks a person something, as its door says."""
NO_EVIDENCE, OUT_OF_TURN = "no_evidence", "out_of_turn"

_logger = logging.getLogger(__name__)


class Passage(Protocol):
    """What a route needs of its session."""

    def may_type(self) -> bool:
        """The program is ready, and no question is on its screen."""

    @property
    def busy_patience_s(self) -> float:
        """What has waited so long for a program that works goes in all the same, where the door folds it into the turn."""

    def report(self, fact: Fact) -> None: ...
    def asks(self, blocked: Blocked | None) -> None:
        """What the program asks a person, as its door says; None: nothing. Told again as often as it likes."""

    def type(self, inject: Inject) -> None:
        """Give a delivery to the terminal."""


class Route:
    """The door of one session and what waits for it; runs as one task from `start` to `close`. Without door everything is typed."""

    def __init__(self, passage: Passage, prepared: Prepared) -> None:
        self._passage = passage
        self._doors = deque(prepared.doors)
        self._passed_over = dict(prepared.passed_over)
        self._door: Door | None = None
        self.is_chosen = False
        """It was reported by which door deliveries enter."""
        self._queue: deque[Inject] = deque()
        self._current: Inject | None = None
        """Handed over, and nothing has shown yet that it was taken."""
        self._doubtful: deque[str] = deque(maxlen=MAX_DOUBTFUL)
        self._news = News()
        self._task: asyncio.Task[None] | None = None

    # --- called by the session ---------------------------------------------------------------------------------------

    @property
    def queued(self) -> tuple[str, ...]:
        """Delivery ids that were accepted and have not entered, in order."""
        current = () if self._current is None else (self._current,)
        return tuple(inject.delivery_id for inject in (*current, *self._queue))

    @property
    def is_idle(self) -> bool:
        """Nothing is on its way, and the program is not at work, as far as its door says."""
        return not self._queue and self._current is None and (self._door is None or self._door.state != "busy")

    def start(self, on_failure: Callable[[BaseException], None]) -> None:
        """Begin. `on_failure` is called when the procedure itself fails: nothing would ever enter again."""
        self._task = tasks.start(self._run(), on_failure)

    def accept(self, inject: Inject) -> None:
        """Queue a delivery, or refuse it with a report. One that is on its way already is left where it is."""
        if self.is_chosen and self._door is None:
            self._passage.type(inject)
            return
        if self._current is not None and self._current.delivery_id == inject.delivery_id:
            self._current = inject  # what comes of it is the outcome of the newer attempt
            return
        for index, waiting in enumerate(self._queue):
            if waiting.delivery_id == inject.delivery_id:
                self._queue[index] = inject  # the same place, the newer attempt
                return
        if inject.delivery_id in self._doubtful:
            self._fail(inject, NO_EVIDENCE, typed="unknown")
        elif len(self._queue) >= MAX_QUEUED:
            self._fail(inject, "queue_full")
        elif len(inject.text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
            self._fail(inject, "too_large")
        else:
            self._queue.append(inject)
        self._news.notify()

    def notify(self) -> None:
        """The program became ready, or a question is gone."""
        self._news.notify()

    def door_for_look_up(self, name: str) -> Door | None:
        """The session's own door, if it is of this name and open."""
        is_it = self._door is not None and self._door.name == name and self._door.state != "closed"
        return self._door if is_it else None

    def asking(self, question_id: str) -> Door | None:
        """The door whose program asks this now."""
        question = self._door.question if self._door is not None else None
        return self._door if question is not None and question.id == question_id else None

    def is_absent(self, delivery_id: str) -> None:
        """It is proved that the program did not take it: it may be handed over again."""
        while delivery_id in self._doubtful:
            self._doubtful.remove(delivery_id)

    async def close(self, reason: str) -> None:
        """Hand everything back with `reason`, and close the door. What was handed over and is not proved to be taken is `unknown`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        current, self._current = self._current, None
        if current is not None:
            self._fail(current, reason, typed="unknown")
        self._return_queue(reason)
        doors = [*([self._door] if self._door is not None else []), *self._doors]
        self._doors.clear()
        for door in doors:
            await _close(door)

    # --- the procedure -----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        await self._choose()
        while self._door is None and self._queue:
            self._passage.type(self._queue.popleft())
        while self._door is not None:
            await self._news.until(lambda: bool(self._queue) and self._passage.may_type())
            await self._lead(self._door)

    def _look_at_question(self) -> None:
        """Tell what the door says that is asked; it is known at once, also while nothing waits to enter."""
        question = self._door.question if self._door is not None else None
        self._passage.asks(Blocked(pattern=question.kind, question=question) if question is not None else None)
        self._news.notify()

    async def _choose(self) -> None:
        """Take the first of the doors that opens, and report it before anything enters by it."""
        self._door, self.is_chosen, opened = None, False, Opened()
        while self._doors and self._door is None:
            door = self._doors[0]
            outcome = await self._open(door)
            self._doors.popleft()
            if isinstance(outcome, PassedOver):
                self._passed_over[door.name] = outcome.reason
                await _close(door)
            else:
                self._door, opened = door, outcome
        self.is_chosen = True
        name = self._door.name if self._door is not None else ""
        self._passage.report(DoorChosen(door=name, place=opened.place[:MAX_PLACE], passed_over=dict(self._passed_over)))
        self._look_at_question()

    async def _open(self, door: Door) -> Opened | PassedOver:
        """Open a door. The time that a person takes for a question in front of it does not count."""
        door.on_change = self._look_at_question
        opening = asyncio.ensure_future(door.open())
        opening.add_done_callback(lambda _opening: self._news.notify())
        try:
            await self._news.until(lambda: opening.done() or self._passage.may_type())
            if not opening.done():
                await asyncio.wait([opening], timeout=OPEN_S)
            if not opening.done():
                return PassedOver(f"it did not open within {OPEN_S:g} s")
            return opening.result()
        except Exception as error:  # noqa: BLE001 - whatever a door fails with, the next one is tried, and why is reported
            return PassedOver(f"it failed: {error!r}"[:500])
        finally:
            opening.cancel()

    async def _lead(self, door: Door) -> None:
        """What becomes of the first of those that wait."""
        inject, state = self._queue[0], door.state
        if 0 < inject.expires_at <= time.time():
            self._queue.popleft()
            self._fail(inject, "expired")
        elif state == "closed":
            await self._fall_back(door, "it closed")
        elif _may_go(door, inject):
            await self._hand_over(door)
        elif state == "busy":
            patience_s = self._passage.busy_patience_s if door.folds else 0.0
            occupied = Occupied(reason="agent_busy", detail=f"{door.name}: a turn runs", patience_s=patience_s)
            await self._wait_while(door, state, occupied, "agent_busy")
            self._passage.report(Freed())
        else:  # its door says no more than that, and its screen shows nothing that is known
            self._passage.asks(Blocked(pattern=ASKS))
            await self._wait_while(door, state, None, "blocked_by_dialog")
            self._look_at_question()

    async def _wait_while(self, door: Door, state: str, obstacle: Occupied | None, reason: str) -> None:
        """Wait until the program is in another state; only what goes in all the same goes in.

        Whoever gives us something else meanwhile does not know of the obstacle (any more), and hears of it before it comes back.
        """
        while self._door is door and door.state == state:
            if self._queue and _may_go(door, self._queue[0]) and self._passage.may_type():
                await self._hand_over(door)
            elif self._queue:
                if obstacle is not None:
                    self._passage.report(obstacle)
                self._return_queue(reason)
            else:
                await self._news.next(LOOK_S)

    async def _hand_over(self, door: Door) -> None:
        inject = self._current = self._queue.popleft()
        begun = asyncio.get_running_loop().time()
        try:
            await door.hand_over(inject.delivery_id, inject.text, steer=inject.steer)
        except NotHandedOver as refusal:
            inject, self._current = self._current, None  # the newest attempt
            self._queue.appendleft(inject)
            await self._fall_back(door, str(refusal))
            return
        except Exception as error:  # noqa: BLE001 - whatever a door fails with, nobody knows what the program got: it is looked up
            _logger.warning("door %s failed in a hand-over: %r", door.name, error)
            evidence = None
        else:
            evidence = await self._evidence(door, inject.delivery_id)
        inject, self._current = self._current, None
        if evidence is None:
            self._doubtful.append(inject.delivery_id)
            self._fail(inject, NO_EVIDENCE, typed="unknown")
            self._return_queue(OUT_OF_TURN)
            return
        self._passage.report(
            Injected(
                delivery_id=inject.delivery_id,
                attempt=inject.attempt,
                bytes_written=len(inject.text.encode("utf-8", "replace")),
                evidence=evidence.kind,
                wait_ms=round((asyncio.get_running_loop().time() - begun) * 1000, 3),
                door=door.name,
                pointer=evidence.pointer[:MAX_POINTER],
            )
        )

    async def _evidence(self, door: Door, delivery_id: str) -> Evidence | None:
        """What the program shows; None when it shows nothing within the bound, which is longer while it works at something else.

        It may have begun to work, or have ended, at any moment around the hand-over: the bound counts from when it last worked.
        """
        loop = asyncio.get_running_loop()
        waiting = asyncio.ensure_future(door.evidence(delivery_id))
        worked = loop.time()
        latest = worked + EVIDENCE_AT_WORK_S
        try:
            while True:
                await asyncio.wait([waiting], timeout=min(EVIDENCE_S, AT_WORK_LOOK_S))
                if waiting.done():
                    return waiting.result()
                if door.state in ("busy", "blocked"):
                    worked = loop.time()
                if loop.time() >= min(worked + EVIDENCE_S, latest):
                    return None
        except Exception as error:  # noqa: BLE001 - a door that cannot see what the program shows proves nothing: it is looked up
            _logger.warning("door %s failed to see evidence: %r", door.name, error)
            return None
        finally:
            waiting.cancel()

    async def _fall_back(self, door: Door, reason: str) -> None:
        """Nothing was handed over: the next door is for what waits, once the broker knows of it."""
        self._passed_over[door.name] = reason
        self.is_chosen = False
        await _close(door)
        await self._choose()
        self._return_queue(OUT_OF_TURN)

    # --- failures ----------------------------------------------------------------------------------------------------

    def _return_queue(self, reason: str) -> None:
        while self._queue:
            self._fail(self._queue.popleft(), reason)

    def _fail(self, inject: Inject, reason: str, *, typed: str = "no") -> None:
        self._passage.report(
            InjectFailed(delivery_id=inject.delivery_id, attempt=inject.attempt, reason=reason, typed=typed)
        )


def _may_go(door: Door, inject: Inject) -> bool:
    return door.state == "idle" or (door.state == "busy" and door.folds and (inject.steer or inject.while_busy))


async def _close(door: Door) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await door.close()
    except Exception as error:  # noqa: BLE001 - a door that does not close properly holds nothing up
        _logger.warning("door %s did not close: %r", door.name, error)
