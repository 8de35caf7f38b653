"""Recorded events: delivery."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from relaybroker.domain import (
    delivery,
)
from relaybroker.domain.events.base import Event, Kind
from relaybroker.domain.reasons import Reason


class _Delivery(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "delivery"


class DeliveryOffered(_Delivery, frozen=True, kw_only=True):
    """A message for an agent was accepted."""

    topic: ClassVar[str] = "delivery.offered.v1"
    kind: ClassVar[Kind] = "fact"
    delivery_id: str
    attempt: int
    agent_id: str
    name: str
    seq: int | None
    """None: a local message; 0: fan-out; else the place in the agent's sequence."""
    msg_id: str
    source: str
    """`engine`, `local` (from the outbox, while the engine could not be reached), `task` or `notice`."""
    sender: str
    target: str
    body: str
    thread_id: str = ""
    priority: int | None = None
    mode: str = "wait"
    payload_type: str = ""
    workspace_id: str = ""
    letter_id: str = ""
    """The dead letter of which this is a new attempt; it leaves the list with this event."""
    doubtful: bool = False
    """An earlier attempt may have been typed: this one is marked."""
    expires_at: float = 0.0
    """It is not typed after this moment (epoch seconds); 0 = it does not expire."""
    aged_s: float = 0.0
    """How long the engine had kept it by then, as far as the message says (`created_at`); 0 = less than a minute, or it does not say."""
    late: bool = False
    """Its number is below where the sequence was taken to begin: it is typed out of order (ADR-0028)."""
    about: str = ""
    """Of a notice: the message and the recipient of which it tells."""


class DeliveryHeld(_Delivery, frozen=True, kw_only=True):
    """The message waits for this reason, until this time at the latest."""

    topic: ClassVar[str] = "delivery.held.v1"
    trigger: ClassVar[str] = delivery.Trigger.HOLD
    reason: Reason
    until: float
    fetch_id: str = ""
    """The fetch that takes it."""


class DeliveryQueued(_Delivery, frozen=True, kw_only=True):
    """The message may be typed when its turn comes. `flushed`: a person released it from a hold."""

    topic: ClassVar[str] = "delivery.queued.v1"
    trigger: ClassVar[str] = delivery.Trigger.QUEUE
    flushed: bool = False
    doubtful: bool = False
    """Its agent may have fetched it: it is marked."""


class DeliveryFetched(_Delivery, frozen=True, kw_only=True):
    """Its agent fetched it; the answer was sent completely."""

    topic: ClassVar[str] = "delivery.fetched.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = delivery.Trigger.FETCH
    fetch_id: str


class DeliveryRecognised(_Delivery, frozen=True, kw_only=True):
    """The engine's copy of a message that its recipient was given from here: the delivery has its id and its number from now on."""

    topic: ClassVar[str] = "delivery.recognised.v1"
    kind: ClassVar[Kind] = "fact"
    seq: int
    msg_id: str
    delivery_id: str
    """The engine's."""


class DeliveryTakenOver(_Delivery, frozen=True, kw_only=True):
    """The message is in this broker's custody from now on: it keeps waiting, counts for the cursor, and is never returned to the engine."""

    topic: ClassVar[str] = "delivery.taken_over.v1"


class DeliveryInjecting(_Delivery, frozen=True, kw_only=True):
    """The intent to type it, durable before the terminal is touched. The host must report the outcome by `until`."""

    topic: ClassVar[str] = "delivery.injecting.v1"
    trigger: ClassVar[str] = delivery.Trigger.INJECT
    session_id: str
    tries: int
    text: str
    marker: str
    until: float = 0.0
    while_busy: bool = False
    """It does not wait until the program is free."""
    altered: dict[str, int] = msgspec.field(default_factory=dict)
    """What was dropped from the text or changed in it, by kind (`relaybroker.domain.deception`), and how much."""


class DeliveryAskedAgain(_Delivery, frozen=True, kw_only=True):
    """The host has not reported on it and is asked once more, which types nothing twice. It must answer by `until`."""

    topic: ClassVar[str] = "delivery.asked_again.v1"
    until: float


class DeliveryInjected(_Delivery, frozen=True, kw_only=True):
    """The host reports that body and Enter were written."""

    topic: ClassVar[str] = "delivery.injected.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = delivery.Trigger.CONFIRM
    report: int
    bytes_written: int
    evidence: str
    """What showed that it was taken: what followed Enter, or, through a door, what the program itself says."""
    wait_ms: float
    """Between text and Enter; through a door of the program's own, between hand-over and evidence."""
    repeated: bool = False
    door: str = ""
    """Through which door it entered; "" = the terminal."""
    pointer: str = ""
    """Where the evidence is to be seen: file and line, an item's id."""


class DeliveryDoubted(_Delivery, frozen=True, kw_only=True):
    """Its program was handed it, and has not shown that it took it: the program's own records are looked up, by `until` at the latest."""

    topic: ClassVar[str] = "delivery.doubted.v1"
    trigger: ClassVar[str] = delivery.Trigger.DOUBT
    reason: Reason
    until: float
    door: str
    place: str
    """Where the door's program writes down what it was handed."""
    report: int = 0


class DeliveryLookedUp(_Delivery, frozen=True, kw_only=True):
    """What the program's records say of a delivery in doubt. `outcome`: `accepted`, `absent` (proved) or `unknowable`, with why."""

    topic: ClassVar[str] = "delivery.looked_up.v1"
    kind: ClassVar[Kind] = "fact"
    outcome: str
    evidence: str = ""
    pointer: str = ""
    detail: str = ""


class DeliveryHandedBack(_Delivery, frozen=True, kw_only=True):
    """The host did not type it; it is queued again and due at `until`.

    `failures`: how often it was not taken so far. `stands`: part of it is in the composer, and the host can go on with it.
    """

    topic: ClassVar[str] = "delivery.handed_back.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = delivery.Trigger.HAND_BACK
    report: int
    reason: Reason
    until: float
    failures: int = 0
    stands: bool = False


class DeliveryVerified(_Delivery, frozen=True, kw_only=True):
    """The verification window ended."""

    topic: ClassVar[str] = "delivery.verified.v1"
    kind: ClassVar[Kind] = "fact"
    report: int
    verification: str


class DeliveryAcked(_Delivery, frozen=True, kw_only=True):
    """The acknowledgement that covers it was given to the link (`dial` 0: the engine is owed none)."""

    topic: ClassVar[str] = "delivery.acked.v1"
    trigger: ClassVar[str] = delivery.Trigger.ACK
    up_to: int
    dial: int


class DeliveryDropped(_Delivery, frozen=True, kw_only=True):
    """Not typed. `settled`: it counts for the cursor; otherwise it is returned and the engine keeps it."""

    topic: ClassVar[str] = "delivery.dropped.v1"
    trigger: ClassVar[str] = delivery.Trigger.DROP
    reason: Reason
    settled: bool
    detail: str = ""
    report: int = 0


class DeliveryDeadLettered(_Delivery, frozen=True, kw_only=True):
    """As far as known not typed, and kept for a person. It counts for the cursor. `in_doubt`: it may have been typed."""

    topic: ClassVar[str] = "delivery.dead_lettered.v1"
    trigger: ClassVar[str] = delivery.Trigger.DEAD_LETTER
    reason: Reason
    detail: str = ""
    report: int = 0
    in_doubt: bool = False
