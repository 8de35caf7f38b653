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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from relaybroker.adapters.pty import proof, tasks
from relaybroker.adapters.pty.enter_pace import EnterPace
from relaybroker.adapters.pty.occupation import DRIVING
from relaybroker.adapters.pty.process_table import Wait
from relaybroker.adapters.pty.proof import Before, Proof, Standing
from relaybroker.adapters.pty.protocol import Fact, Inject, Injected, InjectFailed, Verified
from relaybroker.adapters.pty.sequences import plain_text
from relaybroker.adapters.pty.view import solid
from relaybroker.adapters.pty.writer import TerminalWriter, WriteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from relaybroker.adapters.pty.access import Access
    from relaybroker.adapters.pty.foreground import Foreground
    from relaybroker.adapters.pty.harnesses import Profile
    from relaybroker.adapters.pty.occupation import Occupant
    from relaybroker.adapters.pty.output_ring import OutputRing

MAX_QUEUED = 256
MAX_TEXT_BYTES = 16 * 1024
"""Longer texts are refused as `too_large` (F083)."""
MAX_PASTE_BYTES = 32 * 1024
"""Several messages that go in as one paste are together not longer."""
MAX_LINE_BYTES = 4095
"""A terminal that collects lines cuts longer ones (Linux N_TTY_BUF_SIZE - 1)."""
QUIET_S = 0.02
"""A program that showed something else than the marker has reacted when it is silent for this long."""
FLEETING_S = 0.25
"""So long what is often gone at the next look may keep the terminal before anything is handed back."""
FIRST_LOOK_S, LAST_LOOK_S = 0.001, 0.05
"""Waits between looks; they double."""
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
STEER_ESCAPES = 2
CLEAR_ESCAPES = 2
"""So many clear a composer that holds a text."""
STEER_S = 1.0
"""A program that was given Escape stops within this time, or gets another one."""
STEER_PAUSE_S = 0.12
NEEDLE_CHARACTERS = 24
MAX_SPOILED = 1024
OUT_OF_TURN = "out_of_turn"
"""Why a delivery is handed back that waited behind one that was not typed."""
_LOOK_BACK_BYTES = 16 * 1024

PASTE_START = b"\x1b[200~"
PASTE_END = b"\x1b[201~"
ENTER = b"\r"
ESCAPE = b"\x1b"

_COMPLETES = re.compile(r"(?:(?:^|\s)[:/#$!~]\S*|@\S*|\\)\Z")
"""Last words behind which Enter completes something, or (a backslash) breaks the line."""
_KEYS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def sanitise(text: str) -> str:
    """`text` without any character that a terminal takes for a key, LF and TAB excepted; CR LF and CR are LF (F082)."""
    return _KEYS.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip("\n")


class Line(Protocol):
    """What the injector needs of its session."""

    ring: OutputRing
    writer: TerminalWriter

    @property
    def bracketed_paste(self) -> bool: ...
    @property
    def last_output_at(self) -> float: ...
    def line_discipline(self) -> tuple[bool, bool]: ...
    def unread(self) -> int | None: ...
    def may_type(self) -> bool: ...
    async def access(self, known: Foreground | None = None) -> Access:
        """Look at the settled terminal: who has it, what it shows, and (of an unknown program) what keeps text out."""

    def occupied_by(self, occupant: Occupant | None) -> None:
        """Report who has the terminal, and watch it until it is free."""

    def show(self, text: str) -> bool:
        """Put a text on the terminal without typing it; False while its output is in the middle of a sequence."""

    def report(self, fact: Fact) -> None: ...
    def typing(self, text: str) -> None: ...
    def draft_changed(self, *, stands: bool) -> None: ...


@dataclass
class _Draft:
    """What stands in the program's composer of one delivery or of several, and what is still to be written before Enter."""

    injects: tuple[Inject, ...]
    """As they were last asked for, in order."""
    rest: bytes
    written: int
    start: int
    """Output offset at the start of the injection."""
    written_at: float = 0.0
    enter_at: int = 0
    """Output offset at Enter."""
    at_once: bool = False
    """Enter is part of what is written."""
    pauses: bool = True
    """The program gets its pause between text and Enter."""
    before: Before = field(default_factory=Before)
    waited_ms: float = 0.0

    @property
    def needle(self) -> str:
        """The end of what was typed."""
        return _needle(self.text)

    @property
    def text(self) -> str:
        return "\n\n".join(inject.text for inject in self.injects)

    def place(self, delivery_id: str) -> int | None:
        """Which of them it is."""
        return next((at for at, inject in enumerate(self.injects) if inject.delivery_id == delivery_id), None)


