"""Watches one program's screen and says whether text may be typed: booting -> ready <-> blocked.

The rules are in `readiness.py`; here is when to look (on output, and by a clock while it boots or is blocked) and what of the
screen counts: rows that only show text which was typed by us are no dialog of the program's (W4), but only in the place where
that text begins, so that a message cannot hide a real dialog by quoting it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

from adapters.pty.process_table import waits_for_terminal
from adapters.pty.protocol import Blocked, Fact, Ready, Unblocked
from adapters.pty.readiness import READY_HOOK, Look, dialog_on, readiness
from adapters.pty.sequences import plain_text, without_spaces

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adapters.pty.harnesses import Profile
    from adapters.pty.output_ring import OutputRing
    from adapters.pty.process import AgentProcess
    from adapters.pty.screen import Terminal

PAINT_SLICE = 8 * 1024
"""Characters painted before other sessions get their turn."""
LOOK_DELAY_S = 0.01
"""Output that comes in one burst is looked at once."""
READY_LOOK_DELAY_S = 0.25
"""A ready program is looked at less often: before something is typed it is looked at in any case."""
TICK_S = 0.2
FAST_TICK_S = 0.03
FAST_TICKS = 40
"""A program that starts is looked at more often at first: 40 x 30 ms."""
MAX_UNSETTLED_LOOKS = 20
"""A program that floods is judged, after so many looks, by a screen that is a little old."""
CLEAN_OUTPUT_BYTES = 12_000
_REMEMBERED_INJECTIONS = 4
_REMEMBERED_CHARACTERS = 4096
_BEGINNING = 16
"""Characters by which the beginning of a typed text is known on the screen."""
_BOX_AND_PROMPT = "\u2502|>\u276f\u203a "
"""What a composer draws around the text: a vertical line and prompt characters."""


class Watched(Protocol):
    """What the gate needs of its session."""

    profile: Profile
    ring: OutputRing
    terminal: Terminal
    last_output_at: float

    @property
    def process(self) -> AgentProcess: ...
    def report(self, fact: Fact) -> None: ...
    def answer_queries(self) -> None: ...
    def gate_moved(self) -> None: ...


class Gate:
    """State of one program: `booting`, `ready` or `blocked`. Reports Ready once, Blocked and Unblocked as they happen."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._profile = watched.profile
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._is_ready = False
        self._hook_seen = False
        self._unsettled_looks = 0
        self._ticks = 0
        self._tick: asyncio.TimerHandle | None = None
        self._look_due: asyncio.TimerHandle | None = None
        self._typed: deque[str] = deque(maxlen=_REMEMBERED_INJECTIONS)
        self._closed = False
        self.dialog: str | None = None
        """Name of the dialog on the screen."""
        self._schedule_tick()

    @property
    def state(self) -> str:
        if self.dialog is not None:
            return "blocked"
        return "ready" if self._is_ready else "booting"

    def typing(self, text: str) -> None:
        """Remember what is typed."""
        self._typed.append(without_spaces(text)[:_REMEMBERED_CHARACTERS])

    def output_came(self, offset: int) -> None:
        """Output from `offset` on is in ring and terminal."""
        hook = READY_HOOK.encode()
        if not self._is_ready and self._watched.ring.find(hook, offset - len(hook)):
            self._hook_seen = True
        if self._look_due is None and self._must_look:
            delay = READY_LOOK_DELAY_S if self._is_ready and self.dialog is None else LOOK_DELAY_S
            self._look_due = self._loop.call_later(delay, self._look)

    def look_for_dialog(self) -> str | None:
        """The dialog on the (settled) screen now; reported when it is new."""
        self._notice_dialog(self._dialog_now())
        return self.dialog

    def not_typed(self) -> list[str]:
        """The rows of the screen that show something else than what was typed."""
        return without_typed(self._watched.terminal.lines(), self._typed)

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        for timer in (self._tick, self._look_due):
            if timer is not None:
                timer.cancel()

    # --- looking -----------------------------------------------------------------------------------------------------

    @property
    def _must_look(self) -> bool:
        return not self._closed and (self.state != "ready" or bool(self._profile.dialogs))

    def _schedule_tick(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if self.state != "ready" and not self._closed:
            self._ticks += 1
            delay = FAST_TICK_S if self._ticks <= FAST_TICKS else TICK_S
            self._tick = self._loop.call_later(delay, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        self._look()
        self._schedule_tick()

    def _look(self) -> None:
        if self._look_due is not None:
            self._look_due.cancel()
            self._look_due = None
        if not self._must_look:
            return
        settled = self._watched.terminal.settle(PAINT_SLICE)
        self._watched.answer_queries()
        self._unsettled_looks = 0 if settled else self._unsettled_looks + 1
        if 0 < self._unsettled_looks < MAX_UNSETTLED_LOOKS:
            self._look_due = self._loop.call_later(LOOK_DELAY_S, self._look)
            return
        self._notice_dialog(self._dialog_now())
        if self.state == "booting":
            evidence = readiness(self._profile, self._what_is_seen(), self._loop.time() - self._since)
            if evidence is not None:
                self._is_ready = True
                self._watched.report(Ready(evidence=evidence))
                self._watched.gate_moved()

    def _dialog_now(self) -> str | None:
        collects_lines, echoes = self._watched.process.line_discipline()
        screen, cursor_line = "", ""
        if self._profile.dialogs:
            screen = "\n".join(self.not_typed())
            cursor_line = self._watched.terminal.cursor_line()
        elif collects_lines and not echoes:
            cursor_line = self._clean_output()[-200:].rsplit("\n", 1)[-1]
        return dialog_on(self._profile, screen, cursor_line, collects_lines=collects_lines, echoes=echoes)

    def _notice_dialog(self, dialog: str | None) -> None:
        if dialog == self.dialog or self._closed:
            return
        former, self.dialog = self.dialog, dialog
        if dialog is not None:
            self._watched.report(Blocked(pattern=dialog))
            if former is None:
                self._ticks = FAST_TICKS
                self._schedule_tick()
        else:
            self._since = self._loop.time()
            self._watched.report(Unblocked())
        self._watched.gate_moved()

    def _what_is_seen(self) -> Look:
        watched = self._watched
        collects_lines, echoes = watched.process.line_discipline()
        return Look(
            screen="\n".join(watched.terminal.lines()),
            cursor_line=watched.terminal.cursor_line(),
            output=READY_HOOK if self._hook_seen else self._clean_output(),
            output_bytes=watched.ring.end,
            quiet_s=self._loop.time() - watched.last_output_at,
            collects_lines=collects_lines,
            echoes=echoes,
            waits_for_keyboard=lambda: waits_for_terminal(
                watched.process.foreground_group(), watched.process.terminal_device
            ),
        )

    def _clean_output(self) -> str:
        ring = self._watched.ring
        return plain_text(ring.since(ring.end - CLEAN_OUTPUT_BYTES))


def without_typed(lines: Iterable[str], typed: Iterable[str]) -> list[str]:
    """`lines` without those that show a typed text from its beginning on; `typed` are texts without white space."""
    kept: list[str] = []
    expected = ""
    for line in lines:
        bare = without_spaces(line).strip(_BOX_AND_PROMPT)
        if expected and expected.startswith(bare):
            expected = expected[len(bare) :]
        elif (rest := _rest_after(bare, typed)) is not None:
            expected = rest
        else:
            expected = ""
            kept.append(line)
    return kept


def _rest_after(bare: str, typed: Iterable[str]) -> str | None:
    """What of a typed text must follow on the next rows when this row shows its beginning."""
    for text in typed:
        at = bare.find(text[:_BEGINNING]) if text else -1
        if at >= 0 and text.startswith(shown := bare[at:]):
            return text[len(shown) :]
    return None
