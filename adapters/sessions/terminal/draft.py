"""What stands in a program's composer before Enter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.terminal import typed_text
from relaybroker.adapters.sessions.terminal.proof import Before

if TYPE_CHECKING:
    from relaybroker.adapters.sessions.host.protocol import Inject


@dataclass
class Draft:
    """What stands in the program's composer of one delivery or of several, and what is still to be written before Enter."""

    injects: tuple[Inject, ...]
    """As they were last asked for, in order."""
    rest: bytes
    written: int
    start: int
    """Output offset at the start of the injection."""
    written_at: float = 0.0
    enter_at: int = 0
    """Output offset at Enter."""
    at_once: bool = False
    """Enter is part of what is written."""
    pauses: bool = True
    """The program gets its pause between text and Enter."""
    before: Before = field(default_factory=Before)
    waited_ms: float = 0.0

    @property
    def needle(self) -> str:
        """The end of what was typed."""
        return typed_text.needle(self.text)

    @property
    def text(self) -> str:
        return "\n\n".join(inject.text for inject in self.injects)

    def place(self, delivery_id: str) -> int | None:
        """Which of them it is."""
        return next((at for at, inject in enumerate(self.injects) if inject.delivery_id == delivery_id), None)
