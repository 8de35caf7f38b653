"""How events of deliveries change the state."""

from __future__ import annotations

from typing import Any

from relaybroker.domain import (
    delivery,
    events,
)
from relaybroker.domain.changes.dead_letters import bury, take_off
from relaybroker.domain.changes.hosts import reported
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.events import Recorded
from relaybroker.domain.extraction import Class, classify
from relaybroker.domain.mailbox import fan_key
from relaybroker.domain.reasons import Reason
from relaybroker.domain.state import (
    Delivery,
    State,
    Worker,
)


def _delivery_offered(state: State, event: events.DeliveryOffered, at: Recorded, _: Any) -> None:
    state.counters.offered += 1
    letter = take_off(state, event.letter_id) if event.letter_id else None
    if letter is None and event.source == "engine":
        state.link.heard_at = at.at
    state.deliveries[at.stream] = Delivery(
        stream=at.stream,
        typing_id=at.event_id,
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
        offered_at=at.at,
        changed_at=at.at,
        doubtful=event.doubtful,
        in_custody=letter is not None and letter.from_custody,
    )
    if event.source == "engine" and classify(event.payload_type) is not Class.RECEIPT:
        state.announce(event.msg_id, at.stream)
    if event.about:
        state.remember_noticed(event.about)
    if event.seq is not None:
        key = fan_key(event.delivery_id, event.msg_id, event.payload_type)
        box = state.mailboxes[event.agent_id]
        box.admit(event.seq, event.msg_id, key, at.stream, event.delivery_id)
        box.passed(event.seq, at.at)


def _delivery_held(state: State, event: events.DeliveryHeld, at: Recorded, found: Delivery) -> None:
    found.reason, found.until, found.changed_at = event.reason, event.until, at.at
    found.fetch_id = event.fetch_id
    _wait(state, found)


def _delivery_queued(state: State, event: events.DeliveryQueued, at: Recorded, found: Delivery) -> None:
    found.flushed, found.doubtful = found.flushed or event.flushed, found.doubtful or event.doubtful
    found.fetch_id = ""
    found.reason, found.until, found.changed_at = None, 0.0, at.at
    _wait(state, found)


def _wait(state: State, found: Delivery) -> None:
    if found.expires_at:
        state.expiries[found.stream] = found.expires_at
    target = state.worker_of_agent(found.agent_id)
    if target is not None and found.stream not in target.waiting:
        target.waiting.append(found.stream)


def _delivery_injecting(state: State, event: events.DeliveryInjecting, at: Recorded, found: Delivery) -> None:
    found.changed_at, found.session_id, found.tries = at.at, event.session_id, event.tries
    found.text, found.marker, found.until = event.text, event.marker, event.until
    found.while_busy, found.asked_again = event.while_busy, False
    state.expiries.pop(found.stream, None)
    target = state.workers[event.session_id]
    target.waiting.remove(found.stream)
    target.typing.append(found.stream)
    state.registrations[target.registration].hinted = True


def _delivery_taken_over(state: State, _event: Any, at: Recorded, _: Any) -> None:
    found = state.deliveries[at.stream]
    _settle(state, found)
    found.in_custody = True


def _delivery_asked_again(state: State, event: events.DeliveryAskedAgain, at: Recorded, _: Any) -> None:
    found = state.deliveries[at.stream]
    found.asked_again, found.until = True, event.until


def _delivery_injected(state: State, event: events.DeliveryInjected, at: Recorded, found: Delivery) -> None:
    reported(state, event.report)
    found.changed_at, found.text, found.body, found.until = at.at, "", "", 0.0
    state.counters.typed += 1
    target = state.workers.get(found.session_id)
    if target is not None:
        _leave_host(target, found.stream, drains=target.draining)
        target.typed, target.last_typed_at, target.active_at, target.idle = target.typed + 1, at.at, at.at, False
    _settle(state, found)
    if found.seq and found.is_owed:
        state.mailboxes[found.agent_id].typed[found.seq] = found.stream


