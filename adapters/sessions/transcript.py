"""What a program without terminal does and says, as a text that people read and type at in the place of its screen.

Every entry stands on lines of its own; what the program says in pieces is shown line by line. The last row is the draft of whoever types
at it. What programs and messages say is made harmless first: nothing in it acts on the terminal that shows it.
Source: ADR-0094.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Literal

from relaybroker.domain.plain_text import plain

if TYPE_CHECKING:
    from collections.abc import Callable

Style = Literal["said", "thought", "did", "person", "message", "note", "asked", "failed"]

MAX_ENTRY = 16 * 1024
"""Characters of one entry that are shown."""
MAX_PIECE = 2000
"""Characters of a line that is not at its end yet; then what there is of it is shown."""
PROMPT = "› "
_STYLES: dict[Style, tuple[str, str]] = {
    "said": ("", ""),
    "thought": ("\x1b[2m", ""),
    "did": ("\x1b[36m", "· "),
    "person": ("\x1b[1m", "› "),
    "message": ("\x1b[1m", "» "),
    "note": ("\x1b[2m", "– "),
    "asked": ("\x1b[33m", "? "),
    "failed": ("\x1b[31m", "! "),
}
"""How an entry begins: rendition, and mark."""


class Transcript:
    """The text, as output for a terminal.

    Args:
        emit: takes the bytes.
        columns: how wide the terminal is.
    """

    def __init__(self, emit: Callable[[bytes], None], columns: Callable[[], int]) -> None:
        self._emit, self._columns = emit, columns
        self._style: Style | None = None
        """Of what is being said in pieces."""
        self._piece = ""
        self._draft = ""
        self._has_piece_row = False
        """The beginning of a line is shown above the draft."""

    def start(self) -> None:
        """Show the row of the draft. Pastes are told from keys."""
        self._emit(b"\x1b[?2004h" + self._last_rows())

    def add(self, style: Style, text: str) -> None:
        """One entry."""
        self.end_piece()
        self._show(style, text)

    def piece(self, style: Style, text: str) -> None:
        """What is said next, as part of an entry that goes on until something else comes."""
        if style != self._style:
            self.end_piece()
            self._style = style
        *lines, self._piece = (self._piece + text).split("\n")
        if len(self._piece) > MAX_PIECE:
            lines, self._piece = [*lines, self._piece], ""
        if lines:
            self._show(style, "\n".join(lines))
        else:
            self._repaint()

    def end_piece(self) -> None:
        """Nothing more of what was said comes."""
        style, piece = self._style, self._piece
        self._style, self._piece = None, ""
        if style is not None and piece:
            self._show(style, piece)

    def draft(self, text: str) -> None:
        """Show what is being typed."""
        self._draft = text
        self._repaint()

    def _show(self, style: Style, text: str) -> None:
        if len(text) > MAX_ENTRY:
            text = f"{text[:MAX_ENTRY]} … ({len(text) - MAX_ENTRY} more characters)"
        rendition, mark = _STYLES[style]
        lines = [plain(line) for line in re.split(r"\r\n|\r|\n", text)]
        indent = " " * len(mark)
        shown = "\r\n".join(f"{rendition}{indent if row else mark}{line}\x1b[0m" for row, line in enumerate(lines))
        self._emit(self._erased() + f"{shown}\r\n".encode("utf-8", "replace") + self._last_rows())

    def _repaint(self) -> None:
        self._emit(self._erased() + self._last_rows())

    def _erased(self) -> bytes:
        """Take away the rows that do not stay: the draft, and above it the beginning of a line."""
        rows, self._has_piece_row = 1 + self._has_piece_row, False
        return b"\x1b[A".join([b"\r\x1b[K"] * rows)

    def _last_rows(self) -> bytes:
        """The end of what has begun and of the draft, as much as one row holds of each."""
        rows = ""
        if self._style is not None and self._piece:
            self._has_piece_row = True
            rows = f"{_STYLES[self._style][0]}{self._fitting(self._piece)}\x1b[0m\r\n"
        draft = self._draft.replace("\n", "⏎")
        return f"{rows}{PROMPT}{self._fitting(draft)}".encode("utf-8", "replace")

    def _fitting(self, text: str) -> str:
        room = max(1, self._columns() - len(PROMPT) - 2)
        shown = plain(text[-room:])
        while shown and _width(shown) > room:
            shown = shown[max(1, (_width(shown) - room) // 2) :]
        return shown


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
