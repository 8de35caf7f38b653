"""Decisions about how deliveries end, and what the engine is told of that: acknowledgements, and requests to offer again.

Source: spec/node-protocol.md sections 4.3, 4.5 and 4.7; design/architecture.md section 3.2.
"""

from __future__ import annotations

from relaybroker.domain import couplings, events, frames
from relaybroker.domain.couplings import Settlement
from relaybroker.domain.delivery import LOOK_UP_S, NOTICE, DeliveryState
from relaybroker.domain.effects import LookUp
from relaybroker.domain.entities import Delivery, Worker
from relaybroker.domain.mailbox import Mailbox
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import dead_letter_removal, link, undelivered
from relaybroker.domain.turn import Turn


def drop(turn: Turn, delivery: Delivery, reason: Reason, *, settled: bool, detail: str = "", report: int = 0) -> None:
    """End it untyped. If it counts for the cursor, the acknowledgement may move."""
    if settled:
        undelivered.delivery_ended(turn, delivery, reason)
    turn.record(
        events.DeliveryDropped(reason=reason, settled=settled, detail=detail, report=report),
        delivery.stream,
        delivery.msg_id,
    )
    _settled(turn, delivery)


def dead_letter(
    turn: Turn, delivery: Delivery, reason: Reason, *, detail: str = "", report: int = 0, in_doubt: bool = False
) -> None:
    """End it and keep it for a person; it counts for the cursor. `in_doubt`: it may have been typed."""
    undelivered.delivery_ended(turn, delivery, reason)
    turn.record(
        events.DeliveryDeadLettered(reason=reason, detail=detail, report=report, in_doubt=in_doubt),
        delivery.stream,
        delivery.msg_id,
    )
    dead_letter_removal.keep_within_limit(turn)
    _settled(turn, delivery)


def _settled(turn: Turn, delivery: Delivery) -> None:
    if delivery.is_owed:
        acknowledge(turn, turn.state.mailboxes[delivery.agent_id])


def conclude(turn: Turn, delivery: Delivery) -> None:
    """It was typed or fetched: it is acknowledged, or at its end if nobody is owed anything for it."""
    if delivery.state != DeliveryState.INJECTED:
        return
    if delivery.is_owed:
        acknowledge(turn, turn.state.mailboxes[delivery.agent_id])
    elif not turn.state.awaits_copy(delivery):
        turn.record(events.DeliveryAcked(up_to=0, dial=0), delivery.stream, delivery.msg_id)


def give_up(turn: Turn, delivery: Delivery, reason: Reason) -> None:
    """Its worker is gone or going: the coupling table says what becomes of it."""
    if delivery.may_be_seen:
        settle_doubt(turn, delivery, reason)
        return
    _end(turn, delivery, couplings.WORKER_ENDED[delivery.state, _is_kept(turn, delivery)], reason)


def end_untaken(turn: Turn, delivery: Delivery, reason: Reason) -> None:
    """Nobody took it, and its program is gone: as if it still waited for it."""
    _end(turn, delivery, couplings.WORKER_ENDED[DeliveryState.QUEUED, _is_kept(turn, delivery)], reason)


def _is_kept(turn: Turn, delivery: Delivery) -> bool:
    """By the engine, or by our outbox."""
    return delivery.is_returnable(turn.now) or turn.state.awaits_copy(delivery)


def _end(turn: Turn, delivery: Delivery, fate: Settlement, reason: Reason) -> None:
    if fate is Settlement.IN_DOUBT and _has_door(turn, delivery):
        doubt(turn, delivery, reason)
        return
    if delivery.source == NOTICE:
        drop(turn, delivery, reason, settled=True)  # whom it was for is gone, and nobody else asks for it
        return
    match fate:
        case Settlement.RETURN:
            drop(turn, delivery, reason, settled=False)
        case Settlement.DEAD_LETTER:
            dead_letter(turn, delivery, reason)
        case Settlement.IN_DOUBT:
            settle_doubt(turn, delivery, reason)


def _has_door(turn: Turn, delivery: Delivery) -> bool:
    """Whether it was handed over through a door of its program's own."""
    return bool(turn.state.workers[delivery.session_id].door)


