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

    from relaybroker.adapters.sessions.terminal.harnesses import Profile
    from relaybroker.adapters.sessions.terminal.view import View

HIDDEN_INPUT = "hidden input"
FULL_SCREEN = "full screen"
_LAST_ROWS = 24
_SIBLING_ROWS = 4
_FOOT_ROWS = 4
_OPTION_LENGTH = 60

_PASSWORD = re.compile(
    r"(?i)(pass(word|phrase|code)|\bPIN\b|(verification|one-time) code|secret|\btoken\b|credential|\bkey\b"
    r"|kennwort|passwort|contraseña|mot de passe)[^\n]{0,80}$"
)
_CHOICE = re.compile(
    r"""(?ix)
      [\[(] \s* (?:y(?:es)? \s* [/|] \s* n(?:o)? | n(?:o)? \s* [/|] \s* y(?:es)?) (?:\s*[/|]\s*\w+)* \s* [\])]
    | \( y \) es .* \( n \) o
    | \b yes \s* / \s* no \b
    | \b [yn] \s* / \s* [yn] \b
    | [\[(] \w{1,8} (?:\s*[/|,]\s*[\w?!@/]{1,8}){1,24} [\])] \s* [?:>]* \s* $
    | [\[(] \d+ \s* (?:-|\.\.|to) \s* \d+ [\])] \s* [?:>]? \s* $
    | \b [yn] \s+ or \s+ [yn] \b
    | \? \s* [\[(] [^\s\[\]()]{1,20} [\])] \s* [?:>]? \s* $
    """
)
_DEFAULT = re.compile(r"\w\W{0,3}\s[\[(][^\[\]()]{1,40}[\])]\s*:\s*$|\w:\s+\([^()]{1,60}\)\s*$")
"""What Enter alone would answer is shown: `Region [eu]:`, `version: (1.0.0)`."""
_OF_A_FORM = re.compile(r"[\s│┃|]*(?:\?|\[\?\])\s+\w")
"""How the libraries for prompts, in whatever language, begin a question."""
_TO_CONFIRM = re.compile(
    r"(?i)\b(?:type|enter)\b.{1,80}\bto\s+(?:confirm|continue|proceed|approve|accept|overwrite|delete|drop|remove|destroy)\b.{0,80}[:>]\s*$"
)
_NAMED_PROMPT = re.compile(r"^[\w.@/~-]{1,40}[>❯›»]\s?$")
_BARE = re.compile(r"\s*(?:#?\?|\?#)\s*$")
_NUMBERED_ROW = re.compile(r"\s*[\[(]?\d{1,2}[\]).:]\s+\S")
_NUMBERED_IN_ONE_ROW = re.compile(r"\s*\*?[\[(]?\d{1,2}[\]).:]\s+\S.*\s{2,}[\[(]?\d{1,2}[\]).:]\s+\S")
_BEGINS_TO_ASK = re.compile(
    r"""(?ix) (?: ^ | [.!:;] \s ) \W* (?: which | where | when | who | whose | how \s (?! can | may ) | shall | should | is | are
      | does | do | did | will | was | has | have ) \b [^?]{1,120} \? \s* $"""
)
_WANTS_A_KEY = re.compile(
    r"(?i)\b(?:press|hit|strike)\s+\W?(?:enter|return|space|any|a key)\b|[<\[](?:enter|return)[>\]]"
)
_ASKS = re.compile(
    r"""(?ix) \b (?: are \s you \s sure | do \s you (?:\s really)? \s (?:want|wish|accept|agree|trust) | would \s you \s like \s to
      | continue | proceed | overwrite | replace | delete | remove | apply | allow | accept | confirm | approve | install | update
      | upgrade | trust | abort | retry | save | discard | really ) \b [^?]{0,120} \? \s* $"""
)
_PICKS = re.compile(
    r"(?i)\b(?:enter|select|choose|pick|type)\b[^.]{0,40}\b(?:choice|option|number|selection|one|answer)\b[^.]{0,40}[:?>]?\s*$"
    r"|\b(?:choice|selection|option)\s*[:?>]\s*$"
)
_ASKING = (_CHOICE, _ASKS, _PICKS, _BEGINS_TO_ASK, _TO_CONFIRM, _WANTS_A_KEY)
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
_BOX = re.compile(r"[\s│┃|❯›>→]*(?:\[[ xX*]\]|\([ xX*•]\)|\{[ xX*]\}|[○◯◉●⊙])\s+(?=\S)")
"""What is before an option that may be chosen together with others."""
_BUTTONS = re.compile(
    r"(?i)[\s│┃║|x]*(?:<\s*(?:ok|yes|no|cancel|continue|exit|back|help|next|accept|finish|extra|done|select)\s*>[\s│┃║|x]*)+"
)
"""A row with nothing but buttons in a frame (`x` is a frame of a terminal without line drawing)."""
_ENDS_AS_PROMPT = re.compile(r"(?:[>❯›»$#:?]|(?<!\d)%)\s?$")
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
    """The name of what the screen asks; None when it asks nothing. For a screen on which no composer has the cursor.

    A program that takes single keys and has the kernel show them (`read -n 1`) waits for one key as an answer: no line editor does that.
    """
    if (collects_lines and not echoes and _PASSWORD.search(view.cursor_line.rstrip())) or _asks_hidden(view):
        return HIDDEN_INPUT
    question = _structure(view, collects_lines=collects_lines)
    if profile.plain_program and echoes and not collects_lines:
        return question or "question"
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
    if not collects_lines and not line and _asks_above(view):
        return "question"
    if _OF_A_FORM.match(line) or any(pattern.search(line) for pattern in _ASKING) or _below_numbers(view, line):
        return "question"
    if _DEFAULT.search(line) and not is_console(view):
        return "question"
    if _LOGIN_AT_CURSOR.search(line):
        return "login"
    if _pages(view) or (not collects_lines and _shows_a_page(view)):
        return "pager"
    at_prompt = (
        bool(_PROMPT.search(view.before_cursor)) and not view.rows[view.row][view.column :].strip()
    ) or _is_at_last_prompt(view)
    if not at_prompt and not collects_lines and (_selects(view) or _stands_on_text(view)):
        return "selection"
    if not at_prompt and _has_foot(view):
        return "question"
    return None


