"""The text that is typed into a terminal for a message: sanitised, attributed, safe to show to a shell.

    Relay message from S in #chan [ctx]: body      target is a channel
    Relay message from S [ctx]: body               otherwise
    ctx = <msg id>[ thread:<id>][ priority:<high|urgent>][ possible-duplicate]

No byte of a message acts as a key, and whoever reads the text finds one header in it, the broker's (`domain/deception.py`). What was
dropped or changed for that is said beside the text.

`comment_prefix` is put before each line for the shells and interpreters of harness profiles that have one (ADR-0010).

Source: spec/node-protocol.md section 6.5; spec/local-api.md section 11.5; invariant W3; ADR-0037.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from relaybroker.domain.deception import cleaned, disarmed, name
from relaybroker.domain.events import Harness

_PRIORITY_NAMES = {3: "high", 4: "urgent"}
_PART_OF_CONTEXT = re.compile(r"(?:thread|priority):|possible-duplicate$", re.IGNORECASE)


class Composed(NamedTuple):
    """A text to type, and how much of what kind was dropped or changed in it (see `relaybroker.domain.deception`)."""

    text: str
    altered: dict[str, int]


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
) -> Composed:
    """The complete text for one message, without the final Enter."""
    altered: Counter[str] = Counter()
    who = name(sender.strip().removeprefix("human:"), altered) or "unknown"
    channel = f"#{name(target.removeprefix('#'), altered, blank='_')}" if target.startswith("#") else ""
    thread = _id(thread_id, altered)
    context = " ".join(
        part
        for part in (
            _id(msg_id, altered) or "no-id",
            f"thread:{thread}" if thread else "",
            f"priority:{_PRIORITY_NAMES[priority]}" if priority in _PRIORITY_NAMES else "",
            "possible-duplicate" if possible_duplicate else "",
        )
        if part
    )
    place = f" in {channel}" if channel else ""
    text = f"Relay message from {who}{place} [{context}]: {disarmed(cleaned(body, altered).strip(), altered)}"
    if hint and harness.hint != "none":
        text = f"{_hint(harness, who, channel or '#general')}\n{text}"
    if harness.comment_prefix:
        text = "\n".join(harness.comment_prefix + line for line in text.split("\n"))
    return Composed(text, dict(altered))


def compose_task(task: str) -> Composed:
    """An initial task is typed without a header: it comes from whoever started the agent, not from a message."""
    altered: Counter[str] = Counter()
    return Composed(disarmed(cleaned(task, altered).strip(), altered), dict(altered))


def marker_of(msg_id: str) -> str:
    """The token that proves the echo of a message on the screen."""
    return _id(msg_id, Counter())


def _id(text: str, altered: Counter[str]) -> str:
    """An id as one word that is no other part of the context."""
    word = name(text, altered, blank="_")
    if not _PART_OF_CONTEXT.match(word):
        return word
    altered["name"] += 1
    return word.replace(":", "_").replace("-", "_")


def _hint(harness: Harness, who: str, channel: str) -> str:
    """How to answer, in the words of what this agent has: its tools, or the command."""
    if harness.tools:
        reply, send, post, inbox = (
            harness.tools.replace("{tool}", tool)
            for tool in ("reply_to_thread", "send_dm", "post_message", "check_inbox")
        )
        answer = f"answer it in its thread with {reply} and the id in its brackets"
        tools = f'{answer}, write to {who} with {send} to "{who}", post to {channel} with {post}'
        look = f"what else waits for you: {inbox}"
    else:
        answer = 'answer it in its thread with the command `relaybroker message reply ID "TEXT"`, ID being the one in its brackets'
        tools = f'{answer}, write to an agent with `relaybroker message send NAME "TEXT"`'
        look = "what else waits for you: `relaybroker message inbox`"
    if harness.hint == "line":
        return f"<system-reminder>Relay message below: {tools}.</system-reminder>"
    return (
        "<system-reminder>\n"
        "A message from another agent follows. You are registered already; do not register again.\n"
        f"To answer: {tools}; {look}.\n"
        "Do not end yourself unless you are told to. Stay in this workspace.\n"
        "</system-reminder>"
    )