@dataclass
class _Echo:
    """Looks for a needle in the output from `start` on, each byte about once."""

    needle: str
    start: int
    _raw: bytes = field(init=False)
    _scanned: int = field(init=False)

    def __post_init__(self) -> None:
        self._raw = self.needle.encode("utf-8", "replace")
        self._scanned = self.start

    def seen(self, ring: OutputRing) -> bool:
        """Whether the output shows the needle, possibly wrapped, indented or coloured."""
        if not self.needle or ring.end == self.start:
            return False
        if ring.find(self._raw, self._scanned):
            return True
        self._scanned = max(self.start, ring.end - len(self._raw) + 1)
        recent = ring.since(max(self.start, ring.end - _LOOK_BACK_BYTES))
        return self.needle in solid(plain_text(recent))


class Injector:
    """The queue and the procedure of one session; runs as one task from `start` to `close`."""

    def __init__(self, line: Line, on_verify: Callable[[Inject, Callable[[OutputRing], bool], bool], None]) -> None:
        self._line = line
        self._queue: deque[Inject] = deque()
        self._current: tuple[Inject, ...] = ()
        self._draft: _Draft | None = None
        self._draft_stands = False
        self._spoiled: deque[str] = deque(maxlen=MAX_SPOILED)
        """Deliveries whose draft a person touched: they may have been submitted, so they are never retyped."""
        self._has_echoed = False
        self._pace = EnterPace()
        self._task: asyncio.Task[None] | None = None
        self._news: asyncio.Future[None] | None = None
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
        self.notify()

    def person_typed(self, data: bytes, *, ended: bool) -> None:
        """A person's keys went into the terminal; those that submit or clear the line end a standing draft.

        Enter alone changes nothing in a text that waits for the proof of Enter: what follows is looked at as before.
        """
        draft = self._draft
        if draft is None or not self._draft_stands or (self._current and data == ENTER):
            return
        for inject in draft.injects:
            if inject.delivery_id not in self._spoiled:
                self._spoiled.append(inject.delivery_id)
        if self._current:
            for inject in draft.injects:
                self._fail(inject, "composer_unclear", typed="partly")
            self._end_draft()
        elif ended:
            self._end_draft()

    def notify(self) -> None:
        """Something changed that an injection may wait for: output, readiness, a dialog gone, a new delivery."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

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
            await self._until(lambda: bool(self._queue) and self._line.may_type() and self._fits_draft())
            access = await self._look()
            if access is None:
                continue
            found = self._obstacle(access)
            if found is not None and not (self._queue[0].while_busy and found.patience_s) and self._draft is None:
                self._line.occupied_by(found)
                self._return_queue(found.reason)
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
                await self._pause(access.profile.gap_ms / 1000)

    def _is_shown(self, access: Access) -> bool:
        """The next delivery is put on the terminal by the host, and nothing of it is typed."""
        return access.shows and not self._queue[0].task

    def _obstacle(self, access: Access) -> Occupant | None:
        """Who keeps the next delivery out. What is shown disturbs no person who types."""
        found = access.occupant
        return None if found is not None and found.reason == DRIVING and self._is_shown(access) else found

    async def _look(self) -> Access | None:
        """Who has the terminal now; None when nothing may be typed at all, or nothing is left to type.

        What is often gone at the next look is given a moment.
        """
        line = self._line
        deadline = asyncio.get_running_loop().time() + FLEETING_S
        wait = FIRST_LOOK_S
        while self._queue and line.may_type():
            access = await line.access()
            found = self._obstacle(access)
            if access.question is None and (found is None or not found.is_fleeting):
                return access
            if access.question is None and asyncio.get_running_loop().time() >= deadline:
                return access
            await self._next_news(wait)
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
        elif self._line.show(sanitise(inject.text)):
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
            await self._next_news(LAST_LOOK_S)

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

    def _goes_in_at_once(self, draft: _Draft, access: Access) -> bool:
        """The terminal collects the line: the program gets nothing before Enter, and what the kernel shows meanwhile says nothing."""
        is_plain = not access.profile.composer and not self._line.bracketed_paste
        return is_plain and not draft.written and self._line.line_discipline()[0]

    async def _write_text(self, draft: _Draft, access: Access) -> bytes | None:
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
            if await self._stands(draft, access.foreground) is not Standing.GONE:
                break
            draft.rest, draft.written = self._as_typed(draft.text, profile) or b"", 0
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

    async def _stands(self, draft: _Draft, foreground: Foreground) -> Standing:
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
            await self._next_news(LAST_LOOK_S)

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
            await self._pause(left)

    async def _prove(self, access: Access) -> None:
        """Step 5: wait for what follows Enter; report the deliveries as typed, or that their text stands."""
        draft = self._draft
        assert draft is not None
        loop = asyncio.get_running_loop()
        watch = Proof(access.profile, draft.needle, draft.before, draft.enter_at, loop.time(), at_once=not draft.pauses)
        while self._draft is draft:
            await self._next_news(watch.patience(loop.time()))
            seen = await self._line.access(access.foreground) if watch.needs_screen else None
            evidence = watch.look(seen, self._line, loop.time())
            if evidence:
                self._pace.note(access.foreground, watch.enters, answered=watch.answered)
                self._end_draft()
                self._tell(draft, evidence)
                return
            if watch.wants_enter(loop.time()) and watch.enters < MAX_ENTERS:
                await self._enter_again(watch, draft)
            elif watch.has_vanished(loop.time()):
                self._give_back_vanished(draft)
            elif watch.is_late(loop.time()) and not self._draft_stands:
                self._draft_stands = True
                self._line.draft_changed(stands=True)

    async def _enter_again(self, watch: Proof, draft: _Draft) -> None:
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

    def _give_back_vanished(self, draft: _Draft) -> None:
        """The text stands nowhere, and nothing proves that it went in (a program that reads and ignores what comes at a bad moment).

        If the program never showed any of it, it is to be typed again; else nobody knows.
        """
        needles = {draft.needle, *(solid(inject.marker) for inject in draft.injects)}
        was_shown = any(_Echo(needle, draft.start).seen(self._line.ring) for needle in needles)
        reason, typed = ("composer_unclear", "partly") if was_shown else ("pty_write_failed", "no")
        self._end_draft()
        for inject in draft.injects:
            self._fail(inject, reason, typed=typed)
        self._return_queue(OUT_OF_TURN)

    def _tell(self, draft: _Draft, evidence: str) -> None:
        """A report for each that was typed, also for one that was not asked for again: it is never typed twice."""
        lengths = [len(sanitise(inject.text).encode()) for inject in draft.injects[:-1]]
        for inject, written in zip(draft.injects, (*lengths, draft.written - sum(lengths)), strict=True):
            echo = _Echo(solid(inject.marker) or _needle(inject.text), draft.start)
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

    async def _begin(self, injects: tuple[Inject, ...], access: Access) -> _Draft | None:
        line, inject, profile = self._line, injects[0], access.profile
        if 0 < inject.expires_at <= time.time():
            self._fail(inject, "expired")
            return None
        if inject.steer and profile.steer_keys and access.sight.works:
            try:
                obstacle = await self._interrupt()
            except WriteError:
                obstacle = "pty_write_failed"
            if obstacle:
                self._fail(inject, obstacle)
                self._return_queue(OUT_OF_TURN)
                return None
        draft = _Draft(injects, b"", 0, line.ring.end)
        data = self._as_typed(draft.text, profile)
        if data is None:
            self._fail(inject, "too_large")
            return None
        draft.rest = data
        return draft

    async def _interrupt(self) -> str:
        """Have the program stop what it works on; why nothing may be typed then, blank when its composer is free.

        One Escape, and another one only while it goes on: two at a program that has stopped open a menu (Rewind, of Claude Code).
        """
        line, loop = self._line, asyncio.get_running_loop()
        seen = await line.access()  # the keyboard is ours since: what a person typed until then is never cleared
        if seen.occupant is not None and not seen.occupant.patience_s:
            return seen.occupant.reason
        foreground = seen.foreground
        for _ in range(STEER_ESCAPES if seen.sight.works else 0):
            await line.writer.write(ESCAPE)
            deadline = loop.time() + STEER_S
            while seen.sight.works and seen.question is None and loop.time() < deadline:
                await self._next_news(LAST_LOOK_S)
                seen = await line.access(foreground)
            if not seen.sight.works or seen.question is not None:
                break
        await self._pause(STEER_PAUSE_S)
        seen = await line.access(foreground)
        if seen.question is None and proof.standing(seen) is Standing.TEXT:
            # It was empty before: an interrupted program gives back what it was working on (Claude Code).
            for _ in range(CLEAR_ESCAPES):
                await line.writer.write(ESCAPE)
                await self._pause(STEER_PAUSE_S)
            seen = await line.access(foreground)
        if seen.question is not None:
            return "blocked_by_dialog"
        return "" if proof.standing(seen) is Standing.GONE else "composer_unclear"

    def _as_typed(self, text: str, profile: Profile) -> bytes | None:
        """The bytes for `text` in the terminal's present mode; None when the terminal would cut a line."""
        clean = sanitise(text)
        line = self._line
        if line.bracketed_paste:
            return PASTE_START + clean.encode() + PASTE_END
        if profile.multi_line == "join" or profile.treatment == "show":
            clean = " ".join(part for part in clean.split("\n") if part.strip())
        collects_lines, _ = line.line_discipline()
        if profile.tabs == "spaces" and not collects_lines:
            clean = clean.replace("\t", "    ")
        data = clean.encode()
        if collects_lines and max(len(part) for part in data.split(b"\n")) >= MAX_LINE_BYTES:
            return None
        return data

    async def _reaction(self, draft: _Draft, profile: Profile) -> None:
        """Step 3 for a program without composer: wait until it shows the text, fell silent after something else, or the bound is over."""
        line = self._line
        loop = asyncio.get_running_loop()
        echo = _Echo(draft.needle, draft.start)
        echoes = line.line_discipline()[1] or self._has_echoed or line.bracketed_paste
        deadline = loop.time() + (profile.echo_wait_ms if echoes else profile.silent_wait_ms) / 1000
        while not echo.seen(line.ring):
            now = loop.time()
            moved = line.ring.end > echo.start
            until = min(deadline, line.last_output_at + QUIET_S) if moved else deadline
            if now >= until:
                self._has_echoed = self._has_echoed or moved
                return
            await self._next_news(until - now)
        self._has_echoed = True

    # --- failures ----------------------------------------------------------------------------------------------------

    def _hand_back(self, injects: tuple[Inject, ...], draft: _Draft, reason: str) -> None:
        if not draft.written:
            self._draft = None
        elif not self._draft_stands:
            self._draft_stands = True
            self._line.draft_changed(stands=True)
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
        if self._draft_stands:
            self._draft_stands = False
            self._line.draft_changed(stands=False)
            self.notify()

    def _fail(self, inject: Inject, reason: str, *, typed: str = "no") -> None:
        self._line.report(
            InjectFailed(delivery_id=inject.delivery_id, attempt=inject.attempt, reason=reason, typed=typed)
        )

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def _until(self, condition: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait for `condition`, looked at on every news, or the time-out; returns whether it holds."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        while not condition():
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                return False
            await self._next_news(left)
        return True

    async def _pause(self, seconds: float) -> None:
        """Let a time pass that the program itself needs (its own key time-outs), not a condition."""
        await asyncio.sleep(seconds)

    async def _next_news(self, timeout_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        news = self._news = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(timeout_s, self.notify)
        try:
            await news
        finally:
            if timer is not None:
                timer.cancel()
            self._news = None


def _is_read(access: Access, line: Line) -> bool:
    """The program has read all that was typed and waits for more."""
    return line.unread() == 0 and access.waits() in (Wait.READ, Wait.POLL)


def _needle(text: str) -> str:
    """The end of the text, as screens are compared: what an echo of `text` shows last."""
    return solid(sanitise(text))[-NEEDLE_CHARACTERS:]
