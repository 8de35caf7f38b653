"""Messages that were read elsewhere while they waited here: settled with that reason, and not typed any more.

Rules:

* The word of the agent itself counts, given here (`mark_message_read`), and the engine's read mark of that agent (`message.read`).
* Acknowledging marks as read, too. So the engine's mark means nothing for a message that our own acknowledgement covers: one in custody, or
  one below where the sequence was taken to begin.
* What the terminal has is not taken back, nor what stands in it.

Source: spec/conversation.md section 5; spec/engine-contract.md sections 2.4, 7.5 and 7.6; ADR-0061.
"""

from __future__ import annotations

from relaybroker.domain.entities import Delivery
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import settling
from relaybroker.domain.turn import Turn


def marked_by_engine(turn: Turn, agent_id: str, message_id: str) -> None:
    """The engine says that this agent has read this message."""
    box = turn.state.mailboxes[agent_id]
    for delivery in _waiting(turn, agent_id, message_id):
        if delivery.is_owed and (delivery.seq or 0) > max(box.sent_ack, box.base or 0):
            settling.drop(turn, delivery, Reason.READ_ELSEWHERE, settled=True)


def marked_here(turn: Turn, agent_id: str, message_id: str) -> None:
    """The agent marked the message as read through this broker, and the engine took it."""
    for delivery in _waiting(turn, agent_id, message_id):
        settling.drop(turn, delivery, Reason.READ_ELSEWHERE, settled=True)


def _waiting(turn: Turn, agent_id: str, message_id: str) -> list[Delivery]:
    sent = turn.state.sent.get(message_id)
    ids = (message_id, sent.event_id) if sent is not None else (message_id,)
    program = turn.state.worker_of_agent(agent_id)
    waiting = [turn.state.deliveries[stream] for stream in program.waiting] if program is not None else []
    return [delivery for delivery in waiting if delivery.msg_id in ids and not delivery.in_composer]
