"""The options of what a screen asks, and the keys that choose one. Pure.

A list is known by its selection mark with siblings in the same column, as in `questions`; a choice by letters in brackets; else the
foot says what Enter and Escape do. A list is never trusted to a count of rows: whoever chooses moves the mark, looks where it
stands, and confirms only then.

Source: spec/real-agents.md; ADR-0072.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from relaybroker.adapters.sessions.terminal.questions import MARKED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_OPTIONS = 32
LABEL_MAX = 200
"""Characters of a label."""
TEXT_ROWS = 14
"""Rows above the options that say what is asked."""

UP, DOWN, ENTER, ESCAPE = b"\x1b[A", b"\x1b[B", b"\r", b"\x1b"
_FRAME = "│┃|█"
_EDGES = re.compile(r"^[\s│┃|█]*|[\s│┃|█]*$")
_NUMBER = re.compile(r"\(?(\d{1,2})[.):]\s+")
_SCROLLED = re.compile(r"[↑↓]\s+\d+ more\b")
_LETTERS = re.compile(r"\[(?P<key>[A-Za-z])\]\s?(?P<label>[^\[\]]*?)(?=\s{2,}|\s*\[|\s*$)")
_IN_WORDS = re.compile(r"\((?P<key>[A-Za-z])\)(?P<rest>[\w' ]*)")
_BRACKETS = re.compile(r"[\[(](?P<words>[A-Za-z]{1,8}(?:\s*[/|]\s*[A-Za-z]{1,8}){1,6})[\])][^\[(]{0,12}$")
_FOOT = re.compile(
    r"(?i)\b(?P<key>enter|return|esc(?:ape)?)\s+(?:to\s+)?(?!to\b)(?P<does>[a-z]+(?:\s[a-z]+){0,3}?)(?=\s*[·|,.]|\s+or\b|\s{2,}|\s*$)"
)
_GOES_ON = frozenset(("continue", "proceed", "open", "start", "retry", "exit", "close", "dismiss", "skip"))
"""What Enter may do where nothing is selected; of a list that was not understood nobody knows what it would choose."""
_CHECKED = re.compile(r"[✔✓●○◉◯]\s+|(?:\[[ xX*✔]\]|\([ xX*•]\))\s+")
_BOX = re.compile(r"(?:\d{1,2}[.)]\s+)?(?:\[[ xX*✔✓]?\]|\([ xX*•]?\)|[☐☑☒◻◼◯◉○●⬡⬢])(?:\s|$)")
"""A box of its own beside the mark."""
_STRONG = "❯›▸▶►➤◉⏵◆"


class Option(NamedTuple):
    """One way to answer."""

    label: str
    key: str
    """What a person may name it by, besides its label: its number or letter; blank where it has none."""
    is_marked: bool = False
    """The selection mark stands at it."""
    keys: bytes = b""
    """What chooses it at once; blank for an option of a list: the mark has to be moved there."""
    row: int = 0
    more: str = ""
    """What the rows below a numbered option say: the rest of its label, or a description."""
    is_numbered: bool = False
    """Its key is a number of its own, and not its place among what is seen."""


class Asked(NamedTuple):
    """What a screen asks."""

    text: tuple[str, ...]
    """The rows that say it, without frames."""
    options: tuple[Option, ...]


def asked(rows: Sequence[str], cursor_row: int) -> Asked:
    """Read a screen that asks something. `cursor_row` counts from 0."""
    for read in (_list, _letters, _words):
        if listed := read(rows, cursor_row):
            options = (*listed, *(option for option in _foot(rows) if option.keys == ESCAPE))
            return Asked(_text(rows, listed[0].row), options[:MAX_OPTIONS])
    knows_enter = not any(MARKED.match(row) for row in rows)
    options = tuple(
        option for option in _foot(rows) if option.keys == ESCAPE or (knows_enter and option.label in _GOES_ON)
    )
    last = options[0].row if options else min(cursor_row, len(rows) - 1) + 1
    return Asked(_text(rows, last), options)


def move(options: Sequence[Option], wanted: Option) -> bytes:
    """The key that moves the mark towards an option of a list; Enter when it is there."""
    if any(option.is_marked and is_same(option, wanted) for option in options):
        return ENTER
    marked = next((option.row for option in options if option.is_marked), 0)
    there = next((option.row for option in options if is_same(option, wanted)), wanted.row)
    return DOWN if there > marked else UP


def is_same(option: Option, other: Option) -> bool:
    """Whether two looks at a list saw the same option; the list may have scrolled in between."""
    has_own_key = option.keys or option.is_numbered
    return (option.label, option.keys) == (other.label, other.keys) and (not has_own_key or option.key == other.key)


def chosen(options: Sequence[Option], answer: str) -> Option | None:
    """The one option that a person means by its number or letter, its label, or the beginning of its label."""
    wanted = answer.strip().casefold()
    for meant in (
        [option for option in options if option.key.casefold() == wanted],
        [option for option in options if option.label.casefold() == wanted],
        [option for option in options if wanted and option.label.casefold().startswith(wanted)],
    ):
        if len(meant) == 1:
            return meant[0]
    return None


# --- lists --------------------------------------------------------------------------------------------------------------


def _list(rows: Sequence[str], _cursor_row: int) -> tuple[Option, ...]:
    """The options around the last mark that has any beside it."""
    for row in range(len(rows) - 1, -1, -1):
        marked = MARKED.match(rows[row])
        if marked is None:
            continue
        numbered = _NUMBER.match(marked["text"])
        checked = _CHECKED.match(marked["text"])
        column = marked.start("text") + (checked.end() if checked else 0)
        if marked["mark"].startswith("[") or any(map(_has_box, rows[max(0, row - MAX_OPTIONS) : row + 1])):
            return ()  # of these several can be chosen; Enter takes what is ticked
        around = _around(rows, row, column, is_numbered=bool(numbered))
        labels = [(option.label, option.key if option.is_numbered else "") for option in around]
        is_list = numbered or marked["mark"][0] in _STRONG or _is_asked_above(rows, around[0].row)
        if is_list and len(set(labels)) == len(labels) > 1:
            return tuple(around)
    return ()


def _has_box(line: str) -> bool:
    marked = MARKED.match(line)
    return marked is not None and marked["mark"] not in ("-", "*", "•") and _BOX.match(marked["text"]) is not None


def _is_asked_above(rows: Sequence[str], first: int) -> bool:
    above = next((line for row in range(first - 1, -1, -1) if (line := _EDGES.sub("", rows[row]))), "")
    return above.endswith(("?", ":"))


def _around(rows: Sequence[str], marked_row: int, column: int, *, is_numbered: bool) -> list[Option]:
    options: list[Option] = []
    for row in _extent(rows, marked_row, column, is_numbered=is_numbered):
        text = _row_text(rows[row], column)
        number = _NUMBER.match(text) if is_numbered else None
        if not text or _SCROLLED.match(text) or (is_numbered and number is None):
            if options and is_numbered:
                more = f"{options[-1].more} {_EDGES.sub('', rows[row][column:])}".strip()
                options[-1] = options[-1]._replace(more=more[:LABEL_MAX])
            continue
        label = text[number.end() :] if number else text
        key = number[1] if number else str(len(options) + 1)
        options.append(
            Option(label[:LABEL_MAX], key, is_marked=row == marked_row, row=row, is_numbered=number is not None)
        )
    return options


def _extent(rows: Sequence[str], marked_row: int, column: int, *, is_numbered: bool) -> range:
    """The rows of a list: until a row that is none of it. Numbered options may stand apart."""

    def last(step: int) -> int:
        row = marked_row
        while 0 <= row + step < len(rows):
            ahead = row + step
            if is_numbered and not rows[ahead].strip(_FRAME + " "):
                ahead += step
                if not (0 <= ahead < len(rows) and _NUMBER.match(rows[ahead][column:])):
                    break
            if not _belongs(rows[ahead], column):
                break
            row = ahead
        return row

    return range(last(-1), last(1) + 1)


def _belongs(line: str, column: int) -> bool:
    """Whether a row near a list is one of its options, or stands below one of them."""
    before, text = line[:column], line[column:].strip(_FRAME + " ")
    return bool(text) and not _CHECKED.sub("", before).strip(_FRAME + " ❯›>") and not set(text) <= set("─━═╌-")


def _row_text(line: str, column: int) -> str:
    """What a row shows from the column of the options on; blank where it begins further right: it says more of the option above."""
    return "" if line[column : column + 1].isspace() else _EDGES.sub("", line[column:])


# --- letters, words, foot -------------------------------------------------------------------------------------------------


def _letters(rows: Sequence[str], _cursor_row: int) -> tuple[Option, ...]:
    """`[y] Approve   [n] Deny`: a letter is the answer."""
    for row in range(len(rows) - 1, -1, -1):
        letters = [*_LETTERS.finditer(rows[row])]
        if len(letters) > 1 and all(one["label"].strip() for one in letters):
            return tuple(Option(one["label"].strip(), one["key"], keys=one["key"].encode(), row=row) for one in letters)
    return ()


def _words(rows: Sequence[str], cursor_row: int) -> tuple[Option, ...]:
    """`(Y)es/(N)o/(D)on't ask again`, `[y/N]` at the cursor: a letter or word is typed."""
    first = cursor_row
    while first > 0 and rows[first - 1].rstrip() and cursor_row - first < 2:
        first -= 1
    for start in range(cursor_row, first - 1, -1):
        line = "".join(rows[start : cursor_row + 1]).rstrip()
        if len(spelt := [*_IN_WORDS.finditer(line)]) > 1:
            return tuple(_typed((one["key"] + one["rest"]).strip(), one["key"].lower(), start) for one in spelt)
        if bracketed := _BRACKETS.search(line):
            words = re.split(r"\s*[/|]\s*", bracketed["words"])
            return tuple(_typed(word.lower(), word.lower(), start) for word in words)
    return ()


def _typed(label: str, word: str, row: int) -> Option:
    return Option(label, word, keys=word.encode(), row=row)


def _foot(rows: Sequence[str]) -> Iterator[Option]:
    """`Enter to confirm · Esc to cancel`."""
    shown = [row for row in range(len(rows)) if rows[row].strip(_FRAME + " ")][-4:]
    seen: set[str] = set()
    for row in shown:
        for one in _FOOT.finditer(_EDGES.sub("", rows[row])):
            key = "enter" if one["key"].lower() in ("enter", "return") else "esc"
            if key not in seen:
                seen.add(key)
                yield Option(one["does"].lower(), key, keys=ENTER if key == "enter" else ESCAPE, row=row)


def _text(rows: Sequence[str], until: int) -> tuple[str, ...]:
    """The last rows above the options, from the last rule on."""
    text: list[str] = []
    for row in range(until - 1, max(-1, until - 1 - TEXT_ROWS), -1):
        line = _EDGES.sub("", rows[row])
        if line and set(line) <= set("─━═▔╭╮┌┐╰╯└┘ "):
            break
        text.append(line)
    return tuple(line for line in reversed(text) if line)