def _delivery_fetched(state: State, _event: Any, at: Recorded, found: Delivery) -> None:
    found.changed_at, found.body, found.until, found.reason = at.at, "", 0.0, None
    found.verified = True  # there is no echo to wait for
    state.expiries.pop(found.stream, None)
    target = state.worker_of_agent(found.agent_id)
    if target is not None:
        target.waiting.remove(found.stream)
        target.active_at, target.idle = at.at, False
    _settle(state, found)
    if found.seq and found.is_owed:
        state.mailboxes[found.agent_id].typed[found.seq] = found.stream


def _delivery_handed_back(state: State, event: events.DeliveryHandedBack, at: Recorded, found: Delivery) -> None:
    reported(state, event.report)
    found.reason, found.until, found.changed_at = event.reason, event.until, at.at
    found.failures, found.stands = event.failures, event.stands
    if found.expires_at and not found.stands:  # what stands in the terminal may have been read
        state.expiries[found.stream] = found.expires_at
    target = state.workers[found.session_id]
    _leave_host(target, found.stream, drains=not event.stands)
    ahead = sum(1 for other in target.waiting if _place(state.deliveries[other]) < _place(found))
    target.waiting.insert(ahead, found.stream)


def _leave_host(target: Worker, stream: str, *, drains: bool) -> None:
    """The host has said what became of it."""
    target.typing.remove(stream)
    target.draining = drains and bool(target.typing)


def _place(found: Delivery) -> int:
    """The log position at which it was offered: many have the same moment."""
    return int(found.typing_id.rpartition("@")[2])


def _delivery_verified(state: State, event: events.DeliveryVerified, at: Recorded, _: Any) -> None:
    reported(state, event.report)
    state.deliveries[at.stream].verified = True


def _delivery_acked(state: State, event: events.DeliveryAcked, at: Recorded, found: Delivery) -> None:
    found.changed_at = at.at
    state.counters.acked += 1
    box = state.mailboxes.get(found.agent_id)
    if box is not None and found.seq and found.is_owed:
        box.typed.pop(found.seq, None)
        box.sent_ack = max(box.sent_ack, event.up_to)


def _delivery_dropped(state: State, event: events.DeliveryDropped, at: Recorded, found: Delivery) -> None:
    reported(state, event.report)
    state.counters.dropped += 1
    _ended(state, found, at, event.reason)
    if event.settled:
        _settle(state, found)
    elif found.seq and found.is_owed:
        doubtful = found.msg_id if event.reason is Reason.AMBIGUOUS else ""
        state.mailboxes[found.agent_id].give_back(found.seq, found.attempt, doubtful=doubtful)


def _delivery_dead_lettered(state: State, event: events.DeliveryDeadLettered, at: Recorded, found: Delivery) -> None:
    reported(state, event.report)
    state.counters.dead_lettered += 1
    _ended(state, found, at, event.reason)
    _settle(state, found)
    bury(state, found, event, at)


def _ended(state: State, found: Delivery, at: Recorded, reason: Any) -> None:
    found.reason, found.until, found.changed_at = reason, 0.0, at.at
    state.expiries.pop(found.stream, None)
    target = state.worker_of_agent(found.agent_id)
    if target is None:
        return
    if found.stream in target.waiting:
        target.waiting.remove(found.stream)
    if found.stream in target.typing:
        _leave_host(target, found.stream, drains=True)


def _settle(state: State, found: Delivery) -> None:
    if found.seq and found.is_owed:
        state.mailboxes[found.agent_id].settle(found.seq)


CHANGES: Changes = {
    events.DeliveryOffered: _delivery_offered,
    events.DeliveryHeld: _delivery_held,
    events.DeliveryQueued: _delivery_queued,
    events.DeliveryTakenOver: _delivery_taken_over,
    events.DeliveryInjecting: _delivery_injecting,
    events.DeliveryAskedAgain: _delivery_asked_again,
    events.DeliveryInjected: _delivery_injected,
    events.DeliveryFetched: _delivery_fetched,
    events.DeliveryHandedBack: _delivery_handed_back,
    events.DeliveryVerified: _delivery_verified,
    events.DeliveryAcked: _delivery_acked,
    events.DeliveryDropped: _delivery_dropped,
    events.DeliveryDeadLettered: _delivery_dead_lettered,
}
