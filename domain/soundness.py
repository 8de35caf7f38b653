"""What must be true of every state between two turns: nothing that has ended is still waited for, and everything has one owner.

A turn of the core leaves none of this undone; `log verify` and the tests look for it.

Source: spec/failure-scenarios.md ONE-END, ONE-OWNER, BOUNDED; F017.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from relaybroker.domain.dead_letter import CUSTODY_LIMIT, LIMIT
from relaybroker.domain.delivery import PLACES, DeliveryState, Place
from relaybroker.domain.state import State

_DOUBTED = frozenset(state for state, place in PLACES.items() if place is Place.DOUBTED)
_IN_LANE = {str(state): str(place) for state, place in PLACES.items() if place in (Place.WAITING, Place.TYPING)}


def contradictions(state: State) -> list[str]:
    """Every place where the state contradicts itself; nothing, if it is sound."""
    return [*_lanes(state), *_mailboxes(state), *_letters(state)]


def _lanes(state: State) -> Iterator[str]:
    """An open delivery stands in the lane that its state says, of its agent's living worker, once; nothing else does."""
    expected = Counter(
        (_IN_LANE[delivery.state], stream)
        for stream, delivery in state.deliveries.items()
        if delivery.state in _IN_LANE
    )
    standing: Counter[tuple[str, str]] = Counter()
    for program in state.workers.values():
        for lane, streams in (("waiting", program.waiting), ("typing", program.typing)):
            standing.update((lane, stream) for stream in streams)
            if program.ended and streams:
                yield f"{program.stream} has ended and {len(streams)} deliveries are {lane}"
    for lane, stream in (expected - standing) + (standing - expected):
        yield f"{stream} is {lane} {standing[lane, stream]} times and should be {expected[lane, stream]} times"
    doubted = {stream for stream, delivery in state.deliveries.items() if delivery.state in _DOUBTED}
    for stream in doubted ^ state.doubts.keys():
        yield f"{stream} is in doubt: {stream in doubted}, and listed so: {stream in state.doubts}"
    waiting = Counter(
        delivery.sender
        for delivery in state.deliveries.values()
        if delivery.source == "engine" and (delivery.state in (*_IN_LANE, *_DOUBTED, DeliveryState.OFFERED))
    )
    if waiting != state.waiting_of:
        yield f"{dict(waiting)} messages wait by sender, and {state.waiting_of} are counted"
    for stream, delivery in state.deliveries.items():
        if delivery.state == DeliveryState.OFFERED:
            yield f"{stream} was taken on and nothing was decided"


def _mailboxes(state: State) -> Iterator[str]:
    """A number is open as long as its delivery is and the engine has it too, and waits for its acknowledgement as long as that is owed."""
    for agent_id, box in state.mailboxes.items():
        for seq, stream in box.open.items():
            delivery = state.deliveries.get(stream)
            if delivery is None or delivery.ended or delivery.state == DeliveryState.INJECTED or delivery.in_custody:
                yield f"mailbox:{agent_id} waits for {seq} of {stream}, which is settled"
        for seq, stream in box.typed.items():
            delivery = state.deliveries.get(stream)
            if delivery is None or delivery.state != DeliveryState.INJECTED:
                yield f"mailbox:{agent_id} owes the acknowledgement of {seq} for {stream}, which is not typed"


def _letters(state: State) -> Iterator[str]:
    """A message is a dead letter or under way, never both; and the list is within its limit."""
    under_way = {
        delivery.letter_id for delivery in state.deliveries.values() if delivery.state in (*_IN_LANE, *_DOUBTED)
    }
    for letter_id in state.dead_letters.keys() & under_way:
        yield f"{letter_id} is a dead letter and under way"
    of_custody = sum(letter.from_custody for letter in state.dead_letters.values())
    if len(state.dead_letters) - of_custody > LIMIT or of_custody > CUSTODY_LIMIT:
        yield f"{len(state.dead_letters)} dead letters are kept, {of_custody} from custody: more than {LIMIT} and {CUSTODY_LIMIT}"
    if of_custody != state.custody_letters:
        yield f"{of_custody} dead letters are from custody, and {state.custody_letters} are counted"
