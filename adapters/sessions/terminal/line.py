"""What typing needs of the session: its output, its keyboard, and looks at its terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from relaybroker.adapters.sessions.host.output_ring import OutputRing
    from relaybroker.adapters.sessions.host.protocol import Fact
    from relaybroker.adapters.sessions.terminal.access import Access
    from relaybroker.adapters.sessions.terminal.foreground import Foreground
    from relaybroker.adapters.sessions.terminal.occupation import Occupant
    from relaybroker.adapters.sessions.terminal.writer import TerminalWriter


class Line(Protocol):
    """One session, as whoever types into it sees it."""

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

    def is_unpainted(self, foreground: Foreground) -> bool:
        """Whether the screen may be one that the program has not painted since it was stopped or resized."""

    def occupied_by(self, occupant: Occupant | None) -> None:
        """Report who has the terminal, and watch it until it is free."""

    def show(self, text: str) -> bool:
        """Put a text on the terminal without typing it; False while its output is in the middle of a sequence."""

    def report(self, fact: Fact) -> None: ...
    def typing(self, text: str) -> None: ...
    def draft_changed(self, *, in_composer: bool) -> None: ...
