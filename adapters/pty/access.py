"""One look at a terminal before something is typed into it, and again after Enter. Source: ADR-0040."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.pty.foreground import Foreground
    from adapters.pty.harnesses import Profile
    from adapters.pty.occupation import Occupant
    from adapters.pty.process_table import Wait
    from adapters.pty.sight import Sight
    from adapters.pty.view import View


class Access(NamedTuple):
    """Who has the terminal, what it shows, and what keeps text out. To be read at once: the screen is not kept."""

    foreground: Foreground
    view: View
    sight: Sight
    occupant: Occupant | None
    waits: Callable[[], Wait | None]

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
