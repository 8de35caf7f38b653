"""Names that are nearest to one that does not exist: what is said to whoever misspelt it.

Source: spec/conversation.md sections 2, 4 and 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

NEAREST = 3
"""So many names are shown at most."""


def nearest_names(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> list[str]:
    """Known names that look like this one, whatever their case, nearest first.

    Args:
        name: as it was written.
        known: all that there are.
        cutoff: how alike they must be: 1 is the same, 0 nothing.
    """
    spelled = {one.lower(): one for one in known}
    return [spelled[one] for one in get_close_matches(name[:128].lower(), spelled, n=NEAREST, cutoff=cutoff)]
