"""How events of deliveries change the state."""

from __future__ import annotations

from typing import Any

from relaybroker.domain import (
    delivery,
    events,
)
from relaybroker.domain.changes.dead_letters import bury, take_off
from relaybroker.domain.changes.early import back_to_outbox, given, may_be_copy, no_copy_comes
from relaybroker.domain.changes.hosts import reported
from relaybroker.domain.changes.own_messages import recognised
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.delivery import LOCAL, DeliveryState
from relaybroker.domain.entities import Delivery, Sent, Worker
from relaybroker.domain.events import Recorded
from relaybroker.domain.extraction import Class, classify
from relaybroker.domain.mailbox import fan_key
from relaybroker.domain.reasons import Reason
from relaybroker.domain.state import State


def _delivery_offered(state: State, event: events.DeliveryOffered, recorded: Recorded, _: Any) -> None:
    state.counters.offered += 1
    letter = take_off(state, event.letter_id) if event.letter_id else None
    if letter is None and event.source == "engine":
        state.link.heard_at = recorded.at
    state.deliveries[recorded.stream] = Delivery(
        stream=recorded.stream,
        typing_id=recorded.event_id,
        delivery_id=event.delivery_id,
        attempt=event.attempt,
        agent_id=event.agent_id,
        name=event.name,
        seq=event.seq,
        msg_id=event.msg_id,
        source=event.source,
        sender=event.sender,
        target=event.target,
        body=event.body,
        thread_id=event.thread_id,
        priority=event.priority,
        mode=event.mode,
        workspace_id=event.workspace_id,
        expires_at=event.expires_at,
        aged_s=event.aged_s,
        state=delivery.TABLE.initial,
        offered_at=recorded.at,
        changed_at=recorded.at,
        leapt_before_s=state.leapt_s,
        doubtful=event.doubtful,
        in_custody=letter is not None and letter.from_custody,
        sent=recognised(state, event)
        if letter is None or not letter.event_id
        else Sent(letter.event_id, letter.said_by),
    )
    if event.source == "engine":
        state.waiting_of[event.sender] = state.waiting_of.get(event.sender, 0) + 1
    if event.source == "engine" and classify(event.payload_type) is not Class.RECEIPT:
        sent = state.deliveries[recorded.stream].sent
        told_with = state.announced.get(sent.event_id, recorded.stream) if sent is not None else recorded.stream
        state.announce(event.msg_id, told_with)
        may_be_copy(state, event)
    if event.source == LOCAL and letter is None:
        given(state, recorded.stream, recorded.at, state.messages[f"message:{event.msg_id}"])
        state.announce(event.msg_id, recorded.stream)
    if event.about:
        state.remember_noticed(event.about)
    if (stranger := state.strangers.get(event.agent_id)) is not None:
        stranger.messages += 1
    if event.seq is not None:
        key = fan_key(event.delivery_id, event.msg_id, event.payload_type)
        box = state.mailboxes[event.agent_id]
        box.admit(event.seq, event.msg_id, key, recorded.stream, event.delivery_id)
        box.passed(event.seq, recorded.at)


def _delivery_held(state: State, event: events.DeliveryHeld, recorded: Recorded, delivery: Delivery) -> None:
    delivery.reason, delivery.until, delivery.changed_at = event.reason, event.until, recorded.at
    delivery.fetch_id = event.fetch_id
    _wait(state, delivery, recorded)


def _delivery_queued(state: State, event: events.DeliveryQueued, recorded: Recorded, delivery: Delivery) -> None:
    delivery.flushed, delivery.doubtful = delivery.flushed or event.flushed, delivery.doubtful or event.doubtful
    delivery.fetch_id = ""
    delivery.reason, delivery.until, delivery.changed_at = None, 0.0, recorded.at
    _wait(state, delivery, recorded)


def _wait(state: State, delivery: Delivery, recorded: Recorded) -> None:
    if delivery.reason is not Reason.PUBLISH_PENDING:  # it may be one that has its place already
        delivery.placed = delivery.placed or recorded.version
    if delivery.expires_at:
        state.expiries[delivery.stream] = delivery.expires_at
    target = state.worker_of_agent(delivery.agent_id)
    if target is not None and delivery.stream not in target.waiting:
        target.waiting.append(delivery.stream)


def _delivery_injecting(state: State, event: events.DeliveryInjecting, recorded: Recorded, delivery: Delivery) -> None:
    delivery.changed_at, delivery.session_id, delivery.tries = recorded.at, event.session_id, event.tries
    delivery.text, delivery.marker, delivery.until = event.text, event.marker, event.until
    delivery.while_busy, delivery.asked_again = event.while_busy, False
    state.expiries.pop(delivery.stream, None)
    target = state.workers[event.session_id]
    target.waiting.remove(delivery.stream)
    target.typing.append(delivery.stream)
    state.registrations[target.registration].hinted = True


