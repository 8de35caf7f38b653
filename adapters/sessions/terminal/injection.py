"""Types deliveries into one program, one at a time, in order: text, the program's reaction, Enter, and the proof that it was taken.

The procedure for one delivery:
1. Wait until the program is ready and no question is on the screen. Look who has the terminal: a shell or interpreter is shown the message
   and gets nothing typed; while the program works, is suspended, or a person types, what waits is handed back.
2. Take the keyboard. Write the text, as a bracketed paste when the program asked for that; what waits behind it goes into the same
   paste where the profile allows it (`coalesce`), each message with reports of its own.
3. Wait until the text stands: in the composer, where the program has one; else until the terminal reacts. A text of which nothing came (a
   program that drops its input after the start) is written again. Look again for a question: Enter must never answer one.
4. Write CR and give the keyboard back.
5. Wait for what follows Enter (`proof.py`): only then is the delivery typed; report `Injected` with that evidence. A text that still stands
   gets Enter again, at most `MAX_ENTERS` times; then the terminal is reported as blocked by the draft until the text goes in or a person
   changes it.

What fails before a byte was written is handed back (`typed="no"`). What fails later leaves a *draft*: nothing else is
typed on top of it; the same delivery, asked for again, goes on where it stopped, so that it is typed once (F084).
Source: node-protocol.md 6.5-6.7; real-agents.md; failure-scenarios.md 3.D; PROOF, TYPED-ONCE, SAFE-KEYS; ADR-0042.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.host import tasks
from relaybroker.adapters.sessions.host.news import FIRST_LOOK_S, LAST_LOOK_S, News
from relaybroker.adapters.sessions.host.process_table import Wait
from relaybroker.adapters.sessions.host.protocol import Inject, Injected, InjectFailed, Verified
from relaybroker.adapters.sessions.terminal import proof, steering, typed_text
from relaybroker.adapters.sessions.terminal.draft import Draft
from relaybroker.adapters.sessions.terminal.echo import Echo
from relaybroker.adapters.sessions.terminal.enter_pace import EnterPace
from relaybroker.adapters.sessions.terminal.occupation import DRIVING
from relaybroker.adapters.sessions.terminal.proof import Proof, Standing
from relaybroker.adapters.sessions.terminal.sequences import plain_text
from relaybroker.adapters.sessions.terminal.typed_text import ENTER
from relaybroker.adapters.sessions.terminal.view import solid
from relaybroker.adapters.sessions.terminal.writer import WriteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from relaybroker.adapters.sessions.host.output_ring import OutputRing
    from relaybroker.adapters.sessions.terminal.access import Access
    from relaybroker.adapters.sessions.terminal.foreground import Foreground
    from relaybroker.adapters.sessions.terminal.harnesses import Profile
    from relaybroker.adapters.sessions.terminal.line import Line
    from relaybroker.adapters.sessions.terminal.occupation import Occupant

MAX_QUEUED = 256
MAX_TEXT_BYTES = 16 * 1024
"""Longer texts are refused as `too_large` (F083)."""
MAX_PASTE_BYTES = 32 * 1024
"""Several messages that go in as one paste are together not longer."""
QUIET_S = 0.02
"""A program that showed something else than the marker has reacted when it is silent for this long."""
FLEETING_S = 0.25
"""So long what is often gone at the next look may keep the terminal before anything is handed back."""
STANDS_S = 3.0
"""A composer shows what was pasted within this time, or the program dropped it."""
DROPPED_QUIET_S = 1.0
MUTE_S = STANDS_S + 2.0
"""A program that by then has read text and space, waits for its keyboard again and shows neither, gets Enter."""
UNKNOWN_S = 0.5
"""So long a screen without a composer is waited for after the text was written."""
UNREAD_S = 30.0
"""A program that has not even read the text by then is not waited for any longer before Enter."""
SETTLE_S = 2.0
"""Longest wait, beyond the profile's, for a program that goes on writing between text and Enter."""
MAX_WRITES = 3
"""Times a text is written that the program drops."""
MAX_ENTERS = 4
MAX_SPOILED = 1024
OUT_OF_TURN = "out_of_turn"
"""Why a delivery is handed back that waited behind one that was not typed."""


_COMPLETES = re.compile(r"(?:(?:^|\s)[:/#$!~]\S*|@\S*|\\)\Z")
"""Last words behind which Enter completes something, or (a backslash) breaks the line."""


