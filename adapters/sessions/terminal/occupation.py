"""What keeps a ready program from being typed at: it works, is suspended, holds somebody's draft, or a person is typing.

It is looked at when something is to be typed, and from then on until the terminal is free. A person's keys count until the line is
submitted or cleared; a pause of `HUMAN_QUIET_S` ends only what left no text behind. What terminals send by themselves (focus, mouse,
answers to queries) is nobody's typing. Source: node-protocol.md 6.6; real-agents.md; F021, F084, F085, F087; SAFE-KEYS; ADR-0030, ADR-0040.
"""

from __future__ import annotations

import asyncio
import math
import re
from typing import TYPE_CHECKING, NamedTuple, Protocol

from relaybroker.adapters.sessions.host.process_table import Wait
from relaybroker.adapters.sessions.host.protocol import Fact, Freed, Occupied

if TYPE_CHECKING:
    from collections.abc import Callable

    from relaybroker.adapters.sessions.terminal.foreground import Foreground
    from relaybroker.adapters.sessions.terminal.harnesses import Profile
    from relaybroker.adapters.sessions.terminal.sight import Sight

HUMAN_QUIET_S = 3.0
"""A person who left no text in the composer counts as typing for so long after the last key."""
DRIVING = "human_driving"
REACTION_S = 0.15
"""A program shows within this time what it made of keys that it has read."""
REPAINT_S = 2.0
"""A program that shows no composer and no work for so long is asked to paint its screen anew, once."""
LOOK_S = 0.1
"""A terminal that is not free is looked at so often."""

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
        self._typed_at = self._answered_at = 0.0
        self._are_unread = False

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
        self._typed_at, self._are_unread = now, True
        self._quiet_at = now if end == len(keys) - 1 else now + HUMAN_QUIET_S
        return end >= 0

    def types(self, now: float) -> bool:
        """Whether the keyboard is the person's."""
        return self._left > 0 or now < self._quiet_at

    def is_answered(self, now: float, unread: int | None) -> bool:
        """Whether the program could show what it made of the keys. `unread`: bytes that it has not read; None = nobody knows."""
        if self._are_unread and not unread:
            self._are_unread = False
            self._answered_at = min(now, self._typed_at + HUMAN_QUIET_S) + REACTION_S
        return not self._are_unread and now >= self._answered_at


def _one_line(paste: re.Match[bytes]) -> bytes:
    return re.sub(rb"[\x00-\x1f\x7f]", b" ", paste[1])


class Occupant(NamedTuple):
    """Who or what has the terminal."""

    reason: str
    detail: str
    patience_s: float = 0.0
    is_fleeting: bool = False
    """It is often gone at the next look: a moment is waited before anything is handed back."""
    may_be_stale: bool = False
    """The screen may be one that the program has not painted since it was stopped or resized."""


class Seen(NamedTuple):
    """One look at a terminal before something is typed."""

    foreground: Foreground
    sight: Sight
    person_types: bool
    keys_pend: bool
    """The screen does not show yet what became of a person's last keys."""
    spawned: Profile
    """Profile of the program that was started."""
    waits: Callable[[], Wait | None]
    """Whether the foreground program waits for its keyboard; costs system calls."""


def occupant(seen: Seen) -> Occupant | None:
    """Who has the terminal; None = it is free. A question on the screen is not looked for here."""
    foreground, sight = seen.foreground, seen.sight
    profile = foreground.profile
    if foreground.stopped:
        return Occupant("agent_suspended", f"{foreground.name} is stopped")
    if seen.person_types:
        return Occupant(DRIVING, "keys of a person")
    if seen.keys_pend:
        return Occupant(DRIVING, "keys that the program has just been given", is_fleeting=True)
    if profile.treatment == "show":
        return None
    if (
        not foreground.same_group
        and not profile.composer
        and (seen.spawned.treatment == "show" or seen.spawned.composer)
    ):
        return Occupant("agent_busy", f"{foreground.name} has the terminal")
    if profile.composer:
        return _before_a_composer(profile, sight)
    if seen.waits() is Wait.NO:
        return Occupant("agent_busy", "it does not wait for its keyboard", is_fleeting=True)
    return None


def _before_a_composer(profile: Profile, sight: Sight) -> Occupant | None:
    if sight.composer is not None and not sight.composer.is_empty:
        return Occupant("composer_unclear", "a text stands in its composer", is_fleeting=True)
    if sight.works:
        return Occupant(
            "agent_busy", "its screen says that it works", profile.busy_patience_s if sight.composer else 0.0
        )
    if sight.composer is None:
        return Occupant("agent_busy", "no composer has the cursor", is_fleeting=True, may_be_stale=True)
    return None


class Watched(Protocol):
    """What is needed of the session."""

    def report(self, fact: Fact) -> None: ...
    def occupant_now(self) -> Occupant | None:
        """Look at the terminal."""

    def occupation_moved(self) -> None: ...
    def repaint(self) -> None:
        """Have the program paint its screen anew."""


class Occupation:
    """Keeps who has one terminal; reports Occupied and Freed as they happen."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self.person = Person()
        self._reported: Occupant | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._closed = False
        self._repaint_at = math.inf

    def note(self, holder: Occupant | None) -> None:
        """Somebody has the terminal, or it is free: what is new is reported, and watched until it is free."""
        if holder != self._reported and not self._closed:
            if self._reported is not None:
                self._watched.report(Freed())
            if holder is not None:
                self._watched.report(Occupied(reason=holder.reason, detail=holder.detail, patience_s=holder.patience_s))
            self._reported = holder
            is_stale = holder is not None and holder.may_be_stale
            self._repaint_at = asyncio.get_running_loop().time() + REPAINT_S if is_stale else math.inf
            self._watched.occupation_moved()
        if holder is not None and self._tick is None and not self._closed:
            self._tick = asyncio.get_running_loop().call_later(LOOK_S, self._look_again)

    def forget(self) -> None:
        """A question or a draft was reported since: who has the terminal is said anew."""
        self._reported = None

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        if self._tick is not None:
            self._tick.cancel()

    def _look_again(self) -> None:
        self._tick = None
        if asyncio.get_running_loop().time() >= self._repaint_at:
            self._repaint_at = math.inf
            self._watched.repaint()
        if self._reported is not None:
            self.note(self._watched.occupant_now())