def _delivery_recognised(state: State, event: events.DeliveryRecognised, recorded: Recorded, _: Any) -> None:
    delivery, box = state.deliveries[recorded.stream], state.mailboxes[state.deliveries[recorded.stream].agent_id]
    copy = state.deliveries.get(box.open.get(event.seq, ""))
    if copy is not None:
        copy.seq = None  # its number passes to the delivery
    state.copies_to_come.pop(event.msg_id, None)
    delivery.seq, delivery.msg_id, delivery.sent = event.seq, event.msg_id, state.sent.get(event.msg_id)
    is_typed = delivery.state == DeliveryState.INJECTED
    box.recognise(event.seq, event.msg_id, recorded.stream, event.delivery_id, is_typed=is_typed)
    box.passed(event.seq, recorded.at)


def _delivery_taken_over(state: State, _event: Any, recorded: Recorded, _: Any) -> None:
    delivery = state.deliveries[recorded.stream]
    delivery.doubtful |= delivery.msg_id in state.mailboxes[delivery.agent_id].doubtful.values()
    _settle(state, delivery)
    delivery.in_custody = True


def _delivery_asked_again(state: State, event: events.DeliveryAskedAgain, recorded: Recorded, _: Any) -> None:
    delivery = state.deliveries[recorded.stream]
    delivery.asked_again, delivery.until = True, event.until


def _delivery_injected(state: State, event: events.DeliveryInjected, recorded: Recorded, delivery: Delivery) -> None:
    reported(state, event.report)
    delivery.changed_at, delivery.text, delivery.body, delivery.until = recorded.at, "", "", 0.0
    state.counters.typed += 1
    _no_longer_waits(state, delivery)
    target = state.workers.get(delivery.session_id)
    was_doubted = _is_no_longer_doubted(state, delivery)
    if event.door:
        delivery.verified = True  # the program's own word needs no echo
    if target is not None:
        state.registrations[target.registration].task_typed |= delivery.source == "task"
        if not was_doubted:
            _leave_host(target, delivery.stream, drains=target.draining)
        target.typed, target.last_typed_at, target.active_at, target.idle = (
            target.typed + 1,
            recorded.at,
            recorded.at,
            False,
        )
    _settle(state, delivery)
    if delivery.seq and delivery.is_owed:
        state.mailboxes[delivery.agent_id].typed[delivery.seq] = delivery.stream


def _delivery_fetched(state: State, _event: Any, recorded: Recorded, delivery: Delivery) -> None:
    delivery.changed_at, delivery.body, delivery.until, delivery.reason = recorded.at, "", 0.0, None
    delivery.verified = True  # there is no echo to wait for
    _no_longer_waits(state, delivery)
    state.expiries.pop(delivery.stream, None)
    target = state.worker_of_agent(delivery.agent_id)
    if target is not None:
        target.waiting.remove(delivery.stream)
        target.active_at, target.idle = recorded.at, False
    _settle(state, delivery)
    if delivery.seq and delivery.is_owed:
        state.mailboxes[delivery.agent_id].typed[delivery.seq] = delivery.stream


def _delivery_handed_back(
    state: State, event: events.DeliveryHandedBack, recorded: Recorded, delivery: Delivery
) -> None:
    reported(state, event.report)
    delivery.reason, delivery.until, delivery.changed_at = event.reason, event.until, recorded.at
    delivery.failures, delivery.in_composer = event.failures, event.stands
    if delivery.expires_at and not delivery.in_composer:  # what stands in the terminal may have been read
        state.expiries[delivery.stream] = delivery.expires_at
    if _is_no_longer_doubted(state, delivery):
        living = state.worker_of_agent(delivery.agent_id)
        assert living is not None, "what was not taken goes to a program that lives"
        target = living
    else:
        target = state.workers[delivery.session_id]
        _leave_host(target, delivery.stream, drains=not event.stands)
    ahead = sum(1 for other in target.waiting if _place(state.deliveries[other]) < _place(delivery))
    target.waiting.insert(ahead, delivery.stream)


def _delivery_doubted(state: State, event: events.DeliveryDoubted, recorded: Recorded, delivery: Delivery) -> None:
    reported(state, event.report)
    delivery.reason, delivery.until, delivery.changed_at = event.reason, event.until, recorded.at
    delivery.door, delivery.door_place, delivery.asked_again = event.door, event.place, False
    state.doubts[delivery.stream] = None
    _leave_host(state.workers[delivery.session_id], delivery.stream, drains=True)


