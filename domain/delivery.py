"""Delivery: one message for one agent, one attempt (stream `delivery:<delivery_id>`, later attempts `…#2`, `…#3`).

Rules:

* Every delivery ends in exactly one of `acked`, `dropped`, `dead_lettered`, with a reason if it was not typed.
* `injecting` is the intent: it is written before the terminal is touched. `injected` is the PTY host's report that body and Enter were
  written, and nothing else proves that; or the agent fetched the message and the answer went out completely, so it is never typed.
* `held` has a reason and a deadline.
* The engine keeps a message for an hour. One that is still waiting (held, queued or with the host) `CUSTODY_S` after it was posted is
  taken into custody: from then on only the log owns it. It counts for the agent's cursor and is acknowledged. It keeps its place, waits as
  long as any hold may last, and never returns to the engine: if it cannot be typed, it becomes a dead letter (ADR-0039). The engine does
  not keep messages without a sequence number; they belong to this broker from the start.
* A delivery that the host hands back untyped is `queued` again, as is one that the living host can continue (part of the text is in the
  composer). One that may have been typed is in doubt: the configured policy settles it (`ask`, `at_least_once`, `at_most_once`), and the
  settlement is recorded.
* What a program was handed through a door of its own, and has not shown to have taken, is `in_doubt` until its own records are looked up,
  which has a deadline. If they show it, it is `injected`, with that evidence. If they prove that it was not taken, it is `queued` again. If
  they do not tell, the policy settles it. Meanwhile it is in no lane: the end of its program, or of the PTY host, does not settle it, and
  nothing behind it is handed over (ADR-0093).
* If the host says nothing about a delivery, it is asked once more. If that brings no answer, the delivery becomes a dead letter that may
  have been typed. A deadline that passes because the clock was set costs nothing, and no hold ages by it.
* A message of an agent here that was given to its recipient before the engine had it has no sequence number until the engine's copy comes.
  Then the delivery takes that number, and everything is as with any other one. Typed, it is `acked` only then, or when no copy can come
  any more. If its program ends before it was typed, it goes back to the outbox, and the engine's copy is a message like any other.
* A drop says whether it counts for the agent's cursor. If it does not, the message is returned, which is done only while the engine
  certainly has it: the engine keeps it and offers it again.
* `acked` means that the acknowledgement up to this delivery was given to the link after everything below it was settled and durable. A
  message without a sequence number, or in custody, owes nothing more and is `acked` right after `injected`.

Source: spec/node-protocol.md section 4.3; design/architecture.md section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from relaybroker.domain.state_machine import Table

INJECT_WINDOW = 8
"""Deliveries of one agent that may be with the PTY host at once."""
WRITE_RETRY_S = (5.0, 30.0)
"""Waits after a write that the terminal did not take; a program that reads again within a minute gets the text (F023)."""
MAX_WRITES = len(WRITE_RETRY_S) + 1
"""Writes of one delivery that may fail before it becomes a dead letter."""
HANDOVER_RETRY_S = 1.0
MAX_HANDOVERS = 10
"""Times that the PTY host may refuse a delivery before it becomes a dead letter; the waits grow by `HANDOVER_RETRY_S`."""
MAX_WAITING = 1024
"""Deliveries of one agent that wait (held or queued), as many as an engine's mailbox holds; the next one is refused unacked (ADR-0013)."""
MAX_WAITING_OF_SENDER = 8192
"""Messages of one sender that wait here, for all agents together; the next one becomes a dead letter (`sender_quota`)."""
AUTO_INJECT, MANUAL_FLUSH = "auto_inject", "manual_flush"
"""Delivery modes of an agent: messages are typed as they come, or held until a person flushes them."""
MAX_FLUSH_HOLDS = 1024
"""Agents whose mode may be `manual_flush` at once."""
MAX_FLUSHABLE = 256
"""Deliveries of one agent that may be held for a person to flush them; the next one is refused unacked."""
ENGINE_KEEPS_S = 3600.0
"""How long an engine keeps a message since it was posted (node-protocol.md, appendix A)."""
CLOCKS_DIFFER_S = 60.0
"""How far the engine's clock may be ahead of ours, where a message is told from one that was posted before this machine crashed."""
CUSTODY_S = 2400.0
"""40 minutes after it was posted, a message that still waits is taken into custody: 20 minutes before the engine forgets it."""
CUSTODY_SOONEST_S = 60.0
"""Not before it has waited so long here, however old it was when it came: most of a backlog is typed within that time."""
HOLD_S = 30 * 86_400.0
"""30 days: how long a message may wait here in all, whatever holds it."""
HOST_SILENT_S = 3000.0
"""50 minutes: how long the PTY host may be silent about a delivery before it is asked again (F022)."""
TURN_SILENT_S = 90_000.0
"""25 hours: the same of a delivery that enters a program without terminal, whose proof may be the end of the turn."""
HOST_SILENT_AGAIN_S = 600.0
"""How long it may be silent after that."""
LOOK_UP_S = 60.0
"""How long a delivery stays in doubt: within this time the program's own records tell what became of it, or the policy settles it."""
FETCH_S = 30.0
"""How long what an agent fetches waits for the word that the answer has gone out."""
MAX_BODY_BYTES = 16 * 1024
LOCAL = "local"
"""Source of a delivery that was made from the outbox, because the engine could not be reached."""
NOTICE = "notice"
"""Source of a delivery that tells an agent of a message of its own that was not delivered."""


