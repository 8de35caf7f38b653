"""Who gives an agent's terminal its size, where several attach to it: one at a time, known by an id of its own choice.

The first that names itself has the terminal until it was silent for `STALE_S`; the others are told what size it has. Whoever names nobody
is a person at a command, whose word counts. Nothing of this outlives the broker.

Source: spec/local-api.md section 1.3, route 16.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

STALE_S = 300.0
MAX_OWNED = 1024
"""Terminals whose owner is remembered; the one that was sized the longest ago is forgotten first."""


class _Owner(NamedTuple):
    owner: str
    at: float


class Resizers:
    """The owners of terminal sizes.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._owners: dict[str, _Owner] = {}

    def other_than(self, owner: str, session_id: str) -> str | None:
        """Whose terminal it is, if it is another one's; None = this one may give it a size."""
        claim = self._owners.get(session_id)
        if not owner or claim is None or claim.owner == owner or self._clock() - claim.at >= STALE_S:
            return None
        return claim.owner

    def resized(self, owner: str, session_id: str) -> None:
        """This one gave the terminal a size."""
        self._owners.pop(session_id, None)
        if owner:
            self._owners[session_id] = _Owner(owner, self._clock())
            if len(self._owners) > MAX_OWNED:
                del self._owners[next(iter(self._owners))]