def _delivery_looked_up(state: State, _event: Any, recorded: Recorded, _: Any) -> None:
    state.deliveries[recorded.stream].changed_at = recorded.at


def _is_no_longer_doubted(state: State, delivery: Delivery) -> bool:
    """Take it off the list; False if it was not in doubt."""
    if delivery.stream not in state.doubts:
        return False
    del state.doubts[delivery.stream]
    return True


def _leave_host(target: Worker, stream: str, *, drains: bool) -> None:
    """The host has said what became of it."""
    target.typing.remove(stream)
    target.draining = drains and bool(target.typing)


def _place(delivery: Delivery) -> int:
    """The log position at which it was offered: many have the same moment."""
    return int(delivery.typing_id.rpartition("@")[2])


def _delivery_verified(state: State, event: events.DeliveryVerified, recorded: Recorded, _: Any) -> None:
    reported(state, event.report)
    state.deliveries[recorded.stream].verified = True


def _delivery_acked(state: State, event: events.DeliveryAcked, recorded: Recorded, delivery: Delivery) -> None:
    delivery.changed_at = recorded.at
    state.counters.acked += 1
    no_copy_comes(state, delivery)
    box = state.mailboxes.get(delivery.agent_id)
    if box is not None and delivery.seq and delivery.is_owed:
        box.typed.pop(delivery.seq, None)
        box.sent_ack = max(box.sent_ack, event.up_to)


def _delivery_dropped(state: State, event: events.DeliveryDropped, recorded: Recorded, delivery: Delivery) -> None:
    reported(state, event.report)
    state.counters.dropped += 1
    _ended(state, delivery, recorded, event.reason)
    if event.settled:
        _settle(state, delivery)
    elif delivery.seq and delivery.is_owed:
        doubtful = delivery.msg_id if event.reason is Reason.AMBIGUOUS or delivery.doubtful else ""
        state.mailboxes[delivery.agent_id].give_back(delivery.seq, delivery.attempt, doubtful=doubtful)
    elif delivery.source == LOCAL:
        back_to_outbox(state, delivery, recorded.at)


def _delivery_dead_lettered(
    state: State, event: events.DeliveryDeadLettered, recorded: Recorded, delivery: Delivery
) -> None:
    reported(state, event.report)
    state.counters.dead_lettered += 1
    _ended(state, delivery, recorded, event.reason)
    _settle(state, delivery)
    bury(state, delivery, event, recorded)


def _ended(state: State, delivery: Delivery, recorded: Recorded, reason: Any) -> None:
    delivery.reason, delivery.until, delivery.changed_at = reason, 0.0, recorded.at
    state.doubts.pop(delivery.stream, None)
    _no_longer_waits(state, delivery)
    state.expiries.pop(delivery.stream, None)
    target = state.worker_of_agent(delivery.agent_id)
    if target is None:
        return
    if delivery.stream in target.waiting:
        target.waiting.remove(delivery.stream)
    if delivery.stream in target.typing:
        _leave_host(target, delivery.stream, drains=True)


def _no_longer_waits(state: State, delivery: Delivery) -> None:
    if delivery.source != "engine":
        return
    left = state.waiting_of.pop(delivery.sender) - 1
    if left:
        state.waiting_of[delivery.sender] = left


def _settle(state: State, delivery: Delivery) -> None:
    if delivery.seq and delivery.is_owed:
        box = state.mailboxes[delivery.agent_id]
        delivery.doubtful = delivery.doubtful or box.is_doubtful(
            delivery.msg_id
        )  # custody and letters know it from here
        box.settle(delivery.seq)


CHANGES: Changes = {
    events.DeliveryOffered: _delivery_offered,
    events.DeliveryHeld: _delivery_held,
    events.DeliveryQueued: _delivery_queued,
    events.DeliveryRecognised: _delivery_recognised,
    events.DeliveryTakenOver: _delivery_taken_over,
    events.DeliveryInjecting: _delivery_injecting,
    events.DeliveryAskedAgain: _delivery_asked_again,
    events.DeliveryInjected: _delivery_injected,
    events.DeliveryFetched: _delivery_fetched,
    events.DeliveryDoubted: _delivery_doubted,
    events.DeliveryLookedUp: _delivery_looked_up,
    events.DeliveryHandedBack: _delivery_handed_back,
    events.DeliveryVerified: _delivery_verified,
    events.DeliveryAcked: _delivery_acked,
    events.DeliveryDropped: _delivery_dropped,
    events.DeliveryDeadLettered: _delivery_dead_lettered,
}