def doubt(turn: Turn, delivery: Delivery, reason: Reason, report: int = 0) -> None:
    """Its program may have taken it: what the program wrote down is looked up; of what was typed nothing is, and the policy settles it."""
    if not _has_door(turn, delivery):
        settle_doubt(turn, delivery, reason, report)
        return
    program = turn.state.workers[delivery.session_id]
    doubted = events.DeliveryDoubted(
        reason=reason,
        until=turn.now + LOOK_UP_S,
        door=program.door,
        place=program.door_place,
        report=report,
    )
    turn.record(doubted, delivery.stream, delivery.msg_id)
    look_up(turn, delivery)


def look_up(turn: Turn, delivery: Delivery) -> None:
    """Ask the host for what the program's records say; asking again changes nothing."""
    if not turn.state.host.attached:
        return  # it is asked for when one is attached
    turn.effect(
        LookUp(
            session_id=delivery.session_id,
            delivery_id=delivery.typing_id,
            attempt=delivery.tries,
            door=delivery.door,
            place=delivery.door_place,
        )
    )


def settle_doubt(turn: Turn, delivery: Delivery, reason: str, report: int = 0) -> None:
    """Whether it was typed cannot be known: the configured policy settles it, and says so."""
    policy = turn.settings.in_doubt
    detail = f"policy {policy}: {reason}"
    fate, settled = couplings.policy_settlement(policy, returnable=delivery.is_returnable(turn.now))
    if fate is Settlement.DEAD_LETTER:
        dead_letter(turn, delivery, Reason.AMBIGUOUS, detail=detail, report=report, in_doubt=True)
        return
    drop(turn, delivery, Reason.AMBIGUOUS, settled=settled, detail=detail, report=report)
    target = turn.state.worker_of_agent(delivery.agent_id)
    if not settled and target is not None and not target.ended and link.is_online(turn):
        box = turn.state.mailboxes[delivery.agent_id]
        ask_resync(turn, box, box.resyncs)


def worker_ended(turn: Turn, gone: Worker, reason: Reason) -> None:
    """Settle everything that was on its way to this worker."""
    for stream in [*gone.typing, *gone.waiting]:
        give_up(turn, turn.state.deliveries[stream], reason)


def acknowledge(turn: Turn, box: Mailbox) -> None:
    """Give the acknowledgement up to the floor to the link, if it moved and the link takes it."""
    if box.late or box.base is None or not link.is_online(turn):
        return
    if box.floor <= box.sent_ack:
        _end_late(turn, box)
        return
    _acknowledge(turn, box)


def _acknowledge(turn: Turn, box: Mailbox) -> None:
    if box.agent_id not in turn.state.agents or (box.floor == box.base and box.sent_ack < 0):
        return
    dial = turn.state.link.dial
    covered = [stream for seq, stream in box.typed.items() if seq <= box.floor]
    for stream in covered:
        turn.record(events.DeliveryAcked(up_to=box.floor, dial=dial), stream, turn.state.deliveries[stream].msg_id)
    if not covered:
        turn.record(events.AckSent(up_to=box.floor, dial=dial), f"mailbox:{box.agent_id}")
    send_ack(turn, box)


def _end_late(turn: Turn, box: Mailbox) -> None:
    """What was typed late is covered by an acknowledgement that was sent before."""
    for stream in [stream for seq, stream in box.typed.items() if seq <= box.sent_ack]:
        acked = events.DeliveryAcked(up_to=box.sent_ack, dial=turn.state.link.dial)
        turn.record(acked, stream, turn.state.deliveries[stream].msg_id)


def send_ack(turn: Turn, box: Mailbox) -> None:
    """The engine is told the floor (again)."""
    link.send(turn, frames.delivery_ack(f"ack_{turn.state.position}", agent=box.name, up_to=box.floor))


def acknowledge_all(turn: Turn) -> None:
    """After a (re)connect: the newest acknowledgement of every agent is given again."""
    for agent_id in turn.state.agents:
        box = turn.state.mailboxes.get(agent_id)
        if box is None or box.base is None:
            continue
        if box.floor > max(box.sent_ack, box.base) or any(seq <= box.floor for seq in box.typed):
            _acknowledge(turn, box)
        elif box.sent_ack > 0:
            send_ack(turn, box)


def ask_resync(turn: Turn, box: Mailbox, tries: int) -> None:
    """Ask the engine to offer again what it has for this agent."""
    quiet = turn.state.link.next_resync > turn.now
    turn.record(
        events.ResyncAsked(
            tries=tries, first=box.recv + 1, until=turn.state.link.next_resync if quiet else turn.now + 2.0
        ),
        f"mailbox:{box.agent_id}",
    )
    if not quiet:
        link.reregister(turn)
