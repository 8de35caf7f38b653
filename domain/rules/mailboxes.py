"""Decisions about what the engine offers: taken on, kept for its turn, ignored, given up.

Source: spec/node-protocol.md sections 4.1, 4.2 and 4.6; design/architecture.md section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable

from relaybroker.domain import events, extraction, frames
from relaybroker.domain.agent import MAX_EARLY, PRESENT, UNREGISTERED
from relaybroker.domain.delivery import ENGINE_KEEPS_S, MAX_BODY_BYTES, MAX_WAITING_OF_SENDER
from relaybroker.domain.entities import Delivery, Registration
from relaybroker.domain.errors import FrameRejected
from relaybroker.domain.extraction import Class
from relaybroker.domain.link import LinkState
from relaybroker.domain.mailbox import GIVE_UP_S, RESYNC_AFTER_S, Mailbox, Verdict
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import deliveries, link, local_first, notices, reads, settling, strangers
from relaybroker.domain.state import State
from relaybroker.domain.turn import Turn

AGE_NOTED_S = 60.0
"""A message that the engine has had for longer when it comes says so; of a younger one nobody asks."""


def offered(turn: Turn, frame: frames.Frame) -> None:
    """Decide about one `deliver` frame."""
    offer = frames.read_deliver(frame)
    registration = _recipient(turn, offer)
    agent_id = offer.agent_id or (registration.agent_id if registration else "")
    if not agent_id:
        raise FrameRejected(Reason.NO_IDENTITY, f"no agent id for {offer.agent!r}"[:200], "deliver")
    box = turn.state.mailboxes.get(agent_id)
    if registration is None and (coming := _registering(turn, offer)) is not None:
        _keep_early(turn, coming, offer, frame)
        return
    if registration is None or box is None:
        strangers.offered(turn, offer, agent_id, _open)
        return
    offer = offer.completed(agent_id)
    is_copy = local_first.is_copy(turn.state, box, offer.msg_id)
    verdict = box.judge(offer.seq, offer.msg_id, frames.fan_key_of(offer), is_copy=is_copy)
    # what is buffered will wait as well; the one that closes the gap may be the last that has room
    buffered = len(box.buffer) - (verdict.verdict is Verdict.ADMIT and bool(box.buffer))
    if verdict.verdict is not Verdict.IGNORE and deliveries.is_full(turn, registration, buffered):
        _ignore(turn, box, offer, Reason.HOLD_FULL)
        return
    match verdict.verdict:
        case Verdict.IGNORE:
            assert verdict.reason is not None
            if verdict.advances and box.base is None:
                turn.record(events.MailboxBased(base=offer.seq - 1, source="first_frame"), f"mailbox:{agent_id}")
            if not (verdict.advances and local_first.recognise(turn, box, offer)):
                _ignore(turn, box, offer, verdict.reason, advances=verdict.advances)
            _after_ignored(turn, box, verdict.reason, advances=verdict.advances)
        case Verdict.BUFFER:
            turn.record(
                events.FrameBuffered(seq=offer.seq, frame=frame, until=turn.now + GIVE_UP_S),
                f"mailbox:{agent_id}",
                offer.msg_id,
            )
        case Verdict.ADMIT:
            if offer.seq == 1 and box.base is None:
                turn.record(events.MailboxBased(base=0, source="first_frame"), f"mailbox:{agent_id}")
            _admit(turn, box, offer)
    drain_buffer(turn, box)


def _recipient(turn: Turn, offer: frames.Deliver) -> Registration | None:
    state = turn.state
    if offer.agent_id:
        stream = state.agents.get(offer.agent_id)
        registration = state.registrations.get(stream) if stream else None
    else:
        registration = state.registration_of(offer.agent)
    if registration is None or registration.state not in PRESENT:
        return None
    return registration


def _registering(turn: Turn, offer: frames.Deliver) -> Registration | None:
    """The registration under way that this frame may be for."""
    holder = turn.state.registration_of(offer.agent) if offer.agent else None
    is_coming = holder is not None and holder.state in UNREGISTERED and holder.agent_id in ("", offer.agent_id)
    return holder if is_coming else None


def _keep_early(turn: Turn, coming: Registration, offer: frames.Deliver, frame: frames.Frame) -> None:
    """A frame that comes before the engine's answer waits for it: no longer than that takes, and no more than `MAX_EARLY`."""
    if frame not in coming.early and len(coming.early) < MAX_EARLY:
        event: events.Event = events.EarlyFrameKept(seq=offer.seq, msg_id=offer.msg_id, frame=frame)
        turn.record(event, coming.stream, offer.msg_id)
    else:
        reason = Reason.IN_PROGRESS if frame in coming.early else Reason.HOLD_FULL
        event = events.FrameIgnored(reason=reason, seq=offer.seq, msg_id=offer.msg_id, delivery_id=offer.delivery_id)
        turn.record(event, f"mailbox:{offer.agent_id or coming.name}", offer.msg_id)


def early(turn: Turn, kept: list[frames.Frame]) -> None:
    """The engine has answered the registration that these frames waited for: now they are decided."""
    for frame in kept:
        offered(turn, frame)


def _ignore(turn: Turn, box: Mailbox, offer: frames.Deliver, reason: Reason, *, advances: bool = False) -> None:
    turn.record(
        events.FrameIgnored(
            reason=reason, seq=offer.seq, msg_id=offer.msg_id, delivery_id=offer.delivery_id, advances=advances
        ),
        f"mailbox:{box.agent_id}",
        offer.msg_id,
    )


def _after_ignored(turn: Turn, box: Mailbox, reason: Reason, *, advances: bool) -> None:
    if advances:
        settling.acknowledge(turn, box)
    elif reason is Reason.STALE and box.floor and not box.late and link.is_online(turn):
        settling.send_ack(turn, box)


