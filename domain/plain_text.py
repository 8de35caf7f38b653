r"""Text of others, made harmless for a terminal or a line of a log: what acts there, hides or turns the order around is spelled out.

| character | shown as |
|---|---|
| control characters (C0, DEL, C1), line and paragraph separators | `\n`, `\x1b`, `\u2028` |
| format characters (bidirectional marks, zero width, tags), lone surrogates | `\u202e`, `\ud800` |

Everything else stays as it is. Pure.
"""

from __future__ import annotations

import re
import unicodedata

_PLAIN = re.compile(r"[\x20-\x7e]*\Z")
_ACTS = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))


def plain(text: str) -> str:
    """`text` as one line in which nothing acts."""
    if _PLAIN.match(text):
        return text
    return "".join(_spelled(character) if unicodedata.category(character) in _ACTS else character for character in text)


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii") if character != "\t" else " "
