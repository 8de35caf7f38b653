"""Notices to agents about their own messages: one text, typed (or fetched) like any other message.

Rules:

* An agent of this node that addressed somebody (a direct message, a conversation) hears of it when that ends
  undelivered: here, or at the engine (`delivery.failed`). What members of a channel did not get is told by events and `why`, not typed.
* A message that was `pending` when its sender was answered, and that the engine then refuses, is told wherever it was to go.
* Never for a notice, never for the task of a spawn, and never twice for one message and recipient.
* Nobody is told that the operator did not take a message within the engine's hour: the operator reads what is in the inbox.
* What others do with a message (reactions, read marks) is told to its author only where its spawn or its harness asks for it (`surface`),
  of messages that were sent through this broker, in one line each; not what it did itself. Their frames stay what they are: recorded, not
  typed.
* A notice for an agent that is gone, or that has as many waiting messages as it may, is not made: the log has the end of the message.

Source: spec/conversation.md section 5; ADR-0061, ADR-0081.
"""

from __future__ import annotations

from relaybroker.domain import events, extraction, frames
from relaybroker.domain.delivery import NOTICE
from relaybroker.domain.entities import Registration
from relaybroker.domain.rules import deliveries
from relaybroker.domain.turn import Turn

SENDER = "broker"
"""As whom a notice is shown; no agent can have this name."""


def proceed(turn: Turn) -> None:
    """Tell the senders of whatever ended in this turn."""
    while turn.undelivered:
        undelivered = turn.undelivered.pop(0)
        sender = turn.state.acting(undelivered.sender_id)
        if sender is not None:
            text = f"Your message {undelivered.message_id} to {undelivered.recipient} {undelivered.what}: {undelivered.why}"
            _tell(turn, sender, undelivered.about, text, undelivered.message_id)


def surfaced(turn: Turn, agent_id: str, frame: frames.Deliver) -> None:
    """A reaction or a read mark came for this agent: it hears of it if it is to, and if the message is its own."""
    receipt, author = extraction.receipt(frame.payload), turn.state.acting(agent_id)
    if receipt is None or author is None or turn.state.posted.get(receipt.message_id) != agent_id:
        return
    wanted = author.spec.surface if author.spec.surface is not None else author.harness.surface
    if receipt.kind in wanted and receipt.who.lower() != author.name.lower():
        about = f"{receipt.kind} {frame.delivery_id or receipt.said}"
        _tell(turn, author, about, receipt.said, receipt.message_id)


def _tell(turn: Turn, agent: Registration, about: str, text: str, message_id: str) -> None:
    if about not in turn.state.noticed and _has_room(turn, agent):
        _offer(turn, agent, about, text, message_id)


def _has_room(turn: Turn, sender: Registration) -> bool:
    program = turn.state.worker_of_agent(sender.agent_id)
    is_there = program is not None and not program.ended and not program.stop_reason
    return is_there and not turn.state.stopping_until and not deliveries.is_full(turn, sender)


def _offer(turn: Turn, agent: Registration, about: str, text: str, message_id: str) -> None:
    notice_id = f"notice_{turn.fresh('notice')}"
    stream = f"delivery:{notice_id}"
    turn.record(
        events.DeliveryOffered(
            delivery_id=notice_id,
            attempt=1,
            agent_id=agent.agent_id,
            name=agent.name,
            seq=None,
            msg_id=notice_id,
            source=NOTICE,
            sender=SENDER,
            target=agent.name,
            body=text,
            workspace_id=turn.settings.workspace_id,
            about=about,
        ),
        stream,
        message_id,
    )
    deliveries.place(turn, turn.state.deliveries[stream])
