"""How events of dead letters change the state. A letter comes with `delivery.dead_lettered` and goes with a new attempt or a removal."""

from __future__ import annotations

from typing import Any

from relaybroker.domain import events
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.dead_letter import DeadLetter, shortened
from relaybroker.domain.events import Recorded
from relaybroker.domain.state import Delivery, State


def bury(state: State, found: Delivery, event: events.DeliveryDeadLettered, at: Recorded) -> None:
    """The delivery becomes the newest letter on the list."""
    state.dead_letters[found.letter_id] = DeadLetter(
        letter_id=found.letter_id,
        stream=found.stream,
        delivery_id=found.delivery_id,
        attempt=found.attempt,
        tries=found.tries,
        agent_id=found.agent_id,
        name=found.name,
        seq=found.seq,
        msg_id=found.msg_id,
        source=found.source,
        sender=found.sender,
        target=found.target,
        body=shortened(found.body),
        body_bytes=len(found.body.encode()),
        thread_id=found.thread_id,
        priority=found.priority,
        mode=found.mode,
        reason=event.reason,
        detail=event.detail,
        in_doubt=event.in_doubt or found.doubtful,
        offered_at=found.offered_at,
        buried_at=at.at,
        from_custody=found.in_custody,
    )
    state.custody_letters += found.in_custody


def take_off(state: State, letter_id: str) -> DeadLetter:
    """The letter leaves the list."""
    letter = state.dead_letters.pop(letter_id)
    state.custody_letters -= letter.from_custody
    return letter


def _removed(state: State, event: events.DeadLetterRemoved, _at: Recorded, _: Any) -> None:
    take_off(state, event.letter_id)


CHANGES: Changes = {events.DeadLetterRemoved: _removed}
