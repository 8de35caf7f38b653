"""Delivery: one message for one agent, one attempt (stream `delivery:<delivery_id>`, later attempts `…#2`, `…#3`).

Rules:

* Every delivery ends in exactly one of `acked`, `dropped`, `dead_lettered`, with a reason where it was not typed.
* `injecting` is the intent: it is durable before the terminal is touched. `injected` is the PTY host's report that body and Enter were
  written; nothing else proves that.
* `held` has a reason and a deadline, or names the person who must act.
* A delivery that the host hands back untyped is `queued` again. One that may have been typed is in doubt: the configured policy settles
  it (`ask`, `at_least_once`, `at_most_once`) and the settlement is recorded.
* A drop says whether it counts for the agent's cursor. One that does not is returned: the engine keeps the row and offers it again.
* `acked` means that the acknowledgement up to this delivery was given to the link after everything below it was settled and durable;
  for a message without sequence number nothing is owed, and it follows from `injected` at once.

Source: spec/node-protocol.md section 4.3; design/architecture.md section 3.2.
"""

from __future__ import annotations

from enum import StrEnum

from domain.kernel import Table

INJECT_WINDOW = 8
"""Deliveries of one agent that may be with the PTY host at once."""
MAX_ATTEMPTS = 3
"""Injections of one delivery that failed without typing anything, before it becomes a dead letter."""
RETRY_S = 1.0
MAX_WAITING = 1024
"""Deliveries of one agent that wait (held or queued), as many as an engine's mailbox holds; the next one is refused unacked (ADR-0013)."""
HOLD_STARTING_S = 60.0
HOLD_S = 3000.0
"""50 minutes: below the engine's mailbox life of one hour."""
MAX_BODY_BYTES = 16 * 1024


class State(StrEnum):
    """States; the first one is initial."""

    OFFERED = "offered"
    HELD = "held"
    QUEUED = "queued"
    INJECTING = "injecting"
    INJECTED = "injected"
    ACKED = "acked"
    DROPPED = "dropped"
    DEAD_LETTERED = "dead_lettered"


class Trigger(StrEnum):
    """What moves it."""

    HOLD = "hold"
    QUEUE = "queue"
    INJECT = "inject"
    HAND_BACK = "hand_back"
    CONFIRM = "confirm"
    ACK = "ack"
    DROP = "drop"
    DEAD_LETTER = "dead_letter"


_WAITING = (State.OFFERED, State.HELD, State.QUEUED)

TABLE = Table(
    "delivery",
    states=State,
    terminal=(State.ACKED, State.DROPPED, State.DEAD_LETTERED),
    triggers=Trigger,
    edges=(
        (Trigger.HOLD, (State.OFFERED, State.QUEUED), State.HELD),
        (Trigger.QUEUE, (State.OFFERED, State.HELD), State.QUEUED),
        (Trigger.INJECT, (State.QUEUED,), State.INJECTING),
        (Trigger.HAND_BACK, (State.INJECTING,), State.QUEUED),
        (Trigger.CONFIRM, (State.INJECTING,), State.INJECTED),
        (Trigger.ACK, (State.INJECTED,), State.ACKED),
        (Trigger.DROP, (*_WAITING, State.INJECTING), State.DROPPED),
        (Trigger.DEAD_LETTER, (*_WAITING, State.INJECTING), State.DEAD_LETTERED),
    ),
    rules=__doc__,
)
