"""What is told of messages on their way to agents."""

from __future__ import annotations

from typing import Any

from relaybroker.domain import announcements, events
from relaybroker.domain.announcements import Announcement
from relaybroker.domain.announcing.signature import Announcements, Announcing, subject
from relaybroker.domain.delivery import LOCAL, DeliveryState
from relaybroker.domain.entities import Delivery
from relaybroker.domain.events import Recorded
from relaybroker.domain.reasons import Reason
from relaybroker.domain.state import State
from relaybroker.domain.worker import WorkerState


def _about(delivery: Delivery) -> dict[str, Any]:
    return {
        "name": delivery.name,
        "delivery_id": delivery.delivery_id,
        "event_id": delivery.event_id,
        "msg_id": delivery.msg_id,
    }


def _offered(state: State, event: events.DeliveryOffered, recorded: Recorded) -> Announcements:
    delivery = state.deliveries[recorded.stream]
    if event.source in ("engine", LOCAL) and state.announced.get(event.msg_id) == recorded.stream:
        yield announcements.MessageSeen(
            event_id=delivery.event_id,
            msg_id=event.msg_id,
            sender=delivery.said_by,
            target=event.target,
            body=event.body,
            thread_id=event.thread_id,
            workspace_id=event.workspace_id,
            mode=event.mode,
            names=(event.name,),
        )


def _placed(state: State, _event: Any, recorded: Recorded) -> Announcements:
    """It begins to wait for its terminal: what is announced so comes once, and has an end."""
    delivery = state.deliveries[recorded.stream]
    if delivery.placed == recorded.version:
        yield announcements.DeliveryQueued(
            **_about(delivery),
            sender=delivery.said_by,
            target=delivery.target,
            attempt=delivery.attempt,
            by_hand=delivery.reason is Reason.MANUAL_FLUSH,
        )


def _held(state: State, event: events.DeliveryHeld, recorded: Recorded) -> Announcements:
    yield from _placed(state, event, recorded)
    delivery = state.deliveries[recorded.stream]
    yield announcements.DeliveryHeld(**_about(delivery), seq=delivery.seq, reason=event.reason, until=event.until)


def _taken_over(state: State, _event: events.DeliveryTakenOver, recorded: Recorded) -> Announcements:
    delivery = state.deliveries[recorded.stream]
    yield announcements.DeliveryTakenOver(**_about(delivery), seq=delivery.seq)


def _injected(state: State, event: events.DeliveryInjected, recorded: Recorded) -> Announcements:
    delivery = state.deliveries[recorded.stream]
    yield announcements.DeliveryInjected(**_about(delivery), evidence=event.evidence)
    if event.door:
        yield from typed(delivery, event.evidence, "")


def _fetched(state: State, _event: events.DeliveryFetched, recorded: Recorded) -> Announcements:
    delivery = state.deliveries[recorded.stream]
    about = _about(delivery)
    yield announcements.DeliveryInjected(**about, evidence="fetched")
    yield announcements.DeliveryRead(**about)
    yield announcements.DeliveryConfirmed(**about, sender=delivery.said_by)


def _verified(state: State, event: events.DeliveryVerified, recorded: Recorded) -> Announcements:
    why = "" if event.verification == "echo" else "verification_timeout"
    return typed(state.deliveries[recorded.stream], event.verification, why)


def typed(delivery: Delivery, verification: str, why: str) -> Announcements:
    """The good end of a delivery."""
    about = _about(delivery)
    yield announcements.DeliveryRead(**about)
    yield announcements.DeliveryConfirmed(**about, sender=delivery.said_by)
    if delivery.source == "task":
        synthetic = "initial_task_synthetic_event_id"
        yield announcements.DeliveryMarkedRead(**about, status="skipped_synthetic", why=synthetic)
    elif delivery.state == DeliveryState.ACKED:
        yield announcements.DeliveryMarkedRead(**about, status="marked")
    yield announcements.DeliveryVerified(**about, verification=verification, why=why)


def _acked(state: State, _event: events.DeliveryAcked, recorded: Recorded) -> Announcements:
    delivery = state.deliveries[recorded.stream]
    if delivery.verified and delivery.source != "task":
        yield announcements.DeliveryMarkedRead(**_about(delivery), status="marked")


def _handed_back(state: State, event: events.DeliveryHandedBack, recorded: Recorded) -> Announcements:
    if event.reason is Reason.WRITE_BACKOFF:
        yield announcements.DeliveryRetried(**_about(state.deliveries[recorded.stream]), attempts=event.failures)


