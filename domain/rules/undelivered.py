"""Messages of agents of this node that end undelivered: noted where they end, told at the end of the turn (`domain/rules/notices.py`).

Source: spec/conversation.md section 5; ADR-0061.
"""

from __future__ import annotations

from typing import NamedTuple

from relaybroker.domain import events
from relaybroker.domain.delivery import LOCAL
from relaybroker.domain.entities import Delivery, Message
from relaybroker.domain.reasons import SENTENCES, Reason
from relaybroker.domain.turn import Turn

_UNTOLD = frozenset(
    {
        Reason.UNKNOWN_TYPE,
        Reason.RECEIPT_ONLY,
        Reason.SELF_ECHO,
        Reason.POISON,
        Reason.READ_ELSEWHERE,
        Reason.DUPLICATE,
    }
)
"""Ends of which no sender needs to hear: what ended so was no message of anybody, or was read."""
_ENGINES = {
    "ttl_expired": "Nobody took it within the time for which the engine keeps a message.",
    "depth_cap": "The recipient's mailbox at the engine is full.",
}
"""What the engine's words for a failure mean."""


class Undelivered(NamedTuple):
    """A message of an agent of this node that has ended undelivered."""

    sender_id: str
    message_id: str
    recipient: str
    why: str
    what: str = "was not delivered"

    @property
    def about(self) -> str:
        """What one notice is about."""
        return f"{self.message_id} {self.recipient.lower()}"


def delivery_ended(turn: Turn, delivery: Delivery, reason: Reason) -> None:
    """A delivery ends untyped and is not given back. Call this before the event that ends it."""
    if delivery.source not in ("engine", LOCAL) or reason in _UNTOLD or delivery.target.startswith("#"):
        return
    sender = turn.state.registration_of(delivery.sender)
    if sender is not None and sender.agent_id and sender.agent_id != delivery.agent_id:
        turn.undelivered.append(Undelivered(sender.agent_id, delivery.msg_id, delivery.name, SENTENCES[reason]))


def engine_failed(turn: Turn, heard: events.DeliveryFailureHeard) -> None:
    """The engine could not deliver something that was sent from here."""
    if heard.message_id in turn.state.copies_to_come:
        return  # only the copy: its recipient was given the message from here
    sender_id = turn.state.posted.get(heard.message_id)
    if sender_id is not None and heard.target.lower() != turn.state.own.name.lower():
        why = _ENGINES.get(heard.failure, f"The engine says: {heard.failure or 'it failed'}.")
        turn.undelivered.append(Undelivered(sender_id, heard.message_id, heard.target, why))


def refused_late(turn: Turn, message: Message, reason: Reason) -> None:
    """The engine refused a message after its sender was told that it is pending. Call this before the event that ends it."""
    if message.author_id and not message.answer_by:
        notice = Undelivered(message.author_id, message.event_id, message.to, SENTENCES[reason])
        recipient = turn.state.acting(message.recipient_id) if message.early else None
        if recipient is not None:
            notice = notice._replace(recipient=recipient.name, what="was given to it, but the engine does not have it")
        turn.undelivered.append(notice)
