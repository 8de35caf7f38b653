"""Types deliveries into one program, one at a time, in order: text, the program's reaction, Enter, and what came of it.

The procedure for one delivery:
1. Wait until the program is ready, no dialog is on the screen, and no foreign draft stands in the composer. While it
works, or a person
   types, what waits is handed back.
2. Take the keyboard. Write the text, as a bracketed paste when the program asked for that; what waits behind it goes
into the same
   paste where the profile allows it (`coalesce`), each message with reports of its own.
3. Wait until the terminal reacts: the marker is seen (`echo`), something came and it fell silent (`output`), or the
bound is
   over (`none`). Look again for a dialog: Enter must never answer one.
4. Write CR. Only now is the delivery typed; report `Injected` and give the keyboard back.
5. Wait (bounded) for the reaction to Enter before the next one; verification goes on in the background.

What fails before a byte was written is handed back (`typed="no"`). What fails later leaves a *draft*: nothing else is
typed on top of it; the same delivery, asked for again, goes on where it stopped, so that it is typed once (F084).
Source: node-protocol.md 6.5-6.7; failure-scenarios.md 3.D; PROOF, TYPED-ONCE, SAFE-KEYS.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from adapters.pty import tasks
from adapters.pty.protocol import Fact, Inject, Injected, InjectFailed
from adapters.pty.sequences import plain_text, without_spaces
from adapters.pty.writer import TerminalWriter, WriteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.pty.harnesses import Profile
    from adapters.pty.occupation import Occupant
    from adapters.pty.output_ring import OutputRing

MAX_QUEUED = 256
MAX_TEXT_BYTES = 16 * 1024
"""Longer texts are refused as `too_large` (F083)."""
MAX_PASTE_BYTES = 32 * 1024
"""Several messages that go in as one paste are together not longer."""
MAX_LINE_BYTES = 4095
"""A terminal that collects lines cuts longer ones (Linux N_TTY_BUF_SIZE - 1)."""
QUIET_S = 0.02
"""A program that showed something else than the marker has reacted when it is silent for this long."""
LINE_EDITOR_WAIT_S = 0.5
"""Longest wait for a line editor to take the keyboard back after the command before."""
STEER_PAUSE_S = 0.12
NEEDLE_CHARACTERS = 24
MAX_SPOILED = 1024
OUT_OF_TURN = "out_of_turn"
"""Why a delivery is handed back that waited behind one that was not typed."""
_LOOK_BACK_BYTES = 16 * 1024

PASTE_START = b"\x1b[200~"
PASTE_END = b"\x1b[201~"
ENTER = b"\r"

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
    def may_type(self) -> bool: ...
    async def find_dialog(self) -> str | None: ...
    def occupant(self) -> Occupant | None: ...
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
        return self.needle in without_spaces(plain_text(recent))


class Injector:
    """The queue and the procedure of one session; runs as one task from `start` to `close`."""

    def __init__(
        self, line: Line, profile: Profile, on_verify: Callable[[Inject, Callable[[OutputRing], bool], bool], None]
    ) -> None:
        self._line = line
        self._profile = profile
        self._queue: deque[Inject] = deque()
        self._current: tuple[Inject, ...] = ()
        self._draft: _Draft | None = None
        self._draft_stands = False
        self._spoiled: deque[str] = deque(maxlen=MAX_SPOILED)
        """Deliveries whose draft a person touched: they may have been submitted, so they are never retyped."""
        self._has_echoed = False
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

    def person_typed(self, *, ended: bool) -> None:
        """A person's keys went into the terminal; those that submit or clear the line end a standing draft."""
        if self._draft is None or not self._draft_stands:
            return
        for inject in self._draft.injects:
            if inject.delivery_id not in self._spoiled:
                self._spoiled.append(inject.delivery_id)
        if ended:
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
            if await self._line.find_dialog() is not None:
                await self._until(lambda: not self._line.may_type())
                continue
            await self._line.writer.hold()
            try:
                if not (self._queue and self._line.may_type() and self._fits_draft()):
                    continue  # what a person was just typing changed it
                occupant = self._line.occupant()
                if occupant is None or (self._queue[0].while_busy and occupant.patience_s):
                    self._current = self._take()
                    enter_at = await self._type(self._current)
                elif self._draft is None:
                    self._return_queue(occupant.reason)
                    continue
            finally:
                self._line.writer.release()
            if not self._current:
                await self._until(lambda: self._line.occupant() is None)  # what stands in the composer stays there
                continue
            self._current = ()
            if enter_at is not None:
                await self._after_enter(enter_at)

    def _fits_draft(self) -> bool:
        return self._draft is None or (bool(self._queue) and self._draft.place(self._queue[0].delivery_id) is not None)

    def _take(self) -> tuple[Inject, ...]:
        """The next delivery, and those behind it that go into the same paste; or what stands in the composer."""
        taken = [self._queue.popleft()]
        while self._queue and self._joins(taken, self._queue[0]):
            taken.append(self._queue.popleft())
        return tuple(taken)

    def _joins(self, taken: list[Inject], following: Inject) -> bool:
        if self._draft is not None:
            return self._draft.place(following.delivery_id) is not None
        if not (self._profile.coalesce and self._line.bracketed_paste):
            return False
        size = sum(len(inject.text.encode("utf-8", "replace")) + 2 for inject in (*taken, following))
        is_late = any(0 < inject.expires_at <= time.time() for inject in (*taken, following))
        is_alike = taken[0].while_busy == following.while_busy and not taken[0].steer and not following.steer
        return is_alike and not is_late and size <= MAX_PASTE_BYTES

    async def _type(self, injects: tuple[Inject, ...]) -> int | None:
        """Steps 2 to 4. Returns the output offset at Enter, or None when the deliveries were handed back."""
        draft = self._draft
        if draft is None:
            draft = await self._begin(injects)
            if draft is None:
                self._queue.extendleft(reversed(injects[1:]))
                return None
        else:
            newer = {inject.delivery_id: inject for inject in injects}
            draft.injects = tuple(newer.get(inject.delivery_id, inject) for inject in draft.injects)
        line = self._line
        echoes = [_Echo(without_spaces(inject.marker) or _needle(inject.text), draft.start) for inject in draft.injects]
        self._draft = draft
        line.typing(draft.text)
        try:
            if draft.rest:
                draft.written += await line.writer.write(draft.rest)
                draft.rest = b""
            written_at = asyncio.get_running_loop().time()
            evidence = await self._reaction(echoes[-1])
            if self._profile.settle_ms:
                await self._pause(self._profile.settle_ms / 1000)
            if self._profile.dialogs and await line.find_dialog() is not None:
                self._hand_back(injects, draft, "blocked_by_dialog")
                return None
            enter_at = line.ring.end
            draft.written += await line.writer.write(ENTER)
        except WriteError as error:
            draft.written += error.written
            draft.rest = draft.rest[error.written :]
            self._hand_back(injects, draft, "pty_write_failed")
            return None
        waited = (asyncio.get_running_loop().time() - written_at) * 1000
        self._end_draft()
        self._tell(draft, echoes, evidence, waited)
        return enter_at

    def _tell(self, draft: _Draft, echoes: list[_Echo], evidence: str, waited_ms: float) -> None:
        """A report for each that was typed, also for one that was not asked for again: it is never typed twice."""
        lengths = [len(sanitise(inject.text).encode()) for inject in draft.injects[:-1]]
        for inject, echo, written in zip(draft.injects, echoes, (*lengths, draft.written - sum(lengths)), strict=True):
            seen = evidence if inject is draft.injects[-1] else "echo" if echo.seen(self._line.ring) else evidence
            self._line.report(
                Injected(
                    delivery_id=inject.delivery_id,
                    attempt=inject.attempt,
                    bytes_written=written,
                    evidence=seen,
                    wait_ms=round(waited_ms, 3),
                )
            )
            self._on_verify(inject, echo.seen, seen == "echo")

    async def _begin(self, injects: tuple[Inject, ...]) -> _Draft | None:
        line, inject = self._line, injects[0]
        if 0 < inject.expires_at <= time.time():
            self._fail(inject, "expired")
            return None
        if self._profile.line_editor and line.line_discipline()[0]:
            await self._until(lambda: not line.line_discipline()[0], LINE_EDITOR_WAIT_S)
        if inject.steer and self._profile.steer_keys:
            try:
                await line.writer.write(b"\x1b\x1b")
            except WriteError:
                self._fail(inject, "pty_write_failed")
                self._return_queue(OUT_OF_TURN)
                return None
            await self._pause(STEER_PAUSE_S)
        draft = _Draft(injects, b"", 0, line.ring.end)
        data = self._as_typed(draft.text)
        if data is None:
            self._fail(inject, "too_large")
            return None
        draft.rest = data
        return draft

    def _as_typed(self, text: str) -> bytes | None:
        """The bytes for `text` in the terminal's present mode; None when the terminal would cut a line."""
        clean = sanitise(text)
        line = self._line
        if line.bracketed_paste:
            return PASTE_START + clean.encode() + PASTE_END
        if self._profile.multi_line == "join":
            clean = " ".join(part for part in clean.split("\n") if part.strip())
        collects_lines, _ = line.line_discipline()
        if self._profile.tabs == "spaces" and not collects_lines:
            clean = clean.replace("\t", "    ")
        data = clean.encode()
        if collects_lines and max(len(part) for part in data.split(b"\n")) >= MAX_LINE_BYTES:
            return None
        return data

    async def _reaction(self, echo: _Echo) -> str:
        """Step 3: how the terminal reacted to the text."""
        line, profile = self._line, self._profile
        loop = asyncio.get_running_loop()
        echoes = line.line_discipline()[1] or self._has_echoed or line.bracketed_paste
        deadline = loop.time() + (profile.echo_wait_ms if echoes else profile.silent_wait_ms) / 1000
        while not echo.seen(line.ring):
            now = loop.time()
            moved = line.ring.end > echo.start
            until = min(deadline, line.last_output_at + QUIET_S) if moved else deadline
            if now >= until:
                self._has_echoed = self._has_echoed or moved
                return "output" if moved else "none"
            await self._next_news(until - now)
        self._has_echoed = True
        return "echo"

    async def _after_enter(self, enter_at: int) -> None:
        """Step 5: the program's reaction to Enter, bounded, and the least time between two messages."""
        line, profile = self._line, self._profile
        bound = profile.enter_wait_ms if self._has_echoed or line.line_discipline()[1] else profile.silent_wait_ms
        await self._until(lambda: line.ring.end > enter_at, bound / 1000)
        if profile.gap_ms:
            await self._pause(profile.gap_ms / 1000)

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


def _needle(text: str) -> str:
    """The end of the last line, without spaces: what an echo of `text` shows last."""
    return without_spaces(text)[-NEEDLE_CHARACTERS:]
