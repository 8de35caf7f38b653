"""What an agent leaves to whoever goes on with its work: what it was to do, what it says of it, what it was told last.

Rules:

* An agent says it by a tool, with its own token; nothing on a screen is read for it.
* It is in the log, so nothing needs to be kept beside it; `<state>/continuity/<agent>.json` is a copy for others.
* Who goes on is told it in front of its own task, as text of a message would be: no line of it acts as a key or a header.

Source: spec/local-api.md sections 5.1 and 5.5; ADR-0101.
"""

from __future__ import annotations

import msgspec

MAX_SUMMARY = 8 * 1024
"""Bytes."""
MAX_HISTORY = 20
"""Messages, the newest."""
MAX_PIECE = 500
"""Characters that are told of a message, or of the former task."""
CUT = " […]"


class Heard(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    """A message that the agent was given."""

    sender: str
    text: str


class Continuity(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent left; a file of the reference broker holds the same members."""

    agent_name: str
    cli: str | None = None
    initial_task: str | None = None
    released_at: str | None = None
    """When it ended, RFC 3339; None = it has not."""
    lifetime_seconds: float | None = None
    message_history: tuple[Heard, ...] = ()
    summary: str = ""


HEADING = "## Current Task\n"
GO_ON = "Go on with it."
"""The task of an agent that goes on and is given no other one."""


def preface(left: Continuity, room: int) -> str:
    """What stands in front of the task of an agent that goes on: what the former one left, and the heading of the new task.

    `room`: bytes that it may have. Of the messages, those that do not fit are left out, the oldest first.
    """
    head = [f"## Continued from {left.agent_name}"]
    if left.initial_task:
        head.append(f"Its task: {_piece(left.initial_task)}")
    if left.summary:
        head.append(f"Its summary:\n{left.summary.strip()}")
    lines = [f"- {heard.sender}: {_piece(heard.text)}" for heard in left.message_history[-MAX_HISTORY:]]
    while True:
        middle = ["Its last messages:", *lines] if lines else []
        text = "\n".join([*head, *middle, "", HEADING])
        if not lines or len(text.encode()) <= room:
            return text
        del lines[0]


def _piece(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= MAX_PIECE else plain[:MAX_PIECE] + CUT
