"""What a misspelt word may have meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """A sentence that names what a word may have meant; "" when nothing is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - words are rarely misspelt, and every command imports this

    near = get_close_matches(word, list(known), n=3, cutoff=cutoff)
    return f" Did you mean {' or '.join(near)}?" if near else ""
