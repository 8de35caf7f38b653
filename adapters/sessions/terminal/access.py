"""One look at a terminal before something is typed into it, and again after Enter. Source: ADR-0040."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from relaybroker.adapters.sessions.host.process_table import Wait
    from relaybroker.adapters.sessions.terminal.foreground import Foreground
    from relaybroker.adapters.sessions.terminal.harnesses import Profile
    from relaybroker.adapters.sessions.terminal.occupation import Occupant
    from relaybroker.adapters.sessions.terminal.sight import Sight
    from relaybroker.adapters.sessions.terminal.view import View


class Access:
    """Who has the terminal, what it shows, and what keeps text out. To be read at once: the screen is not kept.

    Args:
        foreground: the program that gets the keys.
        view: the painted screen.
        look: reads it; not called before somebody asks for what it shows.
        occupant: who or what has the terminal; None = it is free, or was not asked.
        waits: how the program waits; costs system calls.
    """

    def __init__(
        self,
        foreground: Foreground,
        view: View,
        look: Callable[[], Sight],
        occupant: Occupant | None,
        waits: Callable[[], Wait | None],
    ) -> None:
        self.foreground = foreground
        self.view = view
        self.occupant = occupant
        self.waits = waits
        self._look = look

    @cached_property
    def sight(self) -> Sight:
        """Composer, work and question."""
        return self._look()

    @property
    def profile(self) -> Profile:
        return self.foreground.profile

    @property
    def shows(self) -> bool:
        """A message is shown on this terminal, not typed."""
        return self.profile.treatment == "show"

    @property
    def question(self) -> str | None:
        return self.sight.question
