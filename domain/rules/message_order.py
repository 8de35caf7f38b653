"""Which of the messages that wait for the engine go to it next: the most urgent first.

Rules:

* Within a line (one sender, one target) the order is that of `State.lines`; only its firsts are looked at here.
* The firsts of different lines go side by side, the most urgent first, at most `AT_ONCE` in all.
* While a try for a target was answered by nobody, its firsts go one at a time: then the engine takes them in their order when it is back.
* An answer waits until the engine has the message that it answers.
* Such a message is tried before its time when a less urgent one for the same target is due: once, so that it holds up nobody.
* What the engine itself has turned away waits as long as it was told to, and others go meanwhile.

An engine gives a message its place in the recipient's sequence when it takes it, and a sequence is typed in ascending order (D8): here an
urgent message can still overtake, and nowhere else.

Source: spec/local-api.md section 6.2 (order); scenario F039; ADR-0031.
"""

from __future__ import annotations

from relaybroker.domain import message as message_machine
from relaybroker.domain.entities import Message
from relaybroker.domain.message import MessageState
from relaybroker.domain.state import State as BrokerState


def next_ones(state: BrokerState, now: float) -> list[Message]:
    """The messages to give to the engine now, in this order."""
    room, targets = _waiting(state)
    chosen = [message for firsts in targets for message in _of_target(firsts, now)]
    return sorted(chosen, key=_order)[:room]


def deadline(state: BrokerState) -> float | None:
    """When the next message is due; what waits for another one to end is not due by time."""
    room, targets = _waiting(state)
    return min((message.until for firsts in targets for message in firsts), default=None) if room else None


def _waiting(state: BrokerState) -> tuple[int, list[list[Message]]]:
    """How many more may be with the engine, and by target the firsts of lines that wait for nothing but their time."""
    room = message_machine.AT_ONCE
    busy: set[str] = set()
    in_doubt: set[str] = set()
    targets: dict[str, list[Message]] = {}
    for message in state.firsts():
        target = message.to.lower()
        if message.unanswered:
            in_doubt.add(target)
        if message.state == MessageState.PUBLISHING:
            room -= 1
            busy.add(target)
        elif message.waits_for_thread:
            continue
        elif message.author_id or state.own.agent_id:
            targets.setdefault(target, []).append(message)
    return max(0, room), [firsts for target, firsts in targets.items() if not (target in in_doubt and target in busy)]


def _of_target(firsts: list[Message], now: float) -> list[Message]:
    due = [message for message in firsts if message.until <= now]
    unanswered = [message for message in firsts if message.unanswered]
    if not due or not unanswered:
        return due
    first, urgent = min(due, key=_order), min(unanswered, key=_order)
    is_tried_early = urgent.priority < first.priority and urgent.tried_at < first.until
    return [urgent if is_tried_early else first]


def _order(message: Message) -> tuple[int, float]:
    return message.priority, message.accepted_at
