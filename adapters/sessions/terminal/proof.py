"""What proves, after Enter, that a program took a text. Nothing that the kernel does by itself counts, nor does silence.

| evidence | what was seen |
|---|---|
| `composer` | the program's composer, which held the text, is empty |
| `transcript` | the text is on the screen outside of the composer |
| `turn` | the program works on it: its status row, its line editor gone, or it no longer waits for its keyboard |
| `prompt` | the text is no longer where it was typed, and the program shows again what it showed before it |
| `output` | the text is no longer where it was typed |
| `read` | the program has read the line from the terminal (of a program that shows nothing, or collects lines) |

Until then the text stands, and may need another Enter (`wants_enter`). Source: real-agents.md; failure-scenarios.md F084; ADR-0042.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from relaybroker.adapters.sessions.host.process_table import Wait
from relaybroker.adapters.sessions.terminal.view import solid

if TYPE_CHECKING:
    from relaybroker.adapters.sessions.terminal.access import Access
    from relaybroker.adapters.sessions.terminal.harnesses import Profile
    from relaybroker.adapters.sessions.terminal.line import Line

SURE_S = 0.005
"""The kernel hands typed bytes on in the background: that nothing is unread counts only after so long, or after its echo."""
QUIET_S = 0.3
"""A screen that is still after Enter, with the text on it, for so long was not submitted."""
FIRST_ENTER_S = 0.6
"""The second Enter comes at the earliest after this time; the waits double."""
MUTE_ENTER_S = 5.0
"""The same for a program that showed no reaction at all: it may not have come to the first Enter yet."""
LATE_S = 8.0
"""A text that stands for so long is reported."""
VANISHED_S = 5.0
"""A program that is free and has shown an empty composer for so long holds the text nowhere."""
LONG_S = 0.1
"""A proof that takes longer asks at each look whether the program is stopped."""
STILL_S = 0.05
"""A composer that is empty for so long is no screen in the middle of a repaint."""
GONE_S = 1.0
"""A composer that is nowhere on the screen so long after Enter, without the text, took it."""
_FIRST_LOOK_S, _LAST_LOOK_S, _LATE_LOOK_S = 0.001, 0.05, 0.5


class Standing(enum.Enum):
    """What a composer holds."""

    TEXT = "text"
    GONE = "gone"
    UNKNOWN = "unknown"
    """No composer has the cursor."""


def standing(access: Access) -> Standing:
    """What the composer on the screen holds."""
    composer = access.sight.composer
    if composer is None:
        return Standing.UNKNOWN
    return Standing.GONE if composer.is_empty else Standing.TEXT


def tail(access: Access, needle: str) -> str | None:
    """What the screen shows behind the end of a text, without white space; None = the text is not on it."""
    view = access.view
    if view.ends_at_cursor(needle):
        return view.text_after_cursor if needle else None
    shown = view.text_until_cursor + view.text_after_cursor
    at = shown.rfind(needle) if needle else -1
    return None if at < 0 else shown[at + len(needle) :]


def ends_at_cursor(access: Access, needle: str) -> bool:
    """Whether the text's end stands right before the cursor, blank rows apart."""
    return bool(needle) and access.view.ends_at_cursor(needle)


class Before(NamedTuple):
    """What the screen showed right before Enter."""

    tail: str | None = None
    """Behind the text; None = it does not show the text."""
    pasted: bool = False
    """The program had asked for bracketed paste."""
    stood: bool = False
    """The composer held the text."""
    prompt: str = ""
    """What stood before the text on the row of the cursor."""
    worked: bool = False
    """It worked already: that it works says nothing of this text."""
    collected: bool = True
    """The kernel collected the line for the program; False: the program had a line editor of its own."""


def before(access: Access, needle: str, *, collects_lines: bool) -> Before:
    """The screen right before Enter. What the kernel shows of a line it collects says nothing, and is not looked at."""
    if collects_lines and not access.profile.composer:
        return Before(None, access.view.bracketed_paste)
    prompt = access.view.before_cursor.split(needle[:1] or "\0", 1)[0].strip()
    shown = tail(access, needle)
    stood = shown is not None or standing(access) is Standing.TEXT
    works = bool(access.profile.composer) and access.sight.works
    return Before(shown, access.view.bracketed_paste, stood, prompt, works, collects_lines)


