"""What people do to agents' terminals, as facts for the log: that they typed, how much, its digest, and never the keys.

Keys come one by one; what comes within `WINDOW_S` is one fact.

Source: spec/local-api.md section 1.3, routes 14 to 16; design/architecture.md section 3 (nothing happens that is not in the log).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

from relaybroker.domain.inputs import Input, TerminalSized, TerminalTyped

WINDOW_S = 1.0
DIGEST_BYTES = 16


class _Typed:
    """What was typed into one terminal since the last fact."""

    def __init__(self) -> None:
        self.frames = self.size = 0
        self.digest = hashlib.blake2b(digest_size=DIGEST_BYTES)


class Touches:
    """Tells the core what people do to terminals.

    Args:
        offer: gives an input to the core; False if it has no room, and then the fact grows and is offered again.
    """

    def __init__(self, offer: Callable[[Input], bool]) -> None:
        self._offer = offer
        self._open: dict[str, _Typed] = {}

    def typed(self, session_id: str, keys: bytes) -> None:
        """A person wrote these bytes to a terminal."""
        typed = self._open.get(session_id)
        if typed is None:
            typed = self._open[session_id] = _Typed()
            asyncio.get_running_loop().call_later(WINDOW_S, self._tell, session_id)
        typed.frames += 1
        typed.size += len(keys)
        typed.digest.update(keys)

    def sized(self, session_id: str, rows: int, cols: int, owner: str) -> None:
        """A person gave a terminal this size."""
        self._offer(TerminalSized(session_id=session_id, rows=rows, cols=cols, owner=owner))

    def _tell(self, session_id: str) -> None:
        typed = self._open[session_id]
        fact = TerminalTyped(
            session_id=session_id, frames=typed.frames, size=typed.size, digest=typed.digest.hexdigest()
        )
        if self._offer(fact):
            del self._open[session_id]
        else:
            asyncio.get_running_loop().call_later(WINDOW_S, self._tell, session_id)
