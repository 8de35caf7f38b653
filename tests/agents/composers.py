"""Where each program's composer is on its screen, and what stands in it: the tests' own judgement, not the broker's.

It knows the program, looks at a screen of at least 24 x 40, and is only asked about states that a test made itself;
the broker's rules have to be better than this.
"""

from __future__ import annotations

import re

from tests.agents.terminal import Screen

_RULE = re.compile(r"^\s*[─━▔]{20,}")
_TITLED_RULE = re.compile(r"^\s*─{2,}.*─{2,}\s*$")


def composer(program: str, screen: Screen) -> str | None:
    """What stands in the composer, placeholders left out; None = there is no composer with the keyboard."""
    return _FINDERS[program](screen)


def _rest(screen: Screen, first: int, last: int, start: int) -> str:
    """Text of rows `first` to `last` (0-based, inclusive) from column `start` on; faint text is a placeholder."""
    rows = []
    for row in range(first, last + 1):
        line, look = screen.lines[row], screen.attributes(row + 1)
        rows.append("".join(c for at, c in enumerate(line) if at >= start and (at >= len(look) or look[at] != "f")))
    return "\n".join(rows).replace("\xa0", " ").strip()


def _between_rules(screen: Screen, prompt: str) -> str | None:
    lines, row = screen.lines, screen.cursor[0] - 1
    up = next((at for at in range(row - 1, -1, -1) if _is_rule(lines[at])), None)
    down = next((at for at in range(row, len(lines)) if _is_rule(lines[at])), None)
    if up is None or down is None or down - up < 2 or not (match := re.match(prompt, lines[up + 1])):
        return None
    return _rest(screen, up + 1, down - 1, match.end())


def _is_rule(line: str) -> bool:
    return bool(_RULE.match(line) or _TITLED_RULE.match(line))


def _claude(screen: Screen) -> str | None:
    draft = _between_rules(screen, r"^[❯!#](?:\s|$)")
    return None if draft is None or re.match(r"\d\. ", draft) else draft


def _codex(screen: Screen) -> str | None:
    lines, row = screen.lines, screen.cursor[0] - 1
    first = row
    while first > 0 and (lines[first].startswith("  ") or not lines[first]) and row - first < 12:
        first -= 1
    if not re.match(r"^› ?", lines[first]) or re.match(r"^› \d\. ", lines[first]) or screen.cursor_hidden:
        return None
    if not any(re.match(r"^  \S.* · ", one) for one in lines[row + 1 :]):
        return None  # it shows a composer before its session is there; keys wait, and the first one is lost
    return _rest(screen, first, row, 2)


def _gemini(screen: Screen) -> str | None:
    lines, row = screen.lines, screen.cursor[0] - 1
    first = row
    while first > 0 and not lines[first].startswith((" > ", " ! ", " * ")) and row - first < 15:
        first -= 1
    if not lines[first].startswith((" > ", " ! ", " * ")) or not any(_RULE.match(one) for one in lines[:first]):
        return None
    draft = _rest(screen, first, row, 3)
    return "" if draft.startswith("Type your message or @path") else draft


def _opencode(screen: Screen) -> str | None:
    lines, row = screen.lines, screen.cursor[0] - 1
    end = next((at for at in range(row, min(row + 16, len(lines))) if re.match(r"^\s*╹▀+", lines[at])), None)
    if screen.cursor_hidden or end is None or not lines[row].lstrip().startswith("┃"):
        return None
    mode = next((at for at in range(row, end) if re.search(r"┃\s+(?:Build|Plan|Shell)\b", lines[at])), None)
    if mode is None:
        return None
    first = row
    while first > 0 and lines[first - 1].lstrip().startswith("┃"):
        first -= 1
    text = "\n".join(re.sub(r"^\s*┃ ?", "", one) for one in lines[first:mode]).strip()
    return "" if text.startswith("Ask anything") else text


def _qwen(screen: Screen) -> str | None:
    draft = _between_rules(screen, r"^\s*[>!*](?:\s|$)")
    is_ghost = screen.cursor[1] == 3  # a suggested next prompt
    return "" if draft is not None and (is_ghost or draft.startswith("Type your message or @path")) else draft


def _copilot(screen: Screen) -> str | None:
    return _between_rules(screen, r"^\s*[❯!](?:\s|$)")


def _pi(screen: Screen) -> str | None:
    # Its cursor is hidden, and elsewhere while a popup is open.
    rules = [at for at, line in enumerate(screen.lines) if _is_rule(line)]
    return _rest(screen, rules[-2] + 1, rules[-1] - 1, 0) if len(rules) > 1 and rules[-1] - rules[-2] > 1 else None


def _cline(screen: Screen) -> str | None:
    draft = _between_rules(screen, r"^\s*❯(?:\s|$)")
    return "" if draft is not None and draft.startswith(("What can I do for you?", "Ask anything")) else draft


def _aider(screen: Screen) -> str | None:
    lines, row = screen.lines, screen.cursor[0] - 1
    if not screen.bracketed_paste:
        return None  # it reads its keyboard only while it has its prompt
    for first in range(row, max(row - 12, -1), -1):
        if re.search(r"\(Y\)es/\(N\)o", "".join(lines[max(0, first - 1) : row + 1])):
            return None
        if match := re.match(r"^(?:[\w-]+(?: multi)?)?>(?:\s|$)", lines[first]):
            return _rest(screen, first, row, match.end())
    return None


_FINDERS = {
    "claude": _claude, "codex": _codex, "gemini": _gemini, "opencode": _opencode, "qwen": _qwen,
    "copilot": _copilot, "pi": _pi, "cline": _cline, "aider": _aider,
}  # fmt: skip
