"""When text may be typed into a program: never before it is ready, never into a dialog or login.

Rules, in order:
1. A dialog of the profile, or a hidden-input question (password), blocks; nothing else counts while it is on the
screen.
2. `->pty:ready` in the clean output: ready by `hook`.
3. One of the profile's rules holds on the screen: ready by `prompt`.
4. Plain programs: a process of the foreground group waits for the keyboard: ready by `reading`. Where the operating
system
   does not tell, or the program put its keyboard into raw mode, silence is taken for it: ready by `output`.
5. More than the profile's `min_output` bytes: ready by `output`.
6. The profile's deadline is over, counted from the start or from the end of the last dialog: ready by
`startup_timeout`,
   which is no proof.

Pure: what is seen is an argument. Source: node-protocol.md 6.4 as corrected by spec/README.md; F091-F097; SAFE-KEYS.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from adapters.pty.process_table import Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.pty.harnesses import Profile, ReadyRule

READY_HOOK = "->pty:ready"
QUIET_AFTER_OUTPUT_S = 0.3
QUIET_WITHOUT_OUTPUT_S = 1.5
READING_QUIET_S = 0.03
"""A program that waits for its keyboard must also have been silent this long: its prompt may still be on the way."""
POLLING_QUIET_S = 0.3
"""A program with an event loop has its keyboard in there from early on; only in silence is that taken for waiting."""
_PASSWORD = re.compile(r"(pass(word|phrase|code)|\bPIN\b|verification code|one-time code)[^\n]{0,80}$", re.IGNORECASE)


class Look(NamedTuple):
    """What is seen of a program at one moment."""

    screen: str
    cursor_line: str
    output: str
    """Clean text of the output, at least its last 12000 characters."""
    output_bytes: int
    quiet_s: float
    """Since the last output, or since the start when there was none."""
    collects_lines: bool
    echoes: bool
    waits_for_keyboard: Callable[[], Wait | None]
    """Asked last, since the answer costs system calls. None = cannot be known."""


def dialog_on(profile: Profile, screen: str, cursor_line: str, *, collects_lines: bool, echoes: bool) -> str | None:
    """Name of the dialog that is on the screen, if one is."""
    if collects_lines and not echoes and _PASSWORD.search(cursor_line.rstrip()):
        return "hidden input"
    if not profile.dialogs:
        return None
    text = screen.lower()
    for dialog in profile.dialogs:
        if all(part in text for part in dialog.all_of) and (
            not dialog.any_of or any(part in text for part in dialog.any_of)
        ):
            return dialog.name
    return None


def readiness(profile: Profile, look: Look, waited_s: float) -> str | None:
    """Evidence that the program is ready, or None. `waited_s` counts from the start or the end of the last dialog."""
    if READY_HOOK in look.output:
        return "hook"
    if any(_holds(rule, look) for rule in profile.ready):
        return "prompt"
    if profile.plain_program and (evidence := _plain_evidence(look)) is not None:
        return evidence
    if profile.min_output and look.output_bytes > profile.min_output:
        return "output"
    if waited_s >= profile.startup_timeout_s:
        return "startup_timeout"
    return None


def _holds(rule: ReadyRule, look: Look) -> bool:
    if rule.screen_has_any and not any(part in look.screen for part in rule.screen_has_any):
        return False
    if rule.screen_lacks:
        seen = (look.screen + look.output[-2000:]).lower()
        if any(part in seen for part in rule.screen_lacks):
            return False
    if rule.cursor_line and not re.search(rule.cursor_line, look.cursor_line.strip()):
        return False
    if rule.screen and not re.search(rule.screen, look.screen):
        return False
    return not rule.after_output or re.search(rule.after_output, look.output, re.IGNORECASE) is not None


def _plain_evidence(look: Look) -> str | None:
    if look.quiet_s < READING_QUIET_S:
        return None
    waits = look.waits_for_keyboard()
    if waits is Wait.READ or (waits is Wait.POLL and look.quiet_s >= POLLING_QUIET_S):
        return "reading"
    keyboard_taken = not look.collects_lines
    if keyboard_taken and look.output_bytes and look.quiet_s >= QUIET_AFTER_OUTPUT_S:
        return "output"
    if waits is None:
        limit = QUIET_AFTER_OUTPUT_S if look.output_bytes else QUIET_WITHOUT_OUTPUT_S
        if look.quiet_s >= limit:
            return "output"
    return None
