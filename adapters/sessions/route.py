"""Leads the deliveries of one session through its door: one at a time, in order, and each only when the program may take it now.

The procedure for one delivery:
1. Wait until the program is ready. While it works or asks a person something, what waits is handed back; a `steer` message goes in, if the
   door folds it into the running turn.
2. Hand it over. If the door raises `NotHandedOver`, nothing has left: the next door is chosen, which is reported before anything else,
   and everything is handed back, so that nothing enters by the new door before the broker knows of it.
3. Wait for the program's own evidence and report `Injected` with it. If it does not come within the bound, or the session ends, the
   delivery is handed back as `unknown`: nobody hands it over again before it was looked up and is absent.

What the program asks a person as data is reported as soon as it asks, also while nothing waits. A session without terminal has one door;
when that does not open, or closes, there is no way in, and the session is told. What a person says there goes in before what waits.

Source: ADR-0093; failure-scenarios.md PROOF, TYPED-ONCE, ORDER.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

from relaybroker.adapters.sessions.door import (
    MAX_PLACE,
    MAX_POINTER,
    Absent,
    Evidence,
    NotHandedOver,
    Opened,
    PassedOver,
    QuestionGone,
)
from relaybroker.adapters.sessions.host import tasks
from relaybroker.adapters.sessions.host.news import News
from relaybroker.adapters.sessions.host.protocol import (
    Answered,
    Blocked,
    DoorChosen,
    Fact,
    Freed,
    Inject,
    Injected,
    InjectFailed,
    Occupied,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from relaybroker.adapters.sessions.door import Door, LookedUp, PipedDoor, Question
    from relaybroker.adapters.sessions.host.protocol import AnswerQuestion
    from relaybroker.adapters.sessions.kinds import Prepared

MAX_QUEUED = 256
MAX_TEXT_BYTES = 16 * 1024
"""Longer texts are refused as `too_large` (F083)."""
EVIDENCE_S = 15.0
"""A program that is not at work shows within this time that it took what it was handed, or it is in doubt."""
EVIDENCE_AT_WORK_S = 1800.0
"""So long it may be at work before that; the broker waits longer (`HOST_SILENT_S`)."""
TURN_S = 86_400.0
"""So long a turn may take whose end is the proof; the broker waits longer (`TURN_SILENT_S`)."""
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
INTERRUPT_S = 30.0
"""A program that is told to end its turn ends it within this time."""
MAX_SAID = 32
"""Lines of people that wait until the program is idle."""
ANSWER_S = 4.0
"""A door gives an answer to its program within this time."""
NO_EVIDENCE, OUT_OF_TURN = "no_evidence", "out_of_turn"
QUESTION_CHANGED = "question_changed"
"""Nothing was answered: another question stands by now, or none."""

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

    def __init__(self, passage: Passage, prepared: Prepared, on_no_way_in: Callable[[str], None] | None = None) -> None:
        self._passage = passage
        self._on_no_way_in = on_no_way_in
        """Of a session without terminal, called with the reason once its door does not open or has closed; None: the terminal is behind."""
        self._doors = deque(prepared.doors)
        self._passed_over = dict(prepared.passed_over)
        self._door: Door | None = None
        self.is_chosen = False
        """It was reported by which door deliveries enter."""
        self._queue: deque[Inject] = deque()
        self._current: Inject | None = None
        """Handed over, and nothing has shown yet that it was taken."""
        self._said: deque[str] = deque()
        """What people said to a program without terminal."""
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
        return (
            not self._queue
            and not self._said
            and self._current is None
            and (self._door is None or self._door.state != "busy")
        )

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

    async def look_up(self, name: str, delivery_id: str) -> LookedUp | None:
        """What the program's records say, as its open door sees them; None: the session has no open door of this name.

        What is proved to be absent may be handed over again.
        """
        door = self._door
        if door is None or door.name != name or door.state == "closed":
            return None
        outcome = await door.look_up(delivery_id)
        if isinstance(outcome, Absent):
            while delivery_id in self._doubtful:
                self._doubtful.remove(delivery_id)
        return outcome

    @property
    def question(self) -> Question | None:
        """What the program asks now, as its door says it."""
        return self._door.question if self._door is not None else None

    async def answer(self, request: AnswerQuestion) -> str:
        """Give a person's answer to the program, and report it; "", or the `error` of the `Answer`."""
        door, question = self._door, self.question
        options = question.options if question is not None and question.id == request.question_id else ()
        option = next((one for one in options if one.id == request.option_id), None)
        if door is None or question is None or option is None:
            return QUESTION_CHANGED
        try:
            async with asyncio.timeout(ANSWER_S):
                await door.answer(question.id, option.id)
        except QuestionGone:
            return QUESTION_CHANGED
        except Exception as error:  # noqa: BLE001 - whatever a door fails with, nobody knows what the program got
            _logger.warning("door %s failed with an answer: %r", door.name, error)
            return "answer_not_taken"
        self._passage.report(
            Answered(
                request_id=request.request_id,
                question_id=question.id,
                question=question.kind,
                option_id=option.id,
                option=option.label,
                by=request.by,
            )
        )
        return ""

    def say(self, text: str) -> bool:
        """Give a program without terminal what a person said, once it is idle; False: too much waits."""
        if len(self._said) >= MAX_SAID:
            return False
        self._said.append(text)
        self._news.notify()
        return True

    async def interrupt(self) -> None:
        """End the turn that runs, and forget what people said that waits."""
        self._said.clear()
        if self._door is not None:
            await self._door.interrupt()

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
        while self._door is None and self.is_chosen and self._queue:
            self._passage.type(self._queue.popleft())
        while (door := self._door) is not None:
            await self._news.until(lambda door=door: self._is_wanted(door))  # type: ignore[misc]
            if self._has_closed(door):
                await self._fall_back(door, "it closed")
            elif self._said and door.state == "idle":
                await self._give(cast("PipedDoor", door), self._said.popleft())  # who else has lines of people
            elif self._queue and self._passage.may_type():
                await self._lead(door)

    def _is_wanted(self, door: Door) -> bool:
        """Something is to be done at this door."""
        waits = (self._queue and self._passage.may_type()) or (self._said and door.state == "idle")
        return bool(waits) or self._has_closed(door)

    def _has_closed(self, door: Door) -> bool:
        """A session without terminal has lost its only way in."""
        return self._on_no_way_in is not None and door.state == "closed"

    async def _give(self, door: PipedDoor, text: str) -> None:
        try:
            await door.say(text)
        except OSError as error:
            _logger.warning("what a person said was not taken through door %s: %s", door.name, error)

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
        if self._door is None and self._on_no_way_in is not None:
            self._on_no_way_in("; ".join(f"{name}: {reason}" for name, reason in self._passed_over.items()))
            return
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
                await asyncio.wait([opening], timeout=door.open_s)
            if not opening.done():
                return PassedOver(f"it did not open within {door.open_s:g} s")
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
            await self._wait_while(door, state, self._occupied(door), "agent_busy")
            self._passage.report(Freed())
        else:
            await self._wait_while_asked(door)

    def _occupied(self, door: Door) -> Occupied:
        """A turn runs. What steers goes in all the same where the door folds or interrupts, the rest only where it folds."""
        patience_s = self._passage.busy_patience_s if door.folds else TURN_S if door.interrupts else 0.0
        return Occupied(reason="agent_busy", detail=f"{door.name}: a turn runs", patience_s=patience_s)

    async def _wait_while_asked(self, door: Door) -> None:
        """A question that the door has as data is reported when it is asked; of another one nobody hears before something waits."""
        if door.question is not None:
            self._return_queue("blocked_by_question")
            return
        self._passage.asks(Blocked(pattern=ASKS))  # its screen shows nothing that is known
        await self._wait_while(door, "blocked", None, "blocked_by_dialog")
        self._look_at_question()

    async def _wait_while(self, door: Door, state: str, obstacle: Occupied | None, reason: str) -> None:
        """Wait until the program is in another state; only what goes in all the same goes in.

        Whoever gives us something else meanwhile does not know of the obstacle (any more), and hears of it before it comes back.
        """
        asked = door.question
        while self._door is door and door.state == state and door.question == asked:
            if self._queue and _may_go(door, self._queue[0]) and self._passage.may_type():
                await self._hand_over(door)
            elif self._queue:
                if obstacle is not None:
                    self._passage.report(obstacle)
                self._return_queue(reason)
            else:
                await self._news.next(LOOK_S)

    async def _make_way(self, door: Door) -> bool:
        """End the turn that runs, where the first of those that wait is to; whether the door is free for it."""
        if door.state != "busy" or not door.interrupts:
            return True
        try:
            await door.interrupt()
        except OSError as error:
            _logger.warning("door %s cannot interrupt its program: %s", door.name, error)
        if await self._news.until(lambda: not _is_busy(door), INTERRUPT_S):
            return _may_go(door, self._queue[0])
        self._passage.report(
            Occupied(reason="agent_busy", detail=f"{door.name}: it does not end its turn", patience_s=0.0)
        )
        self._return_queue("agent_busy")
        await self._news.until(lambda: not _is_busy(door))
        self._passage.report(Freed())
        return False

    async def _hand_over(self, door: Door) -> None:
        if not await self._make_way(door):
            return
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
        waiting.add_done_callback(lambda _waiting: self._news.notify())
        worked = loop.time()
        latest = worked + (TURN_S if door.proves_at_end else EVIDENCE_AT_WORK_S)
        held = False
        try:
            while not waiting.done():
                await self._news.next(min(EVIDENCE_S, AT_WORK_LOOK_S))
                if door.state in ("busy", "blocked"):
                    worked = loop.time()
                    held = await self._hold_behind(door) or held
                if not waiting.done() and loop.time() >= min(worked + EVIDENCE_S, latest):
                    return None
            return waiting.result()
        except Exception as error:  # noqa: BLE001 - a door that cannot see what the program shows proves nothing: it is looked up
            _logger.warning("door %s failed to see evidence: %r", door.name, error)
            return None
        finally:
            waiting.cancel()
            if held:
                self._passage.report(Freed())

    async def _hold_behind(self, door: Door) -> bool:
        """What waits behind a delivery whose turn runs waits with the broker, unless it is to interrupt that; whether anything does."""
        if not self._queue or not door.proves_at_end:
            return False
        if door.interrupts and self._queue[0].steer:
            await door.interrupt()
            return False
        if door.question is not None:
            self._return_queue("blocked_by_question")
            return False
        self._passage.report(self._occupied(door))
        self._return_queue("agent_busy")
        return True

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


def _is_busy(door: Door) -> bool:
    return door.state == "busy"


def _may_go(door: Door, inject: Inject) -> bool:
    if door.state == "busy" and inject.steer:
        return door.folds or door.interrupts
    return door.state == "idle" or (door.state == "busy" and door.folds and inject.while_busy)


async def _close(door: Door) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await door.close()
    except Exception as error:  # noqa: BLE001 - a door that does not close properly holds nothing up
        _logger.warning("door %s did not close: %r", door.name, error)