def _dropped(state: State, event: events.DeliveryDropped, recorded: Recorded) -> Announcements:
    delivery = state.deliveries[recorded.stream]
    if event.reason is Reason.EXPIRED:
        yield announcements.DeliveriesDropped(name=delivery.name, reason=event.reason, event_ids=(delivery.event_id,))
    elif not event.settled and delivery.seq:
        yield announcements.DeliveryReturned(**_about(delivery), reason=event.reason)
        if delivery.placed and _lives_on(state, delivery):  # with its program others go, too: see `_cleared`
            yield announcements.DeliveriesDropped(
                name=delivery.name, reason=event.reason, event_ids=(delivery.event_id,)
            )
    elif event.reason is Reason.AMBIGUOUS:
        yield from _failed(delivery, event.reason)
    elif event.reason is Reason.POISON:
        yield announcements.Undeliverable(
            name=delivery.name,
            agent_id=delivery.agent_id,
            seq=delivery.seq,
            msg_id=delivery.msg_id,
            reason=event.reason,
        )
    if event.reason is Reason.AMBIGUOUS:
        yield _ambiguous(state, delivery)


def _lives_on(state: State, delivery: Delivery) -> bool:
    program = state.worker_of_agent(delivery.agent_id)
    return program is not None and not program.ended and program.state != WorkerState.STOPPING


def _failed(delivery: Delivery, reason: Reason) -> Announcements:
    """The end of a delivery that was not typed, as far as is known: its sender is told."""
    yield announcements.DeliveryFailed(**_about(delivery), reason=reason)
    yield announcements.SenderTold(
        **_about(delivery), sender=delivery.said_by, attempts=delivery.tries, failure=str(reason)
    )


def _ambiguous(state: State, delivery: Delivery) -> Announcement:
    assert state.settings is not None
    return announcements.DeliveryAmbiguous(**_about(delivery), seq=delivery.seq, policy=state.settings.in_doubt)


def _dead_lettered(state: State, event: events.DeliveryDeadLettered, recorded: Recorded) -> Announcements:
    delivery = state.deliveries[recorded.stream]
    yield from _failed(delivery, event.reason)
    if event.reason is Reason.AMBIGUOUS:
        yield _ambiguous(state, delivery)
    yield announcements.DeadLetterAdded(**_about(delivery), letter_id=delivery.letter_id, reason=event.reason)


def _letter_removed(_state: State, event: events.DeadLetterRemoved, recorded: Recorded) -> Announcements:
    yield announcements.DeadLetterRemoved(letter_id=event.letter_id, msg_id=recorded.correlation, reason=event.reason)


def _range_lost(state: State, event: events.RangeLost, recorded: Recorded) -> Announcements:
    yield announcements.RangeLost(name=state.mailboxes[subject(recorded)].name, first=event.first, last=event.last)


def _resync(state: State, event: events.ResyncAsked, recorded: Recorded) -> Announcements:
    box = state.mailboxes[subject(recorded)]
    yield announcements.RangeMissing(name=box.name, first=event.first, last=min(box.buffer, default=event.first) - 1)


_UNDELIVERABLE = (
    Reason.SEQ_CONFLICT,
    Reason.DELIVERY_ID_REUSED,
    Reason.HOLD_FULL,
    Reason.RETIRED,
    Reason.UNKNOWN,
)


def _ignored(state: State, event: events.FrameIgnored, recorded: Recorded) -> Announcements:
    if event.reason in _UNDELIVERABLE:
        agent_id = subject(recorded)
        box = state.mailboxes.get(agent_id)
        yield announcements.Undeliverable(
            name=box.name if box is not None else "",
            agent_id=agent_id,
            seq=event.seq,
            msg_id=event.msg_id,
            reason=event.reason,
        )


ANNOUNCED: Announcing = {
    events.DeliveryOffered: _offered,
    events.DeliveryQueued: _placed,
    events.DeliveryHeld: _held,
    events.DeliveryTakenOver: _taken_over,
    events.DeliveryInjected: _injected,
    events.DeliveryFetched: _fetched,
    events.DeliveryVerified: _verified,
    events.DeliveryAcked: _acked,
    events.DeliveryHandedBack: _handed_back,
    events.DeliveryDropped: _dropped,
    events.DeliveryDeadLettered: _dead_lettered,
    events.DeadLetterRemoved: _letter_removed,
    events.RangeLost: _range_lost,
    events.ResyncAsked: _resync,
    events.FrameIgnored: _ignored,
}