def _is_at_last_prompt(view: View) -> bool:
    """`name> ` with nothing behind it and nothing below: what stands above is what was written before."""
    is_last = not any(view.rows[row].strip() for row in range(view.row + 1, len(view.rows)))
    return is_last and bool(_NAMED_PROMPT.search(view.before_cursor)) and not view.cursor_line[view.column :].strip()


def _asks_above(view: View) -> bool:
    """The row above the cursor's blank row offers a choice, and the program waits for a key."""
    is_still_empty = view.column == 0 and view.is_blank(view.row) and not view.bracketed_paste
    return is_still_empty and view.row > 0 and bool(_CHOICE.search(view.trimmed(view.row - 1)))


def _below_numbers(view: View, line: str) -> bool:
    """A bare `?` below a list with numbers, or any prompt below numbers that stand beside each other."""
    above = [view.trimmed(row) for row in range(max(0, view.row - _SIBLING_ROWS), view.row)]
    is_prompt = bool(_ENDS_AS_PROMPT.search(line)) and len(line) <= _OPTION_LENGTH
    is_below_list = bool(_BARE.match(line)) and any(_NUMBERED_ROW.match(row) for row in above)
    return is_below_list or (is_prompt and any(_NUMBERED_IN_ONE_ROW.match(row) for row in above))


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


def _shows_a_page(view: View) -> bool:
    """A full screen above a last row that says something and is no prompt, of a program that takes single keys and no pastes."""
    last = len(view.rows) - 1
    if view.row != last or view.bracketed_paste or view.cursor_hidden or not view.before_cursor.strip():
        return False
    is_line = _ENDS_AS_PROMPT.search(view.before_cursor) or view.rows[last][view.column :].strip()
    return not is_line and not any(view.wraps(row) for row in (last - 1, last)) and not any(map(view.is_blank, (0, 1)))


def _last_rows(view: View) -> list[int]:
    shown = [row for row in range(len(view.rows)) if not view.is_blank(row)]
    return shown[-_LAST_ROWS:]


def _has_foot(view: View) -> bool:
    if view.cursor_hidden:
        near = _last_rows(view)[-_FOOT_ROWS:]
    else:
        near = list(range(max(0, view.row - 1), min(view.row + _FOOT_ROWS, len(view.rows))))
    return bool(_FOOT.search(" ".join(view.trimmed(row).strip() for row in near)))


def _stands_on_text(view: View) -> bool:
    """The hidden cursor is at the beginning of a row with text, and more follows: it moves over what can be chosen."""
    below = view.row + 1
    is_on_text = view.column == 0 and not view.is_blank(view.row) and not view.is_dim(view.row, 0)
    return view.cursor_hidden and is_on_text and below < len(view.rows) and not view.is_blank(below)


def _selects(view: View) -> bool:
    """Boxes, buttons, or a marked row with siblings in the part of the screen that the cursor is in."""
    last = _last_rows(view)
    is_prompt = bool(_ENDS_AS_PROMPT.search(view.before_cursor))
    if any(_BUTTONS.fullmatch(view.trimmed(row)) for row in last) or (not is_prompt and _has_boxes(view, last)):
        return True
    for row in reversed(last):
        if not view.cursor_hidden and not row - _SIBLING_ROWS <= view.row <= last[-1] + 1:
            continue
        if _IN_ONE_ROW.search(view.trimmed(row)):
            return True
        marked = MARKED.match(view.trimmed(row))
        if marked is None:
            continue
        siblings = list(_siblings(view, row, marked))
        if any(_are_options(marked, sibling) for sibling in siblings):
            return True
        if not is_prompt and _is_list(view, row, marked, siblings):
            return True
    return False


def _is_list(view: View, row: int, marked: re.Match[str], siblings: list[_Sibling]) -> bool:
    """`>` may begin a prompt or a quotation: it marks an option where the cursor is elsewhere, between siblings without a gap."""
    near = [sibling for sibling in siblings if not sibling.is_apart and len(sibling.text) <= _OPTION_LENGTH]
    is_elsewhere = view.cursor_hidden or view.row != row
    return marked["mark"] == ">" and is_elsewhere and len(marked["text"]) <= _OPTION_LENGTH and len(near) > 1


def _has_boxes(view: View, last: list[int]) -> bool:
    """Two boxes below each other, in the part of the screen that the cursor is in."""
    for upper in last:
        lower = upper + 1
        if lower >= len(view.rows) or not (view.cursor_hidden or upper - _SIBLING_ROWS <= view.row <= last[-1] + 2):
            continue
        first, second = _BOX.match(view.rows[upper]), _BOX.match(view.rows[lower])
        if first is not None and second is not None and first.end() == second.end():
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
    return bool(_ANSWER.match(text) or _ANSWER.match(sibling.text) or len(text) <= _OPTION_LENGTH)


def _is_full_screen(view: View) -> bool:
    """A program that has the whole screen and shows no line to type in."""
    return not _PROMPT_ROW.search(view.before_cursor + " ")
