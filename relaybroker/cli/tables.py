"""Lists as aligned columns. A list never wraps: in a terminal the widest text is cut, in a pipe nothing is."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from relaybroker.cli.output import say
from relaybroker.domain.plain_text import plain

_GAP = "  "
_LEAST = 12
"""Cells that a column keeps when it is cut."""


def table(titles: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str = "") -> None:
    """Print rows below their titles; `empty` instead of a list of nothing."""
    if not rows:
        if empty:
            say(empty, err=True)
        return
    cells = [list(titles), *([plain("" if cell is None else str(cell)) for cell in row] for row in rows)]
    widths = [max(_width(row[column]) for row in cells) for column in range(len(titles))]
    if sys.stdout.isatty():
        _shrink(widths, shutil.get_terminal_size().columns)
    for number, row in enumerate(cells):
        fitted = [_fit(cell, width) for cell, width in zip(row, widths, strict=True)]
        say(_GAP.join(fitted).rstrip(), bold=not number)


def facts(pairs: Sequence[tuple[str, object]]) -> None:
    """Print names with their values below each other."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        say(f"{name:<{width}}  {'-' if value in (None, '') else value}")


def _shrink(widths: list[int], room: int) -> None:
    """Take from the widest columns until a row fits, or none can give any more."""
    while sum(widths) + len(_GAP) * (len(widths) - 1) > room:
        widest = max(range(len(widths)), key=widths.__getitem__)
        if widths[widest] <= _LEAST:
            return
        widths[widest] -= 1


def _width(text: str) -> int:
    if text.isascii():  # `plain` has left no control character
        return len(text)
    from wcwidth import wcswidth  # its tables take as long to load as the rest of a command's tables

    return max(0, wcswidth(text))


def _fit(text: str, width: int) -> str:
    if _width(text) <= width:
        return text + " " * (width - _width(text))
    kept, used = "", 0
    for sign in text:
        cells = _width(sign)
        if used + cells > width - 1:
            break
        kept, used = kept + sign, used + cells
    return f"{kept}…" + " " * (width - 1 - used)
