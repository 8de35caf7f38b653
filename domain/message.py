"""OutboundMessage: what a person or an agent sends through the local API (stream `message:<event_id>`).

Rules:

* The message is durable before it is published. It is published as its true sender, with one idempotency key for all attempts.
* After a transport failure or a 5xx it waits and is retried with the same key. A definite refusal by the engine ends it with the
  engine's code; so does 501, what the engine does not have.
* It is retried until it is published or `KEEP_S` old; then it is `refused` with `expired`, never silently.
* Messages from one sender to one target form a line, and the first holds it. One that was given to the engine keeps its place. Behind it
  the most urgent goes first, then the oldest. One that the engine itself has turned away `HOLDS_LINE_TRIES` times (5xx, 429) no longer
  holds the line.
* If the engine does not know the thread, the message goes out without it, and the caller is told. A message that has no place other than
  its thread is refused with `message_not_found`.
* While the engine cannot be reached, a message from one agent here to another is given to its recipient at once and published later, with
  the same key (`domain/rules/local_first.py`). It is overtaken by none, however urgent.
* An answer to a message that is not published yet waits for that: it goes to that thread or nowhere.
* A caller's key is remembered with the answer. Repeating the key returns that answer (or waits for it), and nothing is sent.

Source: spec/local-api.md sections 1.1 and 6.1; scenarios F034, F037, F039, F061; ADR-0031, ADR-0090.
"""

from __future__ import annotations

import re
from enum import StrEnum

from relaybroker.domain.state_machine import Table

KEEP_S = 12 * 3600.0
"""How long an outage may last; the engine remembers keys for twice that, so a late try is still no second message."""
RETRY_FIRST_S = 0.5
RETRY_MAX_S = 30.0
ANSWER_S = 5.0
"""The local caller gets an answer within this time; the message goes on without it."""
LOCAL_ANSWER_S = 1.0
"""The same, for a message that its recipient here has been given."""
MAX_OPEN = 1024
"""Messages accepted and not yet published; the next one is refused with `queue_full`, however urgent it is."""
MAX_OPEN_OF_AGENT = 256
"""Of these, sent by one agent with its own token; the next one is refused with `sender_quota`."""
AT_ONCE = 32
"""Messages that are with the engine at the same time; the others wait here, where priority orders them."""
PRIORITY, CHANNEL_PRIORITY = 2, 3
"""Of messages, and of messages to channels, whose sender gives none: 0 (most urgent) to 4. At the engine a higher number is more urgent."""
HOLDS_LINE_TRIES = 5
KEYS_KEPT = 8192
"""Keys of callers that are remembered, each with its answer; the oldest goes first. While none may go, a new one is refused."""
KEY_S = 600.0
"""No key is forgotten sooner."""
KEY_MAX_S = 24 * 3600.0
"""Every key is forgotten by then, once its message has ended."""


THREAD = "thread:"
"""Begins the target of a message that goes to a thread and nowhere else: the id of the message that is answered follows."""

_ENGINE_ID = re.compile("[0-9]{1,32}")
_LOCAL_ID = re.compile("http_[0-9a-f]{32}")


def priority_of(to: str, given: int | None) -> int:
    """The priority of a message to this target."""
    if given is not None:
        return given
    return CHANNEL_PRIORITY if to.startswith("#") else PRIORITY


def is_engine_id(text: str) -> bool:
    """Whether this can be the id of a message at the engine, and so of a thread."""
    return _ENGINE_ID.fullmatch(text) is not None


def is_local_id(text: str) -> bool:
    """Whether this can be the id under which a message is kept here until the engine has given it one."""
    return _LOCAL_ID.fullmatch(text) is not None


def is_message_id(text: str) -> bool:
    """Whether this can be the id of a message, at the engine or here."""
    return is_engine_id(text) or is_local_id(text)


def target_type(to: str) -> str:
    """`channel`, `conversation`, `thread` or `agent`."""
    if to.startswith("#"):
        return "channel"
    if to.startswith(THREAD):
        return "thread"
    return "conversation" if to.startswith(("dm_", "conv_")) or to.isdigit() else "agent"


class MessageState(StrEnum):
    """States; the first one is initial."""

    ACCEPTED = "accepted"
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    REFUSED = "refused"


class Trigger(StrEnum):
    """What moves it."""

    PUBLISH = "publish"
    WAIT = "wait"
    CONFIRM = "confirm"
    REFUSE = "refuse"


TABLE = Table(
    "message",
    states=MessageState,
    terminal=(MessageState.PUBLISHED, MessageState.REFUSED),
    triggers=Trigger,
    edges=(
        (Trigger.PUBLISH, (MessageState.ACCEPTED,), MessageState.PUBLISHING),
        (Trigger.WAIT, (MessageState.PUBLISHING,), MessageState.ACCEPTED),
        (Trigger.CONFIRM, (MessageState.PUBLISHING,), MessageState.PUBLISHED),
        (Trigger.REFUSE, (MessageState.ACCEPTED, MessageState.PUBLISHING), MessageState.REFUSED),
    ),
    rules=__doc__,
)
