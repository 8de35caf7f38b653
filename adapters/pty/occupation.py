"""What keeps a ready program from being typed at: it works on something, or a person is typing in its terminal.

It is looked at when something is to be typed, and from then on until the terminal is free. A person's keys count until the line is
submitted or cleared; a pause of `HUMAN_QUIET_S` ends only what left no text behind. What terminals send by themselves (focus, mouse,
answers to queries) is nobody's typing. Source: node-protocol.md 6.6; F021, F085, F087; SAFE-KEYS; ADR-0030.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, NamedTuple, Protocol

from adapters.pty.protocol import Fact, Freed, Occupied

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.pty.harnesses import Profile

HUMAN_QUIET_S = 3.0
"""A person who left no text in the composer counts as typing for so long after the last key."""
LOOK_S = 0.1
"""A terminal that is not free is looked at so often."""
BUSY_ROWS = 12
"""Rows above the end of the screen's text in which a program says that it works."""

_BY_ITSELF = re.compile(
    rb"\x1b\[[IO]|\x1b\[<[0-9;]*[Mm]|\x1b\[M...|\x1b\[[?>=]?[0-9;]*[cRny]|\x1b[\]P].*?(?:\x07|\x1b\\)", re.DOTALL
)
_PASTE = re.compile(rb"\x1b\[200~(.*?)(?:\x1b\[201~|\Z)", re.DOTALL)
_KEY_SEQUENCE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)
_SUBMITS_OR_CLEARS = (b"\r", b"\n", b"\x03", b"\x04", b"\x15")
"""Enter, ^C, ^D, ^U."""
_RUBS_OUT = b"\x08\x7f"


class Person:
    """What a person's keys left behind in one terminal."""

    def __init__(self) -> None:
        self._left = 0
        """Characters since the line was last submitted or cleared, about."""
        self._quiet_at = 0.0

    def typed(self, data: bytes, now: float) -> bool:
        """Keys that reached the program; whether they submitted or cleared the line. `now`: loop time, seconds."""
        keys = _KEY_SEQUENCE.sub(b"\x1b", _PASTE.sub(_one_line, _BY_ITSELF.sub(b"", data)))
        if not keys:
            return False
        end = max(keys.rfind(key) for key in _SUBMITS_OR_CLEARS)
        if end >= 0:
            self._left = 0
        for key in keys[end + 1 :]:
            if key in _RUBS_OUT:
                self._left = max(0, self._left - 1)
            elif key >= ord(" "):
                self._left += 1
        self._quiet_at = now if end == len(keys) - 1 else now + HUMAN_QUIET_S
        return end >= 0

    def types(self, now: float) -> bool:
        """Whether the keyboard is the person's."""
        return self._left > 0 or now < self._quiet_at


def _one_line(paste: re.Match[bytes]) -> bytes:
    return re.sub(rb"[\x00-\x1f\x7f]", b" ", paste[1])


def says_busy(profile: Profile, rows: list[str]) -> bool:
    """Whether the end of the screen says that the program works."""
    text = "\n".join(rows).rstrip().split("\n")
    return bool(profile.busy) and any(re.search(profile.busy, row) for row in text[-BUSY_ROWS:])


class Watched(Protocol):
    """What is needed of the session."""

    profile: Profile

    def report(self, fact: Fact) -> None: ...
    def shown(self) -> list[str]:
        """Rows of the settled screen, without what we typed."""

    def runs_another(self) -> bool:
        """Whether the keys go to another program than the session's own."""

    def occupation_moved(self) -> None: ...


class Occupant(NamedTuple):
    """Who has the terminal."""

    reason: str
    detail: str
    patience_s: float


class Occupation:
    """Says whether one terminal is free; reports Occupied and Freed as they happen."""

    def __init__(self, watched: Watched, clock: Callable[[], float]) -> None:
        self._watched = watched
        self._clock = clock
        self.person = Person()
        self._reported: Occupant | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._closed = False

    def look(self) -> Occupant | None:
        """Who has the terminal now; None = it is free."""
        found = self._now()
        if found != self._reported and not self._closed:
            if self._reported is not None:
                self._watched.report(Freed())
            if found is not None:
                self._watched.report(Occupied(reason=found.reason, detail=found.detail, patience_s=found.patience_s))
            self._reported = found
            self._watched.occupation_moved()
        if found is not None and self._tick is None and not self._closed:
            self._tick = asyncio.get_running_loop().call_later(LOOK_S, self._look_again)
        return found

    def forget(self) -> None:
        """A dialog or a draft was reported since: who has the terminal is said anew."""
        self._reported = None

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        if self._tick is not None:
            self._tick.cancel()

    def _look_again(self) -> None:
        self._tick = None
        self.look()

    def _now(self) -> Occupant | None:
        profile = self._watched.profile
        if self.person.types(self._clock()):
            return Occupant("human_driving", "keys of a person", 0.0)
        if profile.foreground_only and self._watched.runs_another():
            return Occupant("agent_busy", "another program has the terminal", 0.0)
        if profile.busy and says_busy(profile, self._watched.shown()):
            return Occupant("agent_busy", "its screen says that it works", profile.busy_patience_s)
        return None
