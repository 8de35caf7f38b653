"""What a decoder says about bytes that somebody else wrote: one tuple, because each decoder has exceptions of its own.

A value that is no JSON, no UTF-8, of another shape, of a number that is too large, or nested deeper than the stack: all of these are
"not readable", and none of them may end a program.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

NOT_READABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""For `except`: the bytes cannot be read as what was asked for. `UnicodeDecodeError` is a ValueError."""

MAX_DEPTH = 100
"""Levels of a value that is taken in: what is deeper could not be written down and read again everywhere."""


def is_too_deep(value: Any) -> bool:
    """Whether a value has more than `MAX_DEPTH` levels; level by level, without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for container in level for item in _items(container)]
        if not level:
            return False
    return True


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def is_text(text: str) -> bool:
    """Whether a string is text: one with lone surrogates can be stored and sent nowhere."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
