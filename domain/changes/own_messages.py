"""By which name local clients know a message that was sent through this broker, and who said it, also where the engine's copy comes first.

A message has one id for those who sent it: the one of the answer to its send. The engine gives it another; what comes back under that one
is recognised, and shown under the first and with the sender that the caller gave. While the engine has not answered, the copy is known by
what it says: messages of one sender to one target are published one after the other.

Source: spec/local-api.md section 6.
"""

from __future__ import annotations

from relaybroker.domain import events
from relaybroker.domain.entities import Message, Sent
from relaybroker.domain.message import is_engine_id, target_type
from relaybroker.domain.state import State


def recognised(state: State, event: events.DeliveryOffered) -> Sent | None:
    """How the message of a delivery was sent from here; None, if it was not."""
    known = state.sent.get(event.msg_id)
    if known is None and event.source == "engine":
        open_one = next(
            (message for message in state.firsts() if message.tries and _is_copy(state, message, event)), None
        )
        if open_one is not None:
            known = remember(state, event.msg_id, open_one)
    return known


def remember(state: State, message_id: str, message: Message) -> Sent:
    """The engine calls this message so."""
    sent = Sent(message.event_id, message.sender or "human:orchestrator")
    state.remember_sent(message_id, sent)
    return sent


def _is_copy(state: State, message: Message, event: events.DeliveryOffered) -> bool:
    author = message.sender if message.author_id else state.own.name
    if message.text.strip() != event.body or author.lower() != event.sender.lower():
        return False
    if is_engine_id(message.thread_id):
        return event.thread_id == message.thread_id
    match target_type(message.to):
        case "channel":
            return event.target.lower() == message.to.lower()
        case "agent":
            return event.name.lower() == message.to.lower() and not event.target.startswith("#")
        case _:
            return not event.target.startswith("#")
