"""Watches one program's screen and says whether it takes messages at all: booting -> ready <-> blocked.

What the screen means is read in `sight.py`; here is when to look: on output, and by a clock while the program boots or is blocked. Whether
it takes a message *now* is asked again before each one (`occupation.py`). A question is reported when it stood for two looks, so that a
screen in the middle of a repaint is none. Rows that show what we typed are no question of a program that has no composer, but only in the
place where that text begins, so that a message cannot hide a real question by quoting it (W4).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

from relaybroker.adapters.sessions.host.process_table import waits_for_terminal
from relaybroker.adapters.sessions.host.protocol import Blocked, Fact, Ready, Unblocked
from relaybroker.adapters.sessions.terminal import sight
from relaybroker.adapters.sessions.terminal.readiness import READY_HOOK, Look, readiness
from relaybroker.adapters.sessions.terminal.sequences import without_spaces
from relaybroker.adapters.sessions.terminal.sight import Sight

if TYPE_CHECKING:
    from collections.abc import Iterable

    from relaybroker.adapters.sessions.host.output_ring import OutputRing
    from relaybroker.adapters.sessions.host.process import AgentProcess
    from relaybroker.adapters.sessions.terminal.foreground import Foreground
    from relaybroker.adapters.sessions.terminal.screen import Terminal
    from relaybroker.adapters.sessions.terminal.view import View

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
QUESTION_STANDS_S = 0.1
"""A question that is on the screen for so long is reported; before that it keeps messages out all the same."""
CLEAN_OUTPUT_BYTES = 12_000
_REMEMBERED_INJECTIONS = 4
_REMEMBERED_CHARACTERS = 4096
_BEGINNING = 16
"""Characters by which the beginning of a typed text is known on the screen."""
_BOX_AND_PROMPT = "│|>❯› "
"""What a composer draws around the text: a vertical line and prompt characters."""


class Watched(Protocol):
    """What the gate needs of its session."""

    ring: OutputRing
    terminal: Terminal
    last_output_at: float

    @property
    def process(self) -> AgentProcess: ...
    def foreground(self) -> Foreground: ...
    def report(self, fact: Fact) -> None: ...
    def answer_queries(self) -> None: ...
    def gate_moved(self) -> None: ...


class Gate:
    """State of one program: `booting`, `ready` or `blocked`. Reports Ready once, Blocked and Unblocked as they happen."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
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
        self._asked_since = 0.0
        self._asked: str | None = None
        self.question: str | None = None
        """Name of the question on the screen, as it was reported."""
        self.is_unverified = False
        """Nobody saw the program wait for its keyboard: it is not asked whether it does."""
        self._schedule_tick()

    @property
    def state(self) -> str:
        if self.question is not None:
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
        if self._look_due is None and not self._closed:
            is_ready = self.state == "ready"
            look = self._look_at_composer if is_ready else self._look
            self._look_due = self._loop.call_later(READY_LOOK_DELAY_S if is_ready else LOOK_DELAY_S, look)

    def look_now(self, foreground: Foreground, view: View) -> Sight:
        """Read the (settled) screen; a question is noticed, and reported when it stands."""
        seen = self._sight(foreground, view)
        self._notice(seen.question)
        return seen

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        for timer in (self._tick, self._look_due):
            if timer is not None:
                timer.cancel()

    # --- looking -----------------------------------------------------------------------------------------------------

    def _look_at_composer(self) -> None:
        """Of a ready program only what has a composer is looked at without need: it may ask something."""
        self._look_due = None
        if self._watched.foreground().profile.composer:
            self._look()

    def _schedule_tick(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if (self.state != "ready" or self._asked is not None) and not self._closed:
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
        if self._closed:
            return
        settled = self._watched.terminal.settle(PAINT_SLICE)
        self._watched.answer_queries()
        self._unsettled_looks = 0 if settled else self._unsettled_looks + 1
        if 0 < self._unsettled_looks < MAX_UNSETTLED_LOOKS:
            self._look_due = self._loop.call_later(LOOK_DELAY_S, self._look)
            return
        foreground = self._watched.foreground()
        seen = self.look_now(foreground, self._watched.terminal.view())
        if self.state == "booting" and seen.question is None:
            look = self._what_is_seen(seen)
            evidence = readiness(foreground.profile, look, self._loop.time() - self._since)
            if evidence is not None:
                self._is_ready = True
                self.is_unverified = evidence in ("unverified", "hook")
                self._watched.report(Ready(evidence=evidence))
                self._watched.gate_moved()

    def _sight(self, foreground: Foreground, view: View) -> Sight:
        profile = foreground.profile
        if profile.treatment == "show":
            return Sight(None, works=False, question=None)
        collects_lines, echoes = self._watched.process.line_discipline()
        quiet = self._loop.time() - self._watched.last_output_at
        seen = sight.read(profile, view, collects_lines=collects_lines, echoes=echoes, quiet_s=quiet)
        if seen.question is None or profile.composer or not self._typed:
            return seen
        return sight.read(profile, without_typed(view, self._typed), collects_lines=collects_lines, echoes=echoes)

    def _notice(self, question: str | None) -> None:
        """Report a question that stands, and its end at once."""
        now = self._loop.time()
        if self._asked is None and question is not None:
            self._asked_since = now
        self._asked = question
        if question == self.question or self._closed:
            return
        if question is not None and now - self._asked_since < QUESTION_STANDS_S:
            self._ticks = min(self._ticks, FAST_TICKS - 8)
            if self._tick is None:
                self._schedule_tick()
            return
        former, self.question = self.question, question
        if question is not None:
            if former is not None:
                self._watched.report(Unblocked())  # by another question than before
            self._watched.report(Blocked(pattern=question))
            if former is None:
                self._ticks = FAST_TICKS
                self._schedule_tick()
        else:
            self._since = self._loop.time()
            self._watched.report(Unblocked())
        self._watched.gate_moved()

    def _what_is_seen(self, seen: Sight) -> Look:
        watched = self._watched
        collects_lines, _echoes = watched.process.line_discipline()
        return Look(
            hook=self._hook_seen,
            composer=seen.composer is not None and seen.composer.is_empty,
            output_bytes=watched.ring.end,
            quiet_s=self._loop.time() - watched.last_output_at,
            collects_lines=collects_lines,
            waits_for_keyboard=lambda: waits_for_terminal(
                watched.process.foreground_group(), watched.process.terminal_device
            ),
        )


def without_typed(view: View, typed: Iterable[str]) -> View:
    """`view` without the rows that show a typed text from its beginning on; `typed` are texts without white space."""
    texts = tuple(text for text in typed if text)
    if not texts:
        return view
    hidden: set[int] = set()
    expected = ""
    for row in range(len(view.rows)):
        shown = without_spaces(view.rows[row]).strip(_BOX_AND_PROMPT)
        if expected and shown and expected.startswith(shown):
            expected = expected[len(shown) :]
        elif (rest := _rest_after(shown, texts)) is not None:
            expected = rest
        else:
            if shown:
                expected = ""
            continue
        hidden.add(row)
    return view.without(hidden) if hidden else view


def _rest_after(shown: str, typed: Iterable[str]) -> str | None:
    """What of a typed text must follow on the next rows when this row shows its beginning."""
    for text in typed:
        at = shown.find(text[:_BEGINNING])
        if at >= 0 and text.startswith(beginning := shown[at:]):
            return text[len(beginning) :]
    return None
