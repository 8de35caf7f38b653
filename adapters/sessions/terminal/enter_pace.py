"""Whether a program without a profile of its own takes Enter right behind a text, or takes it for a part of a paste: learned from it.

The pause before Enter (`settle_ms`) is for programs that tell a paste by its speed. Most do not, and for them it only costs time. So the
first message goes in with the pause; when the program answered it at once, with more than a prompt, the next one goes in without. When its
Enter does not submit, which the proof of Enter shows and mends, the program gets the pause from then on. Programs that ask for bracketed
paste always get it. Source: real-agents.md; ADR-0042.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relaybroker.adapters.sessions.terminal.foreground import Foreground


class EnterPace:
    """What one terminal's programs have shown; only the one in front is remembered."""

    def __init__(self) -> None:
        self._pid = 0
        self._is_quick = False
        self._is_slow = False

    def pauses(self, front: Foreground, *, bracketed_paste: bool) -> bool:
        """Whether Enter waits for the program's pause."""
        is_known = bool(front.profile.composer) or bracketed_paste
        return is_known or front.pid != self._pid or not self._is_quick

    def note(self, front: Foreground, enters: int, *, answered: bool) -> None:
        """How many Enters a text took, and whether the program showed more behind it than a prompt."""
        if front.pid != self._pid:
            self._pid, self._is_quick, self._is_slow = front.pid, False, False
        self._is_slow = self._is_slow or (self._is_quick and enters > 1)
        self._is_quick = not self._is_slow and enters == 1 and answered
