"""When a program takes its first message.

Rules, in order:

1. `->pty:ready` in the clean output: ready by `hook`.
2. A program with composer rules is ready when an empty composer has the cursor: by `prompt`. No time releases it otherwise.
3. Other programs: a process of the foreground group waits for the keyboard: by `reading`. A program with an event loop has its keyboard in
   there from early on; only in silence is that taken for waiting.
4. Where the operating system does not tell who waits, silence is taken for it: by `output`.
5. Whatever takes no message typed (shells, interpreters: they are shown it) is ready when it falls silent: by `output`.
6. A program that is not seen to wait, with a screen that was quiet for `UNVERIFIED_QUIET_S`: `unverified`, which is no proof.

A question on the screen goes before all of these. Pure: what is seen is an argument. Source: node-protocol.md 6.4 as settled by
spec/README.md; F091-F097; ADR-0040.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from relaybroker.adapters.sessions.host.process_table import Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from relaybroker.adapters.sessions.terminal.harnesses import Profile

READY_HOOK = "->pty:ready"
QUIET_AFTER_OUTPUT_S = 0.3
QUIET_WITHOUT_OUTPUT_S = 1.5
READING_QUIET_S = 0.03
"""A program that waits for its keyboard must also have been silent this long: its prompt may still be on the way."""
POLLING_QUIET_S = 0.3
UNVERIFIED_QUIET_S = 20.0
"""After so long a silence a program without composer rules is taken for ready although it is not seen to wait for its keyboard."""


class Look(NamedTuple):
    """What is seen of a program at one moment."""

    hook: bool
    composer: bool
    """An empty composer has the cursor."""
    output_bytes: int
    quiet_s: float
    """Since the last output, or since the start when there was none."""
    collects_lines: bool
    waits_for_keyboard: Callable[[], Wait | None]
    """Asked last, since the answer costs system calls. None = cannot be known."""


def readiness(profile: Profile, look: Look, waited_s: float) -> str | None:
    """Evidence that the program is ready, or None. `waited_s` counts from the start or the end of the last question."""
    if look.hook:
        return "hook"
    if profile.composer:
        return "prompt" if look.composer else None
    if look.quiet_s < READING_QUIET_S:
        return None
    waits = look.waits_for_keyboard()
    if waits is Wait.READ or (waits is Wait.POLL and look.quiet_s >= POLLING_QUIET_S):
        return "reading"
    if waits is None or profile.treatment == "show":
        limit = QUIET_AFTER_OUTPUT_S if look.output_bytes else QUIET_WITHOUT_OUTPUT_S
        return "output" if look.quiet_s >= limit else None
    return "unverified" if min(look.quiet_s, waited_s) >= UNVERIFIED_QUIET_S else None
