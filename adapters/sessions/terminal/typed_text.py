"""A text as it goes into a terminal: without what acts as a key, in the form that the terminal's present mode takes, and how its echo ends.

Source: failure-scenarios.md F082, F083; ADR-0042.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.terminal.view import solid

if TYPE_CHECKING:
    from relaybroker.adapters.sessions.terminal.harnesses import Profile
    from relaybroker.adapters.sessions.terminal.line import Line

PASTE_START = b"\x1b[200~"
PASTE_END = b"\x1b[201~"
ENTER = b"\r"
ESCAPE = b"\x1b"
MAX_LINE_BYTES = 4095
"""A terminal that collects lines cuts longer ones (Linux N_TTY_BUF_SIZE - 1)."""
NEEDLE_CHARACTERS = 24
_KEYS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def sanitise(text: str) -> str:
    """`text` without any character that a terminal takes for a key, LF and TAB excepted; CR LF and CR are LF (F082)."""
    return _KEYS.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip("\n")


def as_typed(text: str, line: Line, profile: Profile) -> bytes | None:
    """The bytes for `text` in the terminal's present mode; None when the terminal would cut a line."""
    clean = sanitise(text)
    if line.bracketed_paste:
        return PASTE_START + clean.encode() + PASTE_END
    if profile.multi_line == "join" or profile.treatment == "show":
        clean = " ".join(part for part in clean.split("\n") if part.strip())
    collects_lines, _ = line.line_discipline()
    if profile.tabs == "spaces" and not collects_lines:
        clean = clean.replace("\t", "    ")
    data = clean.encode()
    if collects_lines and max(len(part) for part in data.split(b"\n")) >= MAX_LINE_BYTES:
        return None
    return data


def needle(text: str) -> str:
    """The end of the text, as screens are compared: what an echo of `text` shows last."""
    return solid(sanitise(text))[-NEEDLE_CHARACTERS:]
