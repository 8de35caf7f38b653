"""What a person sees on a terminal at one moment: rows, cursor, and which characters nobody typed.

Source: spec/real-agents.md; ADR-0040.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import overload

_RULE_GLYPHS = "─━═▔▁╌╍┄┅"
_BOX = "│┃║|"
_FULL_RULE = re.compile(rf"[{_RULE_GLYPHS}]{{3,}}.*[{_RULE_GLYPHS}]$")
_MIN_RULE = 16
_GREY = range(0x40, 0xD0)


class Rows(Sequence[str]):
    """Rows of a screen, each made when it is first looked at."""

    def __init__(self, count: int, make: Callable[[int], str]) -> None:
        self._made: list[str | None] = [None] * count
        self._make = make

    def __len__(self) -> int:
        return len(self._made)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it is a sequence like a list

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[row] for row in range(*at.indices(len(self._made)))]
        if (made := self._made[at]) is None:
            made = self._made[at] = self._make(at % len(self._made))
        return made


@dataclass(frozen=True)
class View:
    """One painted screen, to be read before more is painted. Rows are padded to the width; `row` and `column` count from 0."""

    rows: Sequence[str]
    columns: int
    row: int
    column: int
    cursor_hidden: bool
    alternate: bool
    bracketed_paste: bool
    is_dim: Callable[[int, int], bool] = field(compare=False)
    """Whether what a row shows from a column on is printed as nobody's: a placeholder or a suggestion. A blank rest is."""

    def trimmed(self, row: int) -> str:
        """A row without the blanks at its end."""
        return self.rows[row].rstrip()

    @property
    def cursor_line(self) -> str:
        return self.rows[self.row]

    @property
    def before_cursor(self) -> str:
        return self.rows[self.row][: self.column]

    def is_rule(self, row: int) -> bool:
        """Whether the row is a horizontal line, possibly with a title in it."""
        text = self.rows[row].strip()
        if not text or text[0] not in _RULE_GLYPHS or not _FULL_RULE.match(text):
            return False
        glyphs = sum(character in _RULE_GLYPHS for character in text)
        return glyphs >= min(_MIN_RULE, self.columns // 2) and glyphs * 2 >= len(text)

    def wraps(self, row: int) -> bool:
        """Whether the row goes on in the next one: it is full to the last column."""
        return len(self.trimmed(row)) >= self.columns

    def without(self, hidden: set[int]) -> View:
        """The same screen with these rows blank."""
        blank = " " * self.columns
        return replace(self, rows=[blank if row in hidden else line for row, line in enumerate(self.rows)])

    def is_blank(self, row: int) -> bool:
        return not self.rows[row].strip()

    @cached_property
    def joined(self) -> str:
        """All text without white space and frames, lower case: phrases are found however the terminal wraps them."""
        return bare("".join(self.rows))

    @cached_property
    def text_until_cursor(self) -> str:
        """As `solid`, up to the cursor."""
        return solid("".join((*self.rows[: self.row], self.before_cursor)))

    def ends_at_cursor(self, text: str) -> bool:
        """Whether `text_until_cursor` ends with `text`; reads no more rows than that takes."""
        return self._ends(self.before_cursor, self.row, text)

    def ends_with(self, text: str) -> bool:
        """The same of the whole screen."""
        last = len(self.rows) - 1
        return self._ends(self.rows[last], last, text)

    def _ends(self, line: str, row: int, text: str) -> bool:
        tail = solid(line)
        while len(tail) < len(text) and text.endswith(tail) and row > 0:
            row -= 1
            tail = solid(self.rows[row]) + tail
        return tail.endswith(text)

    def between(self, text: str) -> str | None:
        """What stands between the last `text` above the cursor and the cursor, as `text_until_cursor`; None = the text is not there."""
        above, row = solid(self.before_cursor), self.row
        while (at := above.rfind(text)) < 0 and row > 0:
            row -= 1
            above = solid(self.rows[row]) + above
        return None if at < 0 else above[at + len(text) :]

    @cached_property
    def text_after_cursor(self) -> str:
        """As `solid`, from the cursor on."""
        return solid("".join((self.rows[self.row][self.column :], *self.rows[self.row + 1 :])))


_SPACE_AND_FRAME = re.compile(rf"[\s{re.escape(_BOX)}]+")
_UNSURE = re.compile(
    "[\u00ad\u0300-\u036f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u20d0-\u20ff\ufe00-\ufe0f\ufeff\U0001f000-\U0001faff\U000e0000-\U000e0fff]+"
)
"""What terminals and programs draw in different ways: emoji and what joins them, combining and invisible characters."""


def bare(text: str, *, lower: bool = True) -> str:
    """`text` without white space and vertical frames."""
    stripped = _SPACE_AND_FRAME.sub("", text)
    return stripped.lower() if lower else stripped


def solid(text: str) -> str:
    """`text` as `bare`, case kept, without what is drawn differently from one program to the next: what a typed text is known by."""
    return _UNSURE.sub("", bare(text, lower=False))


def is_dimmed(foreground: str, *, faint: bool) -> bool:
    """Whether a character is printed as a placeholder is: faint, or in a grey between typed text and background."""
    if faint or foreground == "brightblack":
        return True
    if len(foreground) != 6:
        return False
    try:
        red, green, blue = (int(foreground[at : at + 2], 16) for at in (0, 2, 4))
    except ValueError:
        return False
    is_grey = max(red, green, blue) - min(red, green, blue) <= 0x30
    return is_grey and (red + green + blue) // 3 in _GREY