class Proof:
    """Looks at one terminal after Enter. All times are of the event loop, in seconds.

    Args:
        profile: of the program that has the terminal.
        needle: end of the text (as `view.solid`).
        shown: what the screen showed right before Enter.
        output_at: output offset at Enter.
        now: when Enter was written.
        at_once: Enter came right behind the text, and may have been taken for a line break of it.
    """

    def __init__(
        self, profile: Profile, needle: str, shown: Before, output_at: int, now: float, *, at_once: bool = False
    ) -> None:
        self._profile = profile
        self._needle = needle
        self._shown = shown
        self._output_at = output_at
        self._begun = self._entered = now
        self._is_still_there = False
        self._stood = shown.stood
        self._consumed_at: float | None = None
        self._empty_since: float | None = None
        """The program is free, with an empty composer in which nobody saw the text, and without it on the screen."""
        self._gone_since: float | None = None
        """The composer is empty, and the text is nowhere on the screen."""
        self._last_output = now
        self._reacted = False
        self._look_s = _FIRST_LOOK_S
        self._at_once = at_once
        self.enters = 1
        self.answered = False
        """The program showed more behind the text than a prompt."""

    @property
    def needs_screen(self) -> bool:
        """Whether what the screen shows says anything: the program has a composer, or showed the text."""
        return bool(self._profile.composer) or self._shown.tail is not None

    def look(self, seen: Access | None, line: Line, now: float) -> str:
        """The evidence, blank as long as there is none. `seen`: the terminal now; None when no screen is needed."""
        self._last_output = max(self._entered, line.last_output_at)
        self._reacted = line.ring.end > self._output_at
        self._is_still_there = False
        unread = line.unread()
        if unread:
            self._consumed_at = None
            return ""
        if self._consumed_at is None:
            self._consumed_at = now
        if seen is None:
            is_sure = self._reacted or now - self._entered >= SURE_S
            return "read" if is_sure and unread is not None else "output" if self._reacted else ""
        if not self._profile.composer:
            return self._of_plain(seen, line, now, known=unread is not None)
        evidence = self._of_composer(seen, now)
        is_empty = not evidence and standing(seen) is Standing.GONE and not seen.sight.works
        self._empty_since = (self._empty_since or now) if is_empty else None
        return evidence

    def _of_composer(self, seen: Access, now: float) -> str:
        """A text that was never seen in the composer must be seen elsewhere: an empty composer alone says nothing of it."""
        held = standing(seen)
        is_on = held is Standing.GONE and self._is_on(seen)
        is_nowhere = held is Standing.GONE and not is_on
        self._gone_since = (self._gone_since or now) if is_nowhere else None
        match held:
            case Standing.TEXT:
                self._stood = True
                self._is_still_there = self._is_ours(seen)
                return ""
            case Standing.GONE:
                if not self._stood:
                    return "transcript" if is_on else ""
                is_sure = is_on or seen.sight.works or now - (self._gone_since or now) >= STILL_S
                return "composer" if is_sure else ""
            case Standing.UNKNOWN if seen.question is not None:
                # It may hide the composer, text and all: only the text above it says that it was taken.
                return "transcript" if self._reacted and self._has_moved(seen) else ""
            case Standing.UNKNOWN if seen.sight.works and not self._shown.worked:
                return "turn" if self._stood and self._reacted else ""
            case Standing.UNKNOWN if self._is_where_it_was(seen):
                self._stood = True
                self._is_still_there = seen.view.bracketed_paste == self._shown.pasted
                return "" if self._is_still_there else "turn"
            case Standing.UNKNOWN:
                is_gone = now - self._entered >= GONE_S and not (self._shown.worked and self._is_on(seen))
                return "turn" if self._stood and self._reacted and is_gone else ""

    def _is_ours(self, seen: Access) -> bool:
        """Whether the composer holds what was typed, or what the program shows in its place (`[Pasted text +12 lines]`)."""
        assert seen.sight.composer is not None
        text = solid(seen.sight.composer.text)
        return self._needle in text or text.lower().startswith("[") or "[pasted" in text.lower()

    def _is_on(self, seen: Access) -> bool:
        """Whether the text is on the screen."""
        return tail(seen, self._needle) is not None

    def _has_moved(self, seen: Access) -> bool:
        """Whether the text is on the screen, but not where it was typed."""
        return self._is_on(seen) and not self._is_where_it_was(seen)

    def _of_plain(self, seen: Access, line: Line, now: float, *, known: bool) -> str:
        collects_lines, _ = line.line_discipline()
        is_sure = self._reacted or now - self._entered >= SURE_S
        if known and collects_lines:
            return ("read" if self._shown.collected else "turn") if is_sure else ""
        if self._reacted and not self._is_where_it_was(seen):
            now_shown = seen.view.before_cursor.strip()
            behind = seen.view.between(self._needle) if self._needle else None
            self.answered = behind is None or bool(behind.removesuffix(solid(now_shown)))
            if self._at_once and not self.answered:
                # A composer that goes on in the next line looks like a prompt that comes again.
                self._is_still_there = True
                return ""
            return "prompt" if self._shown.prompt and now_shown == self._shown.prompt else "output"
        if is_sure and self._shown.pasted and not seen.view.bracketed_paste:
            return "turn"
        if is_sure and known and now - self._entered >= 2 * SURE_S and seen.waits() is Wait.NO:
            return "turn"
        self._is_still_there = True
        return ""

    def _is_where_it_was(self, seen: Access) -> bool:
        if ends_at_cursor(seen, self._needle):
            return True
        return self._shown.tail is not None and seen.view.ends_with(self._needle + self._shown.tail)

    def disturbed(self) -> None:
        """What the screen shows may be unfinished: it is looked at anew."""
        self._is_still_there = False
        self._empty_since = self._gone_since = None

    def takes_long(self, now: float) -> bool:
        """Whether the proof takes so long that it is worth while to ask what keeps the program."""
        return now - self._entered >= LONG_S

    # --- what stands -------------------------------------------------------------------------------------------------

    def wants_enter(self, now: float) -> bool:
        """Whether the text stands although the program has read Enter: it was taken for something else."""
        if not self._is_still_there or now - self._last_output < QUIET_S:
            return False
        wait = FIRST_ENTER_S if self._reacted else MUTE_ENTER_S
        return now - self._entered >= wait * (1 << (self.enters - 1))

    def entered(self, output_at: int, now: float) -> None:
        """Enter was written again."""
        self.enters += 1
        self._output_at, self._entered, self._consumed_at = output_at, now, None
        self._look_s = _FIRST_LOOK_S

    def is_late(self, now: float) -> bool:
        """Whether there is still no proof after so long that a person should know."""
        return now - self._begun >= LATE_S

    def has_vanished(self, now: float) -> bool:
        """Whether the program never showed the text where it could stand, and goes on without it."""
        return self.is_late(now) and self._empty_since is not None and now - self._empty_since >= VANISHED_S

    def patience(self, now: float) -> float:
        """How long until the next look, if nothing comes before."""
        wait, self._look_s = self._look_s, min(2 * self._look_s, _LAST_LOOK_S)
        return _LATE_LOOK_S if self.is_late(now) else wait
