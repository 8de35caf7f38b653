"""Names: which an agent may have, and which are nearest to one that does not exist, for whoever misspelt it.

Source: spec/conversation.md sections 2, 4 and 5; spec/local-api.md section 11.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

NEAREST = 3
"""So many names are shown at most."""
_OF_AGENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def is_agent_name(name: str) -> bool:
    """Whether an agent may have this name: one part of a path, and nothing but that."""
    return _OF_AGENT.fullmatch(name) is not None and ".." not in name


def nearest_names(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> list[str]:
    """Known names that look like this one, whatever their case, nearest first.

    Args:
        name: as it was written.
        known: all that there are.
        cutoff: how alike they must be: 1 is the same, 0 nothing.
    """
    spelled = {one.lower(): one for one in known}
    return [spelled[one] for one in get_close_matches(name[:128].lower(), spelled, n=NEAREST, cutoff=cutoff)]
