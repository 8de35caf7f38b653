"""Messages that the engine is about to forget: taken into custody, which makes the log their only owner.

The engine keeps a message for an hour since it was posted, whatever holds it here. Well before that, whatever still waits for an agent is
taken over: the record of that is durable before the acknowledgement leaves, as with everything that counts for the cursor. The delivery
stays where it is, in its order, and needs nothing more from the engine, neither to be typed nor to become a dead letter.

Source: ADR-0039; spec/node-protocol.md sections 4.3, 4.6 and appendix A (life of a row); failure-scenarios.md ONE-OWNER.
"""

from __future__ import annotations

from relaybroker.domain import events
from relaybroker.domain.delivery import DeliveryState
from relaybroker.domain.entities import Delivery
from relaybroker.domain.mailbox import Mailbox
from relaybroker.domain.rules import settling
from relaybroker.domain.state import State
from relaybroker.domain.turn import Turn


def due(turn: Turn) -> None:
    """Take over what has waited as long as the engine is to be relied on."""
    for agent_id in list(turn.state.agents):
        box = turn.state.mailboxes.get(agent_id)
        if box is None or not _is_due(turn, box):
            continue
        while _is_due(turn, box):
            first = _first(turn.state, box)
            assert first is not None, "it is due"
            turn.record(events.DeliveryTakenOver(), first.stream, first.msg_id)
        settling.acknowledge(turn, box)


def _is_due(turn: Turn, box: Mailbox) -> bool:
    first = _first(turn.state, box)
    return first is not None and first.custody_at <= turn.now


def _first(state: State, box: Mailbox) -> Delivery | None:
    """The oldest message of an agent that the engine keeps as well: they come in the order in which they were posted."""
    stream = next(iter(box.open.values()), None)
    if stream is None or state.deliveries[stream].state == DeliveryState.OFFERED:
        return None
    return state.deliveries[stream]


def deadline(state: State) -> float | None:
    """When the next message is taken over."""
    boxes = (state.mailboxes.get(agent_id) for agent_id in state.agents)
    oldest = (_first(state, box) for box in boxes if box is not None)
    return min((delivery.custody_at for delivery in oldest if delivery is not None), default=None)
