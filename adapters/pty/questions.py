"""Whether a screen asks something: what is typed now, or an Enter alone, would be the answer.

Structure decides: a selection cursor beside its siblings, `[Y/n]` at the cursor, a hidden input, a pager, a foot that says what Enter does.
Phrases of a profile only name what was found. Asked only of screens on which no composer has the cursor, so a program may write about
questions as it likes. Pure. Source: real-agents.md; SAFE-KEYS; ADR-0040.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relaybroker.adapters.pty.harnesses import Profile
    from relaybroker.adapters.pty.view import View

HIDDEN_INPUT = "hidden input"
FULL_SCREEN = "full screen"
_LAST_ROWS = 24
_SIBLING_ROWS = 4
_FOOT_ROWS = 4

_PASSWORD = re.compile(r"(pass(word|phrase|code)|\bPIN\b|verification code|one-time code)[^\n]{0,80}$", re.IGNORECASE)
_CHOICE = re.compile(
    r"""(?ix)
      [\[(] \s* (?:y(?:es)? \s* [/|] \s* n(?:o)? | n(?:o)? \s* [/|] \s* y(?:es)?) (?:\s*[/|]\s*\w+)* \s* [\])]
    | \( y \) es .* \( n \) o
    | \b yes \s* / \s* no \b
    | \b [yn] \s* / \s* [yn] \b
    | [\[(] \w{1,8} (?:\s*[/|,]\s*\w{1,8}){1,8} [\])] \s* [?:>]? \s* $
    | [\[(] \d+ \s* (?:-|\.\.|to) \s* \d+ [\])] \s* [?:>]? \s* $
    """
)
_ASKS = re.compile(
    r"""(?ix) \b (?: are \s you \s sure | do \s you (?:\s really)? \s (?:want|wish|accept|agree|trust) | would \s you \s like \s to
      | continue | proceed | overwrite | replace | delete | remove | apply | allow | accept | confirm | approve | install | update
      | upgrade | trust | abort | retry | save | discard | really ) \b [^?]{0,120} \? \s* $"""
)
_PICKS = re.compile(
    r"(?i)\b(enter|select|choose|pick|type)\b[^.]{0,40}\b(choice|option|number|selection|one|answer)\b[^.]{0,40}[:?>]?\s*$"
)
_LOGIN_AT_CURSOR = re.compile(r"(?i)\b(login|user ?name|e-?mail|token|api[ _-]?key|otp|2fa code)\s*[:>?]\s*$")
_PAGER = re.compile(
    r"(?i)^(--\s?more\s?--.*|\(END\).*|:|.*\bpress (h|q) (for help|to quit).*|lines \d+-\d+.*|.*\(END\)|.*-- ?more ?--.*)$"
)
_FOOT = re.compile(
    r"""(?ix)
      \b (?:press \s+)? (?:enter|return|⏎|↵) \s+ (?:to \s+)? (?:select|confirm|continue|open|submit|choose|accept|proceed)
    | \b press \s+ (?:any|a) \s+ key | \b any \s (?:other \s)? key \s to \b
    | \b hit \s+ (?:enter|return|any \s key) \b
    | \b esc (?:ape)? \s+ (?:to \s+)? (?:cancel|reject|dismiss|go \s back)
    | (?:↑/?↓|arrow \s keys|up/down) .{0,20} (?:navigate|select|move|choose)
    | waiting \s for \s user \s confirmation
    """
)
MARKED = re.compile(r"^(?P<before>[\s│┃|]*)(?P<mark>[❯›▸▶►➤◉⏵»◆●•→>*-]|\(\s?[•*xX]\s?\)|\[[xX*]\])\s+(?P<text>\S.*)$")
_STRONG = "❯›▸▶►➤◉⏵»◆"
_NUMBERED = re.compile(r"(\(?\d{1,2}[.):]|\(?[a-zA-Z][.)])\s")
_ANSWER = re.compile(
    r"(?i)(yes|no|ok|cancel|allow|deny|accept|reject|skip|continue|exit|quit|trust|don'?t|always|once|never)\b"
)
_UNMARKED = re.compile(r"[\s│┃|]*(?P<radio>[○◯]|\(\s?\)|\[\s?\])?\s*$")
_IN_ONE_ROW = re.compile(
    r"(?i)[●◉]\s+\S.{0,40}[○◯]\s+\S|[○◯]\s+\S.{0,40}[●◉]\s+\S|<\s*(yes|no|ok|cancel|continue|exit)\s*>.*<\s*\w+[\w ]*>"
)
_PROMPT = re.compile(r"^[^<]*(?:^|\s)[>❯›»$%#:]\s?$|>>>\s?$|\]:\s?$")

_PROMPT_ROW = re.compile(r"(^|[\s│┃|])[>❯›»$%#:]\s")


_CONSOLE = re.compile(
    r"""(?x) (?: (?:^|\s)>>> | ^\.\.\. | \(\w*[Pp]db\+*\) | i?pdb> | In\s\[\d+\]: | \((?:gdb|lldb|rdb:\d+|dlv)\) | sqlite> | mysql>
      | MariaDB\s\[.*\]> | \w+=[\#>] | irb\(.*\)[^\s]*[>*] | \[\d+\]\spry\(.*\)> | ghci> | Prelude> | julia> | scala> | jshell>
      | iex\(\d+\)> | ^[$\#%] | (?:^|\s)(?: [\w.-]+@\S.* | \w*sh[\w.-]* | \S*[~/]\S* | .*\) )\s?[$\#] ) \s? $"""
)
"""Prompts at which every program runs what it is typed."""


def is_console(view: View) -> bool:
    """Whether the cursor is at the prompt of a shell, an interpreter or a debugger, inside of whatever program."""
    return bool(_CONSOLE.search(view.before_cursor)) and not view.rows[view.row][view.column :].strip()


def question_on(profile: Profile, view: View, *, collects_lines: bool, echoes: bool) -> str | None:
    """The name of what the screen asks; None when it asks nothing. For a screen on which no composer has the cursor."""
    if (collects_lines and not echoes and _PASSWORD.search(view.cursor_line.rstrip())) or _asks_hidden(view):
        return HIDDEN_INPUT
    question = _structure(view, collects_lines=collects_lines)
    if profile.composer and (named := profile.dialog_in(view.joined)) is not None:
        return named
    if question is None and profile.plain_program and view.alternate and _is_full_screen(view):
        return FULL_SCREEN
    return question


def _asks_hidden(view: View) -> bool:
    """A password is asked for on the row of the cursor, and nothing stands behind the colon."""
    return bool(re.search(r"(?i)(password|passphrase|passcode)\b[^:]{0,60}:\s*$", view.before_cursor))


def _structure(view: View, *, collects_lines: bool) -> str | None:
    line = _asked_line(view)
    if _CHOICE.search(line) or _ASKS.search(line) or _PICKS.search(line):
        return "question"
    if _LOGIN_AT_CURSOR.search(line):
        return "login"
    if _pages(view):
        return "pager"
    at_prompt = bool(_PROMPT.search(view.before_cursor)) and not view.rows[view.row][view.column :].strip()
    if not at_prompt and not collects_lines and _selects(view):
        return "selection"
    if not at_prompt and _has_foot(view):
        return "question"
    return None


def _asked_line(view: View) -> str:
    """What is written up to the cursor on its row, with the rows that wrap into it."""
    row, line = view.row, view.before_cursor
    if view.rows[row][view.column :].strip():
        line = view.trimmed(row)
    while row > 0 and view.wraps(row - 1) and len(line) < 400:
        row -= 1
        line = view.rows[row] + line
    return line.strip()


def _pages(view: View) -> bool:
    return bool(_PAGER.match(view.trimmed(view.row).strip())) and view.row >= len(view.rows) // 3


def _last_rows(view: View) -> list[int]:
    shown = [row for row in range(len(view.rows)) if not view.is_blank(row)]
    return shown[-_LAST_ROWS:]


def _has_foot(view: View) -> bool:
    if view.cursor_hidden:
        near = _last_rows(view)[-_FOOT_ROWS:]
    else:
        near = list(range(max(0, view.row - 1), min(view.row + _FOOT_ROWS, len(view.rows))))
    return bool(_FOOT.search(" ".join(view.trimmed(row).strip() for row in near)))


def _selects(view: View) -> bool:
    """A marked row with siblings in the part of the screen that the cursor is in."""
    last = _last_rows(view)
    for row in reversed(last):
        if not view.cursor_hidden and not row - _SIBLING_ROWS <= view.row <= last[-1] + 1:
            continue
        if _IN_ONE_ROW.search(view.trimmed(row)):
            return True
        marked = MARKED.match(view.trimmed(row))
        if marked is not None and any(_are_options(marked, sibling) for sibling in _siblings(view, row, marked)):
            return True
    return False


class _Sibling(NamedTuple):
    """What a row near the marked one shows in the same column."""

    text: str
    has_radio: bool
    """It has the sign of an option that is not chosen."""
    is_apart: bool
    """Blank rows are between the two."""


def _siblings(view: View, row: int, marked: re.Match[str]) -> Iterator[_Sibling]:
    column = marked.start("text")
    for step in (-1, 1):
        is_apart = False
        for distance in range(1, _SIBLING_ROWS + 1):
            at = row + step * distance
            if not 0 <= at < len(view.rows):
                break
            line = view.rows[at]
            before, text = _UNMARKED.match(line[:column]), line[column:].rstrip()
            if before is not None and text and not text[0].isspace():
                yield _Sibling(text, before["radio"] is not None, is_apart)
            elif before is None and line.strip("│┃| "):
                break
            is_apart = is_apart or not line.strip("│┃| ")


def _are_options(marked: re.Match[str], sibling: _Sibling) -> bool:
    text, mark = marked["text"], marked["mark"]
    if sibling.has_radio or len(mark) > 1 or (_NUMBERED.match(text) and _NUMBERED.match(sibling.text)):
        return True
    if mark not in _STRONG or sibling.is_apart:
        return False
    return bool(_ANSWER.match(text) or _ANSWER.match(sibling.text) or len(text) <= 60)


def _is_full_screen(view: View) -> bool:
    """A program that has the whole screen and shows no line to type in."""
    return not _PROMPT_ROW.search(view.before_cursor + " ")