class Injector:
    """The queue and the procedure of one session; runs as one task from `start` to `close`."""

    def __init__(self, line: Line, on_verify: Callable[[Inject, Callable[[OutputRing], bool], bool], None]) -> None:
        self._line = line
        self._queue: deque[Inject] = deque()
        self._current: tuple[Inject, ...] = ()
        self._draft: Draft | None = None
        self._draft_in_composer = False
        self._spoiled: deque[str] = deque(maxlen=MAX_SPOILED)
        """Deliveries whose draft a person touched: they may have been submitted, so they are never retyped."""
        self._has_echoed = False
        self._pace = EnterPace()
        self._task: asyncio.Task[None] | None = None
        self._news = News()
        self._on_verify = on_verify

    # --- called by the session ---------------------------------------------------------------------------------------

    @property
    def queued(self) -> tuple[str, ...]:
        """Delivery ids accepted and not yet typed, in order."""
        return tuple(inject.delivery_id for inject in (*self._current, *self._queue))

    @property
    def is_idle(self) -> bool:
        return not self._queue and not self._current

    def start(self, on_failure: Callable[[BaseException], None]) -> None:
        """Begin to type. `on_failure` is called when the procedure itself fails: nothing would ever be typed again."""
        self._task = tasks.start(self._run(), on_failure)

    def accept(self, inject: Inject) -> None:
        """Queue a delivery, or refuse it with a report. A delivery that is queued already is left where it is."""
        if any(current.delivery_id == inject.delivery_id for current in self._current):
            return
        for index, waiting in enumerate(self._queue):
            if waiting.delivery_id == inject.delivery_id:
                self._queue[index] = inject  # the same place, the newer attempt
                return
        if inject.delivery_id in self._spoiled:
            self._fail(inject, "composer_unclear", typed="partly")
        elif len(self._queue) >= MAX_QUEUED:
            self._fail(inject, "queue_full")
        elif len(inject.text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
            self._fail(inject, "too_large")
        elif self._draft is not None and (place := self._draft.place(inject.delivery_id)) is not None:
            places = [self._draft.place(waiting.delivery_id) for waiting in self._queue]
            self._queue.insert(sum(other is not None and other < place for other in places), inject)
        else:
            self._queue.append(inject)
        self._news.notify()

    def person_typed(self, data: bytes, *, ended: bool) -> None:
        """A person's keys went into the terminal; those that submit or clear the line end a standing draft.

        Enter alone changes nothing in a text that waits for the proof of Enter: what follows is looked at as before.
        """
        draft = self._draft
        if draft is None or not self._draft_in_composer or (self._current and data == ENTER):
            return
        for inject in draft.injects:
            if inject.delivery_id not in self._spoiled:
                self._spoiled.append(inject.delivery_id)
        asked_again = [inject for inject in self._queue if draft.place(inject.delivery_id) is not None]
        for inject in asked_again:
            self._queue.remove(inject)
        for inject in draft.injects if self._current else asked_again:
            self._fail(inject, "composer_unclear", typed="partly")
        if self._current or ended:
            self._end_draft()

    def notify(self) -> None:
        """Something changed that an injection may wait for: output, readiness, a dialog gone, a new delivery."""
        self._news.notify()

    async def close(self, reason: str) -> None:
        """Stop typing and hand everything back with `reason`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        current, self._current = self._current, ()
        for inject in current:
            partly = self._draft is not None and self._draft.place(inject.delivery_id) is not None
            self._fail(inject, reason, typed="partly" if partly else "no")
        self._return_queue(reason)

    # --- the procedure -----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._news.until(lambda: bool(self._queue) and self._line.may_type() and self._fits_draft())
            access = await self._look()
            if access is None:
                continue
            occupant = self._obstacle(access)
            if occupant is not None and not (self._queue[0].while_busy and occupant.patience_s) and self._draft is None:
                self._line.occupied_by(occupant)
                self._return_queue(occupant.reason)
                continue
            if self._is_shown(access):
                await self._show()
                continue
            await self._line.writer.hold()
            try:
                if not (self._queue and self._line.may_type() and self._fits_draft()):
                    continue  # what a person was just typing changed it
                self._current = self._take(access.profile)
                typed = await self._type(self._current, access)
            finally:
                self._line.writer.release()
            if typed:
                await self._prove(access)
            self._current = ()
            if typed and access.profile.gap_ms:
                await self._news.pause(access.profile.gap_ms / 1000)

    def _is_shown(self, access: Access) -> bool:
        """The next delivery is put on the terminal by the host, and nothing of it is typed."""
        return access.shows and not self._queue[0].task

    def _obstacle(self, access: Access) -> Occupant | None:
        """Who keeps the next delivery out. What is shown disturbs no person who types."""
        occupant = access.occupant
        return None if occupant is not None and occupant.reason == DRIVING and self._is_shown(access) else occupant

    async def _look(self) -> Access | None:
        """Who has the terminal now; None when nothing may be typed at all, or nothing is left to type.

        What is often gone at the next look is given a moment.
        """
        line = self._line
        deadline = asyncio.get_running_loop().time() + FLEETING_S
        wait = FIRST_LOOK_S
        while self._queue and line.may_type():
            access = await line.access()
            occupant = self._obstacle(access)
            if access.question is None and (occupant is None or not occupant.is_fleeting):
                return access
            if access.question is None and asyncio.get_running_loop().time() >= deadline:
                return access
            await self._news.next(wait)
            wait = min(2 * wait, LAST_LOOK_S)
        return None

    def _fits_draft(self) -> bool:
        return self._draft is None or (bool(self._queue) and self._draft.place(self._queue[0].delivery_id) is not None)

    def _take(self, profile: Profile) -> tuple[Inject, ...]:
        """The next delivery, and those behind it that go into the same paste; or what stands in the composer."""
        taken = [self._queue.popleft()]
        while self._queue and self._joins(profile, taken, self._queue[0]):
            taken.append(self._queue.popleft())
        return tuple(taken)

    def _joins(self, profile: Profile, taken: list[Inject], following: Inject) -> bool:
        if self._draft is not None:
            return self._draft.place(following.delivery_id) is not None
        if not (profile.coalesce and self._line.bracketed_paste):
            return False
        size = sum(len(inject.text.encode("utf-8", "replace")) + 2 for inject in (*taken, following))
        is_late = any(0 < inject.expires_at <= time.time() for inject in (*taken, following))
        is_alike = taken[0].while_busy == following.while_busy and not taken[0].steer and not following.steer
        return is_alike and not is_late and size <= MAX_PASTE_BYTES

    async def _show(self) -> None:
        """Put what waits on the terminal of a program that would run what it is typed."""
        inject = self._queue[0]
        if 0 < inject.expires_at <= time.time():
            self._queue.popleft()
            self._fail(inject, "expired")
        elif self._line.show(typed_text.sanitise(inject.text)):
            self._queue.popleft()
            self._line.report(
                Injected(
                    delivery_id=inject.delivery_id,
                    attempt=inject.attempt,
                    bytes_written=0,
                    evidence="shown",
                    wait_ms=0.0,
                )
            )
            self._line.report(Verified(delivery_id=inject.delivery_id, verification="echo"))
        else:
            await self._news.next(LAST_LOOK_S)

    async def _type(self, injects: tuple[Inject, ...], access: Access) -> bool:
        """Steps 2 to 4: text and Enter. False when the deliveries were handed back."""
        draft = self._draft
        if draft is None:
            draft = await self._begin(injects, access)
            if draft is None:
                self._queue.extendleft(reversed(injects[1:]))
                return False
        else:
            newer = {inject.delivery_id: inject for inject in injects}
            draft.injects = tuple(newer.get(inject.delivery_id, inject) for inject in draft.injects)
        line = self._line
        self._draft = draft
        line.typing(draft.text)
        try:
            if draft.at_once or self._goes_in_at_once(draft, access):
                draft.rest += b"" if draft.at_once else ENTER
                draft.at_once = True
                draft.enter_at, draft.written_at = line.ring.end, asyncio.get_running_loop().time()
                draft.written += await line.writer.write(draft.rest)
                draft.rest = b""
            elif (submit := await self._write_text(draft, access)) is None:
                self._hand_back(injects, draft, "blocked_by_dialog")
                return False
            else:
                draft.enter_at = line.ring.end
                draft.written += await line.writer.write(submit)
        except WriteError as error:
            draft.written += error.written
            draft.rest = draft.rest[error.written :]
            self._hand_back(injects, draft, "pty_write_failed")
            return False
        draft.waited_ms = (asyncio.get_running_loop().time() - draft.written_at) * 1000
        return True

    def _goes_in_at_once(self, draft: Draft, access: Access) -> bool:
        """The terminal collects the line: the program gets nothing before Enter, and what the kernel shows meanwhile says nothing."""
        is_plain = not access.profile.composer and not self._line.bracketed_paste
        return is_plain and not draft.written and self._line.line_discipline()[0]

    async def _write_text(self, draft: Draft, access: Access) -> bytes | None:
        """Write the text until it stands; what submits it, None when a question came up.

        Raises:
            WriteError: also when the program drops the text each time.
        """
        line, profile = self._line, access.profile
        for _ in range(MAX_WRITES):
            if draft.rest:
                draft.written += await line.writer.write(draft.rest)
                draft.rest = b""
                draft.written_at = asyncio.get_running_loop().time()
            if not profile.composer:
                await self._reaction(draft, profile)
                break
            if await self._wait_until_shown(draft, access.foreground) is not Standing.GONE:
                break
            draft.rest, draft.written = typed_text.as_typed(draft.text, self._line, profile) or b"", 0
        else:
            raise WriteError("the program drops what it is typed", 0)
        submit = b" " + ENTER if profile.completes and _COMPLETES.search(draft.text) else ENTER
        draft.pauses = self._pace.pauses(access.foreground, bracketed_paste=line.bracketed_paste)
        if draft.pauses:
            await self._settle(profile)
            if submit != ENTER:
                draft.written += await line.writer.write(submit[:1])
                submit = ENTER
                await self._settle(profile)
        seen = await line.access(access.foreground)
        draft.before = proof.before(seen, draft.needle, collects_lines=line.line_discipline()[0])
        return submit if proof.ends_at_cursor(seen, draft.needle) or seen.question is None else None

    async def _wait_until_shown(self, draft: Draft, foreground: Foreground) -> Standing:
        """Wait until the composer shows what was written; GONE when the program dropped it.

        A program that starts may take its time, or throw away what came early. Which of the two it was, a space tells: keys are read in
        order, so when the space shows and the text does not, the text is lost. (It is rubbed out again.)
        """
        line, loop = self._line, asyncio.get_running_loop()
        begun = loop.time()
        probed: tuple[int, int] | None = None
        while True:
            access = await line.access(foreground)
            standing = proof.standing(access)
            now = loop.time()
            if standing is Standing.TEXT or access.question is not None:
                return standing
            if standing is Standing.UNKNOWN and (
                proof.tail(access, draft.needle) is not None or now - begun >= UNKNOWN_S
            ):
                return standing
            cursor = (access.view.row, access.view.column)
            is_still = not line.unread() and now - line.last_output_at >= DROPPED_QUIET_S
            if probed is None and standing is Standing.GONE and now - begun >= STANDS_S and is_still:
                probed = cursor
                await line.writer.write(b" ")
            elif probed is not None and cursor != probed and standing is Standing.GONE:
                await line.writer.write(b"\x7f")
                return Standing.GONE
            elif now - begun >= UNREAD_S or (probed is not None and now - begun >= MUTE_S and _is_read(access, line)):
                return Standing.UNKNOWN  # it shows nothing before Enter
            await self._news.next(LAST_LOOK_S)

    async def _settle(self, profile: Profile) -> None:
        """Let the program fall silent for as long as it needs to tell Enter from a part of a paste."""
        collects_lines, _ = self._line.line_discipline()
        if not profile.settle_ms or (collects_lines and not profile.composer):
            return
        loop = asyncio.get_running_loop()
        quiet = profile.settle_ms / 1000
        deadline = loop.time() + quiet + SETTLE_S
        begun = loop.time()
        while (left := max(begun, self._line.last_output_at) + quiet - loop.time()) > 0 and loop.time() < deadline:
            await self._news.pause(left)

    async def _prove(self, access: Access) -> None:
        """Step 5: wait for what follows Enter; report the deliveries as typed, or that their text stands."""
        draft = self._draft
        assert draft is not None
        loop = asyncio.get_running_loop()
        watch = Proof(access.profile, draft.needle, draft.before, draft.enter_at, loop.time(), at_once=not draft.pauses)
        while self._draft is draft:
            await self._news.next(watch.patience(loop.time()))
            seen = await self._line.access(access.foreground) if watch.needs_screen else None
            evidence = watch.look(seen, self._line, loop.time())
            if (evidence or watch.takes_long(loop.time())) and self._line.is_unpainted(access.foreground):
                watch.disturbed()
            elif evidence:
                self._pace.note(access.foreground, watch.enters, answered=watch.answered)
                self._end_draft()
                self._tell(draft, evidence)
                return
            elif watch.wants_enter(loop.time()) and watch.enters < MAX_ENTERS:
                await self._enter_again(watch, draft)
            elif watch.has_vanished(loop.time()):
                self._give_back_vanished(draft)
            elif watch.is_late(loop.time()) and not self._draft_in_composer:
                self._draft_in_composer = True
                self._line.draft_changed(in_composer=True)

    async def _enter_again(self, watch: Proof, draft: Draft) -> None:
        line = self._line
        await line.writer.hold()
        try:
            seen = await line.access()
            if seen.question is not None or seen.foreground.stopped or not line.may_type():
                return
            watch.entered(line.ring.end, asyncio.get_running_loop().time())
            draft.written += await line.writer.write(ENTER)
        except WriteError:
            return
        finally:
            line.writer.release()

    def _give_back_vanished(self, draft: Draft) -> None:
        """The text stands nowhere, and nothing proves that it went in (a program that reads and ignores what comes at a bad moment).

        If the program never showed any of it, it is to be typed again; else nobody knows.
        """
        ring = self._line.ring
        shown = solid(plain_text(ring.since(draft.start)))
        needles = (draft.needle, *(solid(inject.marker) for inject in draft.injects))
        was_shown = ring.start > draft.start or any(needle and needle in shown for needle in needles)
        reason, typed = ("composer_unclear", "partly") if was_shown else ("pty_write_failed", "no")
        self._end_draft()
        for inject in draft.injects:
            self._fail(inject, reason, typed=typed)
        self._return_queue(OUT_OF_TURN)

    def _tell(self, draft: Draft, evidence: str) -> None:
        """A report for each that was typed, also for one that was not asked for again: it is never typed twice."""
        lengths = [len(typed_text.sanitise(inject.text).encode()) for inject in draft.injects[:-1]]
        for inject, written in zip(draft.injects, (*lengths, draft.written - sum(lengths)), strict=True):
            echo = Echo(solid(inject.marker) or typed_text.needle(inject.text), draft.start)
            seen = echo.seen(self._line.ring)
            self._line.report(
                Injected(
                    delivery_id=inject.delivery_id,
                    attempt=inject.attempt,
                    bytes_written=written,
                    evidence=evidence,
                    wait_ms=round(draft.waited_ms, 3),
                )
            )
            self._on_verify(inject, echo.seen, seen)

    async def _begin(self, injects: tuple[Inject, ...], access: Access) -> Draft | None:
        line, inject, profile = self._line, injects[0], access.profile
        if 0 < inject.expires_at <= time.time():
            self._fail(inject, "expired")
            return None
        if inject.steer and profile.steer_keys and access.sight.works:
            try:
                obstacle = await steering.interrupt(line, self._news)
            except WriteError:
                obstacle = "pty_write_failed"
            if obstacle:
                self._fail(inject, obstacle)
                self._return_queue(OUT_OF_TURN)
                return None
        draft = Draft(injects, b"", 0, line.ring.end)
        data = typed_text.as_typed(draft.text, self._line, profile)
        if data is None:
            self._fail(inject, "too_large")
            return None
        draft.rest = data
        return draft

    async def _reaction(self, draft: Draft, profile: Profile) -> None:
        """Step 3 for a program without composer: wait until it shows the text, fell silent after something else, or the bound is over."""
        line = self._line
        loop = asyncio.get_running_loop()
        echo = Echo(draft.needle, draft.start)
        echoes = line.line_discipline()[1] or self._has_echoed or line.bracketed_paste
        deadline = loop.time() + (profile.echo_wait_ms if echoes else profile.silent_wait_ms) / 1000
        while not echo.seen(line.ring):
            now = loop.time()
            moved = line.ring.end > echo.start
            until = min(deadline, line.last_output_at + QUIET_S) if moved else deadline
            if now >= until:
                self._has_echoed = self._has_echoed or moved
                return
            await self._news.next(until - now)
        self._has_echoed = True

    # --- failures ----------------------------------------------------------------------------------------------------

    def _hand_back(self, injects: tuple[Inject, ...], draft: Draft, reason: str) -> None:
        if not draft.written:
            self._draft = None
        elif not self._draft_in_composer:
            self._draft_in_composer = True
            self._line.draft_changed(in_composer=True)
        for inject in injects:
            self._fail(inject, reason, typed="partly" if draft.written else "no")
        if not draft.written:
            self._return_queue(OUT_OF_TURN)

    def _return_queue(self, reason: str) -> None:
        """Hand back what waits: when a delivery is going to be tried again, those behind it must not overtake it."""
        while self._queue:
            self._fail(self._queue.popleft(), reason)

    def _end_draft(self) -> None:
        self._draft = None
        if self._draft_in_composer:
            self._draft_in_composer = False
            self._line.draft_changed(in_composer=False)
            self._news.notify()

    def _fail(self, inject: Inject, reason: str, *, typed: str = "no") -> None:
        self._line.report(
            InjectFailed(delivery_id=inject.delivery_id, attempt=inject.attempt, reason=reason, typed=typed)
        )


def _is_read(access: Access, line: Line) -> bool:
    """The program has read all that was typed and waits for more."""
    return line.unread() == 0 and access.waits() in (Wait.READ, Wait.POLL)
