"""Where a program takes text: its composer, and whether that is empty.

Nothing is typed into a program that has composer rules but on this proof: its composer is on the screen, has the cursor, and holds no
text. What a placeholder or a suggestion shows is nobody's text: it is dim and begins at the cursor. A program that lost track of its
cursor (qwen after SIGCONT) has an empty composer all the same where it draws its own placeholder, dim, on a screen that is still.

Rules are data (`adapters/sessions/terminal/harnesses/*.toml`, `[[composer]]`). Pure: what is seen is an argument.
Source: spec/real-agents.md ("Where an empty composer is"); F084; ADR-0040.
"""

from __future__ import annotations

import functools
import math
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relaybroker.adapters.sessions.terminal.view import View

ABOVE_ROWS = 4
"""`above` is looked for in so many rows above the composer."""
MAX_ROWS = 200
PLACEHOLDER_QUIET_S = 1.0
"""A placeholder away from the cursor counts when the program printed nothing for so long."""
_OPTION = re.compile(r"\s+[❯›▸▶►➤]\s")


class ComposerRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way in which a program draws its composer. Regular expressions are matched from the beginning of a padded row."""

    frame: Literal["rules", "open", "left"]
    """`rules`: between two horizontal lines. `open`: from the prompt row down. `left`: behind a vertical bar, above a foot."""
    prompt: str = ""
    """Matches the beginning of the first row; the text begins behind it. (`left`: the beginning of every row.)"""
    placeholder: str = ""
    """`rules`: what the program draws, dim, in its empty composer and nowhere else."""
    rest: str = "  "
    """`open`: matches the beginning of the rows that continue the text."""
    repeats: bool = False
    """`open`: the prompt stands before every row of the text, also of one that goes on in the next row."""
    blank_rows: bool = False
    """`open`: the text may have empty rows."""
    above: str = ""
    """One of the four rows above must match."""
    foot: str = ""
    """`left`: the last row of the frame; text ends above it."""
    below: str = ""
    """`left`: the row below the foot. `open`: one of the rows below an empty composer must match."""
    steady_s: float = 0.0
    """Only when the program printed nothing for so long."""
    shows_cursor: bool = False
    """Only while the cursor is shown: the program hides it in menus."""
    needs_paste: bool = False
    """Only while the program has asked for bracketed paste: its line editor has the keyboard."""


class Composer(NamedTuple):
    """A composer that has the keyboard."""

    top: int
    bottom: int
    """First and last row of its text."""
    text: str
    """Without placeholder and without white space at the ends; rows are separated by LF."""

    @property
    def is_empty(self) -> bool:
        return not self.text


def find(rules: Sequence[ComposerRule], view: View, quiet_s: float = math.inf) -> Composer | None:
    """The composer that has the cursor, or shows that it is empty; None when there is none. `quiet_s`: since the last output."""
    for rule in rules:
        is_out = (rule.needs_paste and not view.bracketed_paste) or (rule.shows_cursor and view.cursor_hidden)
        if is_out or quiet_s < rule.steady_s:
            continue
        if (composer := _FRAMES[rule.frame](rule, view)) is not None:
            return composer
    if quiet_s < PLACEHOLDER_QUIET_S:
        return None
    return next((composer for rule in rules if rule.placeholder and (composer := _with_placeholder(rule, view))), None)


def _with_placeholder(rule: ComposerRule, view: View) -> Composer | None:
    """The one composer between two rules that holds the placeholder."""
    rows = [
        row
        for row in range(1, len(view.rows) - 1)
        if view.is_rule(row - 1) and view.is_rule(row + 1) and _holds_placeholder(rule, view, row)
    ]
    return Composer(rows[0], rows[0], "") if len(rows) == 1 else None


def _holds_placeholder(rule: ComposerRule, view: View, row: int) -> bool:
    line = view.rows[row]
    first = _compiled(rule.prompt).match(line)
    if first is None or line[first.end() :].strip() != rule.placeholder:
        return False
    start = line.index(rule.placeholder)
    return view.is_dim(row, start) and view.is_dim(row, start + len(rule.placeholder) - 1)


def _between_rules(rule: ComposerRule, view: View) -> Composer | None:
    top = next((row for row in range(view.row - 1, -1, -1) if view.is_rule(row)), None)
    bottom = next((row for row in range(view.row + 1, len(view.rows)) if view.is_rule(row)), None)
    if top is None or bottom is None or view.is_rule(view.row):
        return None
    first = _compiled(rule.prompt).match(view.rows[top + 1])
    if first is None:
        return None
    return _composer(view, top + 1, bottom - 1, first.end())


def _open(rule: ComposerRule, view: View) -> Composer | None:
    prompt, rest = _compiled(rule.prompt), _compiled(rule.rest)
    for row in range(view.row, max(-1, view.row - MAX_ROWS), -1):
        if (first := prompt.match(view.rows[row])) is not None:
            break
        if _OPTION.match(view.rows[row]):
            return None  # a menu below an earlier prompt
        is_wrapped = row > 0 and view.wraps(row - 1)
        if not is_wrapped and (rest.match(view.rows[row]) is None or (view.is_blank(row) and not rule.blank_rows)):
            return None
    else:
        return None
    if view.column < first.end() and not (view.row > row and view.wraps(view.row - 1)):
        return None
    while rule.repeats and row > 0 and (above := prompt.match(view.rows[row - 1])) is not None:
        row, first = row - 1, above
    if rule.above and not any(_compiled(rule.above).match(line) for line in view.rows[max(0, row - ABOVE_ROWS) : row]):
        return None
    bottom = row
    while bottom + 1 < len(view.rows) and not view.is_blank(bottom + 1) and rest.match(view.rows[bottom + 1]):
        bottom += 1
    bottom = max(bottom, view.row)
    composer = _composer(view, row, bottom, first.end(), before=prompt if rule.repeats else None)
    is_shown = not rule.below or any(_compiled(rule.below).match(line) for line in view.rows[bottom + 1 :])
    return composer if is_shown or not composer.is_empty else None


def _behind_bar(rule: ComposerRule, view: View) -> Composer | None:
    bar, foot, below = (_compiled(pattern) for pattern in (rule.prompt, rule.foot, rule.below))
    start = bar.match(view.rows[view.row])
    if start is None:
        return None
    top = view.row
    while top > 0 and bar.match(view.rows[top - 1]):
        top -= 1
    for row in range(view.row + 1, len(view.rows) - 1):
        if not bar.match(view.rows[row]):
            return None
        if foot.match(view.rows[row]) and below.match(view.rows[row + 1]):
            return _composer(view, top, row - 1, start.end(), indent=start.end())
    return None


def _composer(
    view: View, top: int, bottom: int, start: int, indent: int = 0, before: re.Pattern[str] | None = None
) -> Composer:
    """What these rows hold behind `start`, further ones behind `indent`, or behind what matches `before`."""
    rows = [view.rows[top][start:], *(row[indent:] for row in view.rows[top + 1 : bottom + 1])]
    if before is not None:
        rows = [row[match.end() :] if (match := before.match(row)) else row for row in view.rows[top : bottom + 1]]
    text = "\n".join(row.rstrip() for row in rows).strip()
    is_first = all(not row.strip() for row in rows[: view.row - top])
    if text and is_first and view.column == start and view.is_dim(view.row, start + 1):
        last = next((row for row in range(view.row + 1, bottom + 1) if not view.is_dim(row, indent)), bottom + 1)
        text = "\n".join(row.rstrip() for row in rows[last - top :]).strip()
    return Composer(top, bottom, text)


_FRAMES = {"rules": _between_rules, "open": _open, "left": _behind_bar}


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
