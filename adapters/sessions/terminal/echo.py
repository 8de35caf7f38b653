"""Whether the output of a program shows what was typed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.terminal.sequences import plain_text
from relaybroker.adapters.sessions.terminal.view import solid

if TYPE_CHECKING:
    from relaybroker.adapters.sessions.host.output_ring import OutputRing

_LOOK_BACK_BYTES = 16 * 1024


@dataclass
class Echo:
    """Looks for a needle in the output from `start` on, each byte about once."""

    needle: str
    start: int
    _raw: bytes = field(init=False)
    _scanned: int = field(init=False)

    def __post_init__(self) -> None:
        self._raw = self.needle.encode("utf-8", "replace")
        self._scanned = self.start

    def seen(self, ring: OutputRing) -> bool:
        """Whether the output shows the needle, possibly wrapped, indented or coloured."""
        if not self.needle or ring.end == self.start:
            return False
        if ring.find(self._raw, self._scanned):
            return True
        self._scanned = max(self.start, ring.end - len(self._raw) + 1)
        recent = ring.since(max(self.start, ring.end - _LOOK_BACK_BYTES))
        return self.needle in solid(plain_text(recent))
