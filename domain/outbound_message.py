"""OutboundMessage: what a person or an agent sends through the local API (stream `message:<event_id>`).

Rules:

* The message is durable before it is published; it is published as its true sender, with one idempotency key for all tries.
* A transport failure or a 5xx waits and tries again with the same key; a definite refusal by the engine ends it with the engine's code.
* It is tried until it is published or `KEEP_S` old; then it is `refused` with `expired`, never silently.

Source: spec/local-api.md section 6.1; scenarios F034, F061.
"""

from __future__ import annotations

from enum import StrEnum

from domain.kernel import Table

KEEP_S = 12 * 3600.0
"""How long an outage may last; the engine remembers keys for twice that, so a late try is still no second message."""
RETRY_FIRST_S = 0.5
RETRY_MAX_S = 30.0
ANSWER_S = 5.0
"""The local caller gets an answer within this time; the message goes on without it."""
MAX_OPEN = 1024
"""Messages accepted and not yet published; the next one is refused with `queue_full`."""


class State(StrEnum):
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
    "outbound_message",
    states=State,
    terminal=(State.PUBLISHED, State.REFUSED),
    triggers=Trigger,
    edges=(
        (Trigger.PUBLISH, (State.ACCEPTED,), State.PUBLISHING),
        (Trigger.WAIT, (State.PUBLISHING,), State.ACCEPTED),
        (Trigger.CONFIRM, (State.PUBLISHING,), State.PUBLISHED),
        (Trigger.REFUSE, (State.ACCEPTED, State.PUBLISHING), State.REFUSED),
    ),
    rules=__doc__,
)
