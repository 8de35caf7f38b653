"""The text that is typed into a terminal for a message: sanitised, attributed, safe to show to a shell.

    Relay message from S in #chan [ctx]: body      target is a channel
    Relay message from S [ctx]: body               otherwise
    ctx = <msg id>[ thread:<id>][ priority:<high|urgent>][ possible-duplicate]

No byte of a message acts as a key: control bytes are dropped, a body cannot forge the header of another message, and for shells and
interpreters each line is a comment (`comment_prefix` of the harness), so that receiving a message executes nothing (ADR-0010).

Source: spec/node-protocol.md section 6.5; spec/local-api.md section 11.5; invariant W3.
"""

from __future__ import annotations

import re

from domain.events import Harness

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")
_LINE_BREAKS = re.compile("\r\n|\r|\u2028|\u2029")
_REMINDER = re.compile(r"</?system-reminder", re.IGNORECASE)
_FORGED = re.compile(r"^(?=Relay message from )", re.MULTILINE)
_PRIORITY_NAMES = {3: "high", 4: "urgent"}


def sanitise(text: str) -> str:
    """Text without any byte that a terminal could take for a key; LF and TAB stay."""
    return _CONTROL.sub("", _LINE_BREAKS.sub("\n", text))


def sanitise_word(text: str) -> str:
    """As `sanitise`, on one line: for senders, targets and ids."""
    return sanitise(text).replace("\n", " ").replace("\t", " ").strip()


def compose(
    *,
    harness: Harness,
    sender: str,
    target: str,
    msg_id: str,
    body: str,
    thread_id: str = "",
    priority: int | None = None,
    possible_duplicate: bool = False,
    hint: bool = False,
) -> str:
    """The complete text for one message, without the final Enter."""
    context = " ".join(
        part
        for part in (
            sanitise_word(msg_id),
            f"thread:{sanitise_word(thread_id)}" if thread_id else "",
            f"priority:{_PRIORITY_NAMES[priority]}" if priority in _PRIORITY_NAMES else "",
            "possible-duplicate" if possible_duplicate else "",
        )
        if part
    )
    place = f" in {sanitise_word(target)}" if target.startswith("#") else ""
    clean = _REMINDER.sub(lambda match: match.group().replace("<", "["), sanitise(body).strip())
    clean = _FORGED.sub("| ", clean)
    text = f"Relay message from {_display(sender)}{place} [{context}]: {clean}"
    if hint and harness.hint != "none":
        text = f"{_hint(harness.hint, sender, target)}\n{text}"
    if harness.comment_prefix:
        text = "\n".join(harness.comment_prefix + line for line in text.split("\n"))
    return text


def compose_task(task: str) -> str:
    """An initial task is typed as it is, sanitised: it comes from whoever started the agent, not from a message."""
    return sanitise(task).strip()


def marker_of(msg_id: str) -> str:
    """The token that proves the echo of a message on the screen."""
    return sanitise_word(msg_id)


def _display(sender: str) -> str:
    name = sanitise_word(sender)
    return name.removeprefix("human:") or "unknown"


def _hint(kind: str, sender: str, target: str) -> str:
    who = _display(sender)
    channel = sanitise_word(target) if target.startswith("#") else "#general"
    tools = (
        f'reply to {who} with mcp__agent-relay__send_dm (agent-relay.send_dm) to "{who}", '
        f"post to {channel} with mcp__agent-relay__post_message (agent-relay.post_message)"
    )
    if kind == "line":
        return f"<system-reminder>Relay message below: {tools}.</system-reminder>"
    return (
        "<system-reminder>\n"
        "A message from another agent follows. You are registered already; do not register again.\n"
        f"To answer: {tools}; answer in a thread with mcp__agent-relay__reply_to_thread (agent-relay.reply_to_thread); "
        "read your inbox with mcp__agent-relay__check_inbox (agent-relay.check_inbox).\n"
        "Do not end yourself unless you are told to. Stay in this workspace.\n"
        "</system-reminder>"
    )
