"""The cells of a screen: pyte's screen, made fast enough and bounded, and the colours of a cell as a terminal is told them."""

from __future__ import annotations

from typing import Any, NamedTuple
from unicodedata import combining, normalize

import pyte
from pyte import modes as pyte_modes
from wcwidth import wcwidth

_MAX_SAVED_CURSORS = 16
_MAX_CELL_CACHE = 4096
_MAX_CELL_CHARACTERS = 8


_FAINT, _NORMAL_INTENSITY = 2, 22
_COLOUR_PREFIXES = (38, 48)


class Cell(NamedTuple):
    """pyte's character with one attribute more: programs print faint what nobody typed (placeholders, suggestions)."""

    data: str = " "
    fg: str = "default"
    bg: str = "default"
    bold: bool = False
    italics: bool = False
    underscore: bool = False
    strikethrough: bool = False
    reverse: bool = False
    blink: bool = False
    faint: bool = False


class Grid(pyte.Screen):
    """pyte's screen with cells shared between equal characters, cheap scrolling and a bounded cursor stack."""

    def __init__(self, columns: int, lines: int) -> None:
        self._cells: dict[tuple[Any, str], Any] = {}
        super().__init__(columns, lines)

    @property
    def default_char(self) -> Any:
        return Cell(reverse=pyte_modes.DECSCNM in self.mode)

    def reset(self) -> None:
        super().reset()
        self.cursor.attrs = self.default_char

    def select_graphic_rendition(self, *attrs: int) -> None:
        super().select_graphic_rendition(*attrs)
        if (faint := _faint(attrs)) is not None:
            self.cursor.attrs = self.cursor.attrs._replace(faint=faint)  # type: ignore[call-arg]  # it is a Cell

    def draw(self, data: str) -> None:
        cursor = self.cursor
        attributes = cursor.attrs
        cells = self._cells
        if len(cells) > _MAX_CELL_CACHE:
            cells.clear()
        wrap = pyte_modes.DECAWM in self.mode
        insert = pyte_modes.IRM in self.mode
        ascii_only = data.isascii()
        line = self.buffer[cursor.y]
        for character in data:
            width = 1 if ascii_only else wcwidth(character)
            if width <= 0:
                self._combine(character)
                continue
            if cursor.x + width > self.columns:
                if wrap:
                    cursor.x = 0
                    self.linefeed()
                    line = self.buffer[cursor.y]
                else:
                    cursor.x = max(0, self.columns - width)
            if insert:
                self.insert_characters(width)
            cell = cells.get((attributes, character))
            if cell is None:
                cell = cells[attributes, character] = attributes._replace(data=character)
            line[cursor.x] = cell
            if width == 2 and cursor.x + 1 < self.columns:
                line[cursor.x + 1] = attributes._replace(data="")
            cursor.x += width

    def _combine(self, character: str) -> None:
        """Put a character without width on the one before it; a cell holds at most 8, so none grows for ever."""
        x = min(self.cursor.x, self.columns) - 1
        if x < 0:
            return
        line = self.buffer[self.cursor.y]
        if not line[x].data and x:
            x -= 1
        if len(line[x].data) < _MAX_CELL_CHARACTERS and combining(character):
            line[x] = line[x]._replace(data=normalize("NFC", line[x].data + character))

    def index(self) -> None:
        if self.margins is not None or self.cursor.y != self.lines - 1:
            super().index()
            return
        buffer = self.buffer
        for y in range(self.lines - 1):
            below = buffer.pop(y + 1, None)
            if below is None:
                buffer.pop(y, None)
            else:
                buffer[y] = below

    def next_line(self) -> None:
        self.index()
        self.carriage_return()

    def save_cursor(self) -> None:
        super().save_cursor()
        del self.savepoints[:-_MAX_SAVED_CURSORS]


def _faint(attributes: tuple[int, ...]) -> bool | None:
    """What the parameters of one SGR say last about intensity; None = nothing."""
    is_faint: bool | None = None
    codes = iter(attributes or (0,))
    for code in codes:
        if code in _COLOUR_PREFIXES:
            skipped = 3 if next(codes, 0) == 2 else 1
            for _ in range(skipped):
                next(codes, None)
        elif code == _FAINT:
            is_faint = True
        elif code in (0, _NORMAL_INTENSITY):
            is_faint = False
    return is_faint


_COLOURS = ("black", "red", "green", "brown", "blue", "magenta", "cyan", "white")


def rendition(cell: Any) -> str:
    """SGR parameters (`;1;31`) that give the attributes of `cell` after a reset."""
    out = ""
    for flag, code in (
        (cell.bold, 1),
        (cell.faint, 2),
        (cell.italics, 3),
        (cell.underscore, 4),
        (cell.blink, 5),
        (cell.reverse, 7),
        (cell.strikethrough, 9),
    ):
        if flag:
            out += f";{code}"
    return out + _colour(cell.fg, 30) + _colour(cell.bg, 40)


def _colour(name: str, base: int) -> str:
    if name == "default":
        return ""
    if name in _COLOURS:
        return f";{base + _COLOURS.index(name)}"
    if name.startswith("bright") and (plain := name.removeprefix("bright")) in _COLOURS:
        return f";{base + 60 + _COLOURS.index(plain)}"
    if len(name) != 6:
        return ""  # a colour component above 255
    return f";{base + 8};2;{int(name[0:2], 16)};{int(name[2:4], 16)};{int(name[4:6], 16)}"