class DeliveryState(StrEnum):
    """States; the first one is initial."""

    OFFERED = "offered"
    HELD = "held"
    QUEUED = "queued"
    INJECTING = "injecting"
    IN_DOUBT = "in_doubt"
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
    DOUBT = "doubt"
    CONFIRM = "confirm"
    FETCH = "fetch"
    ACK = "ack"
    DROP = "drop"
    DEAD_LETTER = "dead_letter"


class Place(StrEnum):
    """Where a delivery is in a state. What the end of its program means for it follows from that."""

    UNDECIDED = "undecided"
    WAITING = "waiting"
    """In the lane of those that wait for the program."""
    TYPING = "typing"
    """In the lane of those that the PTY host has."""
    DOUBTED = "doubted"
    """With nobody: it waits for what its program's records tell."""
    TYPED = "typed"
    ENDED = "ended"


PLACES: Mapping[DeliveryState, Place] = MappingProxyType(
    {
        DeliveryState.OFFERED: Place.UNDECIDED,
        DeliveryState.HELD: Place.WAITING,
        DeliveryState.QUEUED: Place.WAITING,
        DeliveryState.INJECTING: Place.TYPING,
        DeliveryState.IN_DOUBT: Place.DOUBTED,
        DeliveryState.INJECTED: Place.TYPED,
        DeliveryState.ACKED: Place.ENDED,
        DeliveryState.DROPPED: Place.ENDED,
        DeliveryState.DEAD_LETTERED: Place.ENDED,
    }
)
"""Every state has one."""

_WAITING = (DeliveryState.OFFERED, DeliveryState.HELD, DeliveryState.QUEUED)
_HANDED = (DeliveryState.INJECTING, DeliveryState.IN_DOUBT)

TABLE = Table(
    "delivery",
    states=DeliveryState,
    terminal=(DeliveryState.ACKED, DeliveryState.DROPPED, DeliveryState.DEAD_LETTERED),
    triggers=Trigger,
    edges=(
        (Trigger.HOLD, (DeliveryState.OFFERED, DeliveryState.QUEUED), DeliveryState.HELD),
        (Trigger.QUEUE, (DeliveryState.OFFERED, DeliveryState.HELD), DeliveryState.QUEUED),
        (Trigger.INJECT, (DeliveryState.QUEUED,), DeliveryState.INJECTING),
        (Trigger.HAND_BACK, (DeliveryState.INJECTING, DeliveryState.IN_DOUBT), DeliveryState.QUEUED),
        (Trigger.DOUBT, (DeliveryState.INJECTING,), DeliveryState.IN_DOUBT),
        (Trigger.CONFIRM, (DeliveryState.INJECTING, DeliveryState.IN_DOUBT), DeliveryState.INJECTED),
        (Trigger.FETCH, (DeliveryState.HELD,), DeliveryState.INJECTED),
        (Trigger.ACK, (DeliveryState.INJECTED,), DeliveryState.ACKED),
        (Trigger.DROP, (*_WAITING, *_HANDED), DeliveryState.DROPPED),
        (Trigger.DEAD_LETTER, (*_WAITING, *_HANDED), DeliveryState.DEAD_LETTERED),
    ),
    rules=__doc__,
)
