"""How events of dead letters change the state. A letter comes with `delivery.dead_lettered` and goes with a new attempt or a removal."""

from __future__ import annotations

from typing import Any

from relaybroker.domain import events
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.dead_letter import DeadLetter, shortened
from relaybroker.domain.entities import Delivery
from relaybroker.domain.events import Recorded
from relaybroker.domain.state import State


def bury(state: State, delivery: Delivery, event: events.DeliveryDeadLettered, recorded: Recorded) -> None:
    """The delivery becomes the newest letter on the list."""
    state.dead_letters[delivery.letter_id] = DeadLetter(
        letter_id=delivery.letter_id,
        stream=delivery.stream,
        delivery_id=delivery.delivery_id,
        attempt=delivery.attempt,
        tries=delivery.tries,
        agent_id=delivery.agent_id,
        name=delivery.name,
        seq=delivery.seq,
        msg_id=delivery.msg_id,
        source=delivery.source,
        sender=delivery.sender,
        target=delivery.target,
        body=shortened(delivery.body),
        body_bytes=len(delivery.body.encode()),
        thread_id=delivery.thread_id,
        priority=delivery.priority,
        mode=delivery.mode,
        reason=event.reason,
        detail=event.detail,
        in_doubt=event.in_doubt or delivery.doubtful,
        offered_at=delivery.offered_at,
        buried_at=recorded.at,
        from_custody=delivery.in_custody,
        event_id=delivery.sent.event_id if delivery.sent is not None else "",
        said_by=delivery.sent.sender if delivery.sent is not None else "",
    )
    state.custody_letters += delivery.in_custody


def take_off(state: State, letter_id: str) -> DeadLetter:
    """The letter leaves the list."""
    letter = state.dead_letters.pop(letter_id)
    state.custody_letters -= letter.from_custody
    return letter


def _removed(state: State, event: events.DeadLetterRemoved, _recorded: Recorded, _: Any) -> None:
    take_off(state, event.letter_id)


CHANGES: Changes = {events.DeadLetterRemoved: _removed}