def _admit(turn: Turn, box: Mailbox, offer: frames.Deliver) -> None:
    _open(turn, box, offer, deliveries.place)


def _open(turn: Turn, box: Mailbox, offer: frames.Deliver, place: Callable[[Turn, Delivery], None]) -> None:
    """Open a delivery for the frame and decide what happens to it first; what is for typing is given to `place`."""
    attempt = box.returned.get(offer.seq, 0) + 1
    unnamed = f"{offer.msg_id}_{extraction.payload_type(offer.payload)}_{box.agent_id}"
    name = offer.delivery_id or unnamed
    stream = f"delivery:{name}#{attempt}" if attempt > 1 else f"delivery:{name}"
    reused = offer.seq > 0 and box.is_reused(offer.delivery_id, offer.msg_id)
    if reused or stream in turn.state.deliveries or name in turn.state.dead_letters:
        _ignore(turn, box, offer, Reason.DELIVERY_ID_REUSED)
        return
    poison = offer.poison
    extract = extraction.extract(offer.payload, box.name)
    turn.record(
        events.DeliveryOffered(
            delivery_id=offer.delivery_id,
            attempt=attempt,
            agent_id=box.agent_id,
            name=box.name,
            seq=offer.seq,
            msg_id=offer.msg_id,
            source="engine",
            sender=extract.sender,
            target=extract.target,
            body="" if poison else extract.body,
            thread_id=extract.thread_id,
            priority=extract.priority,
            mode=offer.mode,
            payload_type=extract.type,
            workspace_id=turn.settings.workspace_id,
            expires_at=extract.expires_at,
            aged_s=_aged_s(turn, offer, extract),
            late=box.base is not None and 0 < offer.seq <= box.base,
            doubtful=_may_be_typed(turn, extract),
        ),
        stream,
        offer.msg_id,
    )
    delivery = turn.state.deliveries[stream]
    if reason := _why_not_typed(box, extract, poison=poison):
        settling.drop(turn, delivery, reason, settled=True)
        reader, read = extraction.read_mark(offer.payload)
        if reader == box.agent_id and read:
            reads.marked_by_engine(turn, reader, read)
        if reason is Reason.RECEIPT_ONLY:
            notices.surfaced(turn, box.agent_id, offer)
    elif 0 < delivery.expires_at <= turn.now:
        settling.drop(turn, delivery, Reason.EXPIRED, settled=True)
    elif len(extract.body.encode()) > MAX_BODY_BYTES:
        settling.dead_letter(turn, delivery, Reason.TOO_LARGE)
    elif turn.state.waiting_of[extract.sender] > MAX_WAITING_OF_SENDER:
        settling.dead_letter(turn, delivery, Reason.SENDER_QUOTA)
    else:
        place(turn, delivery)


def _may_be_typed(turn: Turn, extract: extraction.Extract) -> bool:
    """Whether the machine crashed after the message was posted: the log may have lost that it was typed (ADR-0082)."""
    before = turn.state.doubt_before
    if before and not extract.posted_at:  # it does not say: the engine can still have it from then
        return turn.now < before + ENGINE_KEEPS_S
    return extract.posted_at < before


def _aged_s(turn: Turn, offer: frames.Deliver, extract: extraction.Extract) -> float:
    """How long the engine has had it, where that matters: it forgets what it has had for an hour."""
    aged_s = round(turn.now - extract.posted_at, 3) if offer.seq and extract.posted_at else 0.0
    return min(aged_s, ENGINE_KEEPS_S) if aged_s > AGE_NOTED_S else 0.0


def _why_not_typed(box: Mailbox, extract: extraction.Extract, *, poison: bool) -> Reason | None:
    if poison:
        return Reason.POISON
    if extract.cls is Class.UNKNOWN:
        return Reason.UNKNOWN_TYPE
    if extract.cls is Class.RECEIPT:
        return Reason.RECEIPT_ONLY
    return Reason.SELF_ECHO if extraction.is_self_echo(extract, box.agent_id, box.name) else None


def drain_buffer(turn: Turn, box: Mailbox) -> None:
    """Admit whatever has become the next one."""
    while (seq := box.next_buffered) is not None:
        offer = frames.read_deliver(box.buffer[seq]).completed(box.agent_id)
        if local_first.recognise(turn, box, offer):
            continue
        if offer.msg_id in box.seen:
            _ignore(turn, box, offer, Reason.DUPLICATE, advances=True)
        else:
            _admit(turn, box, offer)
    settling.acknowledge(turn, box)


def due(turn: Turn) -> None:
    """Gaps that need the next step."""
    for agent_id in list(turn.state.agents):
        box = turn.state.mailboxes.get(agent_id)
        if box is not None and (when := box.deadline) is not None and when <= turn.now:
            _gap_due(turn, box)


def deadline(state: State) -> float | None:
    """When a gap needs the next step."""
    online = state.link.state == LinkState.ONLINE
    boxes = (state.mailboxes.get(agent_id) for agent_id in state.agents)
    times = [
        when for box in boxes if box is not None and (online or box.base is None) and (when := box.deadline) is not None
    ]
    return min(times, default=None)


def _gap_due(turn: Turn, box: Mailbox) -> None:
    stream = f"mailbox:{box.agent_id}"
    if box.base is None:
        turn.record(events.MailboxBased(base=min(box.buffer) - 1, source="adopted"), stream)
        drain_buffer(turn, box)
        return
    if not link.is_online(turn):
        return
    if box.resyncs < len(RESYNC_AFTER_S):
        settling.ask_resync(turn, box, box.resyncs + 1)
        return
    for first, last in box.holes():
        turn.record(events.RangeLost(first=first, last=last), stream)
    drain_buffer(turn, box)
