"""What a person types at a transcript, as lines and keys: the little of a line editor that a terminal itself would do. Pure."""

from __future__ import annotations

import codecs
import re

MAX_LINE = 16 * 1024
"""Characters of a line; what is typed behind them is not taken."""
INTERRUPT = "\x03"
"""Ctrl-C."""
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\[O])")
_BEGUN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")
_PASTE, _PASTED = "\x1b[200~", "\x1b[201~"
_MAX_BEGUN = 64


class LineEditor:
    """Keys in, whole lines out. A paste may have several lines; each Enter outside one ends the line."""

    def __init__(self) -> None:
        self.draft = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        """The beginning of a sequence."""
        self._in_paste = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that these keys end, in order; `INTERRUPT` for Ctrl-C on an empty line, which clears one that is not."""
        text = self._rest + self._decoder.decode(data)
        self._rest = ""
        lines: list[str] = []
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                if (sequence := _ESCAPE.match(text, at)) is None:
                    if _BEGUN.match(text, at) and len(text) - at < _MAX_BEGUN:
                        self._rest = text[at:]
                        break
                    at += 1
                    continue
                self._in_paste = sequence[0] == _PASTE or (self._in_paste and sequence[0] != _PASTED)
                at = sequence.end()
                continue
            if (ended := self._key(text[at])) is not None:
                lines.append(ended)
            at += 1
        return lines

    def _key(self, key: str) -> str | None:
        if key in "\r\n" and not self._in_paste:
            line, self.draft = self.draft, ""
            return line
        if key == INTERRUPT:
            was_empty, self.draft = not self.draft, ""
            return INTERRUPT if was_empty else None
        if key in "\x7f\b":
            self.draft = self.draft[:-1]
        elif key == "\x15":
            self.draft = ""
        elif key == "\x17":
            self.draft = re.sub(r"\S*\s*\Z", "", self.draft)
        elif (key.isprintable() or key in "\r\n\t") and len(self.draft) < MAX_LINE:
            self.draft += "\n" if key == "\r" else key
        return None
