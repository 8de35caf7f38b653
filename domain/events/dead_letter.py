"""Recorded events: dead letters. What happens to one is in the stream of the delivery attempt that ended as this letter."""

from __future__ import annotations

from typing import ClassVar

from relaybroker.domain.events.base import Event, Kind
from relaybroker.domain.reasons import Reason


class _DeadLetter(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "dead_letter"


class DeadLettersAsked(Event, frozen=True, kw_only=True):
    """A person asks to `redeliver` or `purge` dead letters. `force`: including those that may have been typed."""

    topic: ClassVar[str] = "broker.dead_letters_asked.v1"
    machine: ClassVar[str] = "broker"
    kind: ClassVar[Kind] = "fact"
    request_id: str
    wish: str
    letter_ids: tuple[str, ...] = ()
    every: bool = False
    agent: str = ""
    force: bool = False


class RedeliverySkipped(_DeadLetter, frozen=True, kw_only=True):
    """The message cannot be typed now; the letter stays on the list."""

    topic: ClassVar[str] = "dead_letter.redelivery_skipped.v1"
    reason: Reason


class DeadLetterRemoved(_DeadLetter, frozen=True, kw_only=True):
    """The letter left the list: `archived` (the list was full) or `purged` (a person removed it)."""

    topic: ClassVar[str] = "dead_letter.removed.v1"
    letter_id: str
    reason: Reason
    request_id: str = ""
