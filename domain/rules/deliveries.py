"""Decisions about deliveries: taking a frame on, holding, typing, settling, acknowledging.

Source: spec/node-protocol.md section 4; design/architecture.md section 3.2.
"""

from __future__ import annotations

from domain import composition, couplings, events, extraction, frames
from domain.agent_registration import State as AgentState
from domain.couplings import Fate
from domain.delivery import (
    HANDOVER_RETRY_S,
    HOLD_S,
    HOLD_STARTING_S,
    INJECT_WINDOW,
    MAX_BODY_BYTES,
    MAX_FLUSHABLE,
    MAX_HANDOVERS,
    MAX_WAITING,
    MAX_WRITES,
    WRITE_RETRY_S,
    State,
)
from domain.effects import TypeText
from domain.errors import FrameRejected
from domain.extraction import Class
from domain.inputs import TextNotTyped, TextTyped, TextVerified
from domain.mailbox import GIVE_UP_S, RESYNC_AFTER_S, Mailbox, Verdict, fan_key
from domain.node_connection import State as LinkState
from domain.reasons import Reason
from domain.rules import archiving, link
from domain.state import Delivery, Registration, Worker
from domain.state import State as BrokerState
from domain.turn import Turn
from domain.worker import DRAFT
from domain.worker import State as WorkerState

# --- a frame comes in ---------------------------------------------------------------------------------------------------


def offered(turn: Turn, frame: frames.Frame) -> None:
    """Decide about one `deliver` frame."""
    found = frames.read_deliver(frame)
    registration = _recipient(turn, found)
    agent_id = found.agent_id or (registration.agent_id if registration else "")
    if not agent_id:
        raise FrameRejected(Reason.NO_IDENTITY, f"no agent id for {found.agent!r}"[:200], "deliver")
    box = turn.state.mailboxes.get(agent_id)
    if registration is None or box is None:
        _refuse_stranger(turn, found, agent_id, known=box is not None)
        return
    found = found.completed(agent_id)
    key = fan_key(found.delivery_id, found.msg_id, extraction.payload_type(found.payload))
    verdict = box.judge(found.seq, found.msg_id, key)
    if verdict.verdict is not Verdict.IGNORE and is_full(turn, registration):
        _ignore(turn, box, found, Reason.HOLD_FULL)
        return
    match verdict.verdict:
        case Verdict.IGNORE:
            assert verdict.reason is not None
            _ignore(turn, box, found, verdict.reason, advances=verdict.advances)
            _after_ignored(turn, box, verdict.reason, advances=verdict.advances)
        case Verdict.BUFFER:
            turn.record(
                events.FrameBuffered(seq=found.seq, frame=frame, until=turn.now + GIVE_UP_S),
                f"mailbox:{agent_id}",
                found.msg_id,
            )
        case Verdict.ADMIT:
            if found.seq == 1 and box.base is None:
                turn.record(events.MailboxBased(base=0, source="first_frame"), f"mailbox:{agent_id}")
            _admit(turn, box, found)
    drain_buffer(turn, box)


def _recipient(turn: Turn, found: frames.Deliver) -> Registration | None:
    state = turn.state
    if found.agent_id:
        stream = state.agents.get(found.agent_id)
        registration = state.registrations.get(stream) if stream else None
    else:
        registration = state.registration_of(found.agent)
    if registration is None or registration.state not in (AgentState.REGISTERED, AgentState.LIVE):
        return None
    return registration


def _refuse_stranger(turn: Turn, found: frames.Deliver, agent_id: str, *, known: bool) -> None:
    """A frame for an agent id that does not live here: never typed, never acknowledged (acks go by name), the engine keeps it.

    The engine is told that the agent is not here, unless its name is being registered just now.
    """
    reason = Reason.RETIRED if known else Reason.UNKNOWN
    turn.record(
        events.FrameIgnored(reason=reason, seq=found.seq, msg_id=found.msg_id, delivery_id=found.delivery_id),
        f"mailbox:{agent_id}",
        found.msg_id,
    )
    successor = turn.state.registration_of(found.agent) if found.agent else None
    if successor is None and link.is_online(turn):
        request_id = f"dereg_{turn.state.position}"
        link.send(turn, frames.agent_deregister(request_id, agent_id=agent_id, name=found.agent))


def is_full(turn: Turn, registration: Registration) -> bool:
    """Whether the agent has as many waiting messages as it may."""
    target = turn.state.workers.get(registration.session_id)
    if target is None:
        return False
    return len(target.waiting) >= MAX_WAITING or flushable(turn, target, MAX_FLUSHABLE)


def flushable(turn: Turn, target: Worker, count: int) -> bool:
    """Whether at least so many messages wait for a person to flush them."""
    if not turn.state.is_flushed_by_hand(target.name):
        return False
    waiting = (turn.state.deliveries[stream] for stream in target.waiting)
    return sum(found.reason is Reason.MANUAL_FLUSH for found in waiting) >= count


def _ignore(turn: Turn, box: Mailbox, found: frames.Deliver, reason: Reason, *, advances: bool = False) -> None:
    turn.record(
        events.FrameIgnored(
            reason=reason, seq=found.seq, msg_id=found.msg_id, delivery_id=found.delivery_id, advances=advances
        ),
        f"mailbox:{box.agent_id}",
        found.msg_id,
    )


def _after_ignored(turn: Turn, box: Mailbox, reason: Reason, *, advances: bool) -> None:
    if advances:
        acknowledge(turn, box)
    elif reason is Reason.STALE and box.floor and not box.late and link.is_online(turn):
        _send_ack(turn, box)


def _admit(turn: Turn, box: Mailbox, found: frames.Deliver) -> None:
    """Open a delivery for the frame and decide what happens to it first."""
    attempt = box.returned.get(found.seq, 0) + 1
    unnamed = f"{found.msg_id}_{extraction.payload_type(found.payload)}_{box.agent_id}"
    name = found.delivery_id or unnamed
    stream = f"delivery:{name}#{attempt}" if attempt > 1 else f"delivery:{name}"
    reused = found.seq > 0 and box.is_reused(found.delivery_id, found.msg_id)
    if reused or stream in turn.state.deliveries or name in turn.state.dead_letters:
        _ignore(turn, box, found, Reason.DELIVERY_ID_REUSED)
        return
    poison = found.poison
    extract = extraction.extract(found.payload, box.name)
    turn.record(
        events.DeliveryOffered(
            delivery_id=found.delivery_id,
            attempt=attempt,
            agent_id=box.agent_id,
            name=box.name,
            seq=found.seq,
            msg_id=found.msg_id,
            source="engine",
            sender=extract.sender,
            target=extract.target,
            body="" if poison else extract.body,
            thread_id=extract.thread_id,
            priority=extract.priority,
            mode=found.mode,
            payload_type=extract.type,
            workspace_id=turn.settings.workspace_id,
            expires_at=extract.expires_at,
            late=box.base is not None and 0 < found.seq <= box.base,
        ),
        stream,
        found.msg_id,
    )
    delivery = turn.state.deliveries[stream]
    if reason := _why_not_typed(box, extract, poison=poison):
        drop(turn, delivery, reason, settled=True)
    elif 0 < delivery.expires_at <= turn.now:
        drop(turn, delivery, Reason.EXPIRED, settled=True)
    elif len(extract.body.encode()) > MAX_BODY_BYTES:
        dead_letter(turn, delivery, Reason.TOO_LARGE)
    else:
        place(turn, delivery)


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
        found = frames.read_deliver(box.buffer[seq]).completed(box.agent_id)
        if found.msg_id in box.seen:
            _ignore(turn, box, found, Reason.DUPLICATE, advances=True)
        else:
            _admit(turn, box, found)
    acknowledge(turn, box)


def task_offered(turn: Turn, registration: Registration) -> None:
    """The initial task of an agent is a local message of its own, typed once the program is ready."""
    event_id = f"init_{turn.fresh('task')}"
    stream = f"delivery:{event_id}"
    turn.record(
        events.DeliveryOffered(
            delivery_id=event_id,
            attempt=1,
            agent_id=registration.agent_id,
            name=registration.name,
            seq=None,
            msg_id=event_id,
            source="task",
            sender=registration.source,
            target=registration.name,
            body=composition.compose_task(registration.spec.task),
            workspace_id=turn.settings.workspace_id,
        ),
        stream,
        registration.name,
    )
    place(turn, turn.state.deliveries[stream])


# --- waiting and typing ---------------------------------------------------------------------------------------------------


def place(turn: Turn, delivery: Delivery) -> None:
    """An offered delivery is queued for its worker, or held with a reason."""
    target = turn.state.worker_of_agent(delivery.agent_id)
    assert target is not None, "deliveries are offered only to registered agents, which have a worker"
    if target.ended or target.state == WorkerState.STOPPING:
        give_up(turn, delivery, target.stop_reason or target.exit_reason or Reason.NOT_RUNNING)
    elif reason := _why_held(turn, target, delivery, steered=delivery.mode == "steer"):
        hold(turn, delivery, reason)
    else:
        turn.record(events.DeliveryQueued(), delivery.stream, delivery.msg_id)
        if target.state == WorkerState.BUSY:
            reconsider(turn, target)  # it lets through what waits before it
        else:
            pump(turn, target)


def _why_held(turn: Turn, target: Worker, delivery: Delivery, *, steered: bool) -> Reason | None:
    """Why a message may not be typed now; None = it may. A person's hold goes before what the program shows.

    `steered`: it is a `steer` message, or one waits behind it: the order stays, and both go on while the program works.
    """
    if waits_for_flush(turn, delivery):
        return Reason.MANUAL_FLUSH
    match target.state:
        case WorkerState.LAUNCHING:
            return Reason.AGENT_STARTING
        case WorkerState.BOOTING:
            return Reason.NOT_READY
        case WorkerState.BLOCKED if target.blocked_by == DRAFT:
            return None if delivery.stands else Reason.COMPOSER_UNCLEAR
        case WorkerState.BLOCKED:
            return Reason.BLOCKED_BY_DIALOG
        case WorkerState.BUSY if not (
            target.patience_s and (steered or delivery.offered_at + target.patience_s <= turn.now)
        ):
            return target.occupied_by
        case _:
            return None


def _steered(turn: Turn, target: Worker) -> int:
    """How many of those that wait, from the first one on, are a `steer` message or have one behind them."""
    deliveries, waiting = turn.state.deliveries, target.waiting
    return next((at for at in range(len(waiting), 0, -1) if deliveries[waiting[at - 1]].mode == "steer"), 0)


def waits_for_flush(turn: Turn, delivery: Delivery) -> bool:
    """Whether a person holds this message. What was flushed is let through, and so is the task of a spawn."""
    is_first_task = delivery.source == "task" and delivery.attempt == 1
    return turn.state.is_flushed_by_hand(delivery.name) and not delivery.flushed and not is_first_task


def hold(turn: Turn, delivery: Delivery, reason: Reason) -> None:
    """The delivery waits, with a reason and a deadline: in all it waits no longer than `HOLD_S` since it was offered."""
    until = delivery.offered_at + HOLD_S
    if reason is Reason.AGENT_STARTING:
        until = min(turn.now + HOLD_STARTING_S, until)
    elif (
        reason is Reason.AGENT_BUSY and (target := turn.state.worker_of_agent(delivery.agent_id)) and target.patience_s
    ):
        until = min(delivery.offered_at + target.patience_s, until)
    until = max(turn.now, until)
    turn.record(events.DeliveryHeld(reason=reason, until=until), delivery.stream, delivery.msg_id)


def reconsider(turn: Turn, target: Worker) -> None:
    """The worker or a person's hold changed: what waits is held for the reason that is true now, or queued, in order."""
    steered = _steered(turn, target)
    for at, stream in enumerate(list(target.waiting)):
        delivery = turn.state.deliveries[stream]
        reason = _why_held(turn, target, delivery, steered=at < steered)
        if delivery.state == State.HELD and delivery.reason is not reason:
            turn.record(events.DeliveryQueued(), stream, delivery.msg_id)
        if delivery.state == State.QUEUED and reason:
            hold(turn, delivery, reason)
    pump(turn, target)


def pump(turn: Turn, target: Worker) -> None:
    """Give the next deliveries to the PTY host, in order, up to the window."""
    if not turn.state.host.attached or target.draining:
        return
    while (target.takes_text or target.blocked_by == DRAFT) and len(target.typing) < INJECT_WINDOW:
        delivery = _next_to_type(turn, target)
        if delivery is None:
            break
        if 0 < delivery.expires_at <= turn.now and not delivery.stands:
            drop(turn, delivery, Reason.EXPIRED, settled=True)
        else:
            _inject(turn, target, delivery)
    _refill(turn, target)


def _next_to_type(turn: Turn, target: Worker) -> Delivery | None:
    """The first that is queued and due; only what waits for a person is passed over."""
    for stream in target.waiting:
        delivery = turn.state.deliveries[stream]
        if delivery.reason is Reason.MANUAL_FLUSH:
            continue
        is_due = delivery.state == State.QUEUED and delivery.until <= turn.now
        return delivery if is_due else None
    return None


def _inject(turn: Turn, target: Worker, delivery: Delivery) -> None:
    registration = turn.state.registrations[target.registration]
    if delivery.source == "task":
        text, marker = delivery.body, ""
    else:
        box = turn.state.mailboxes[delivery.agent_id]
        text = composition.compose(
            harness=registration.harness,
            sender=delivery.sender,
            target=delivery.target,
            msg_id=delivery.msg_id,
            body=delivery.body,
            thread_id=delivery.thread_id,
            priority=delivery.priority,
            possible_duplicate=delivery.doubtful or delivery.msg_id in box.doubtful.values(),
            hint=not registration.hinted and not registration.spec.skip_relay_prompt,
        )
        marker = composition.marker_of(delivery.msg_id)
    turn.record(
        events.DeliveryInjecting(
            session_id=target.session_id,
            tries=delivery.tries + 1,
            text=text,
            marker=marker,
            until=turn.now + HOLD_S,
            while_busy=target.state == WorkerState.BUSY,
        ),
        delivery.stream,
        delivery.msg_id,
    )
    type_text(turn, delivery)


def type_text(turn: Turn, delivery: Delivery) -> None:
    """Ask the host to type a delivery; asking again for the same one types nothing more."""
    turn.effect(
        TypeText(
            session_id=delivery.session_id,
            delivery_id=delivery.typing_id,
            attempt=delivery.tries,
            text=delivery.text,
            marker=delivery.marker,
            steer=delivery.mode == "steer",
            expires_at=delivery.expires_at,
            while_busy=delivery.while_busy,
        )
    )


def _refill(turn: Turn, target: Worker) -> None:
    """There is room again for what was refused as `hold_full`: ask the engine to offer it once more."""
    box = turn.state.mailboxes.get(target.agent_id)
    if box is None or not box.starved or not link.is_online(turn):
        return
    if len(target.waiting) > MAX_WAITING // 2 or flushable(turn, target, MAX_FLUSHABLE // 2 + 1):
        return
    _ask_resync(turn, box, box.resyncs)


def typing_of(turn: Turn, typing_id: str) -> Delivery | None:
    """The delivery that the host knows by this id."""
    delivery = turn.state.deliveries.get(typing_id.rpartition("@")[0])
    return delivery if delivery is not None and delivery.typing_id == typing_id else None


def typed(turn: Turn, report: TextTyped) -> bool:
    """The host wrote body and Enter. False if nothing here waits for that."""
    delivery = typing_of(turn, report.delivery_id)
    if delivery is None or delivery.state != State.INJECTING:
        return False
    turn.record(
        events.DeliveryInjected(
            report=report.report,
            bytes_written=report.bytes_written,
            evidence=report.evidence,
            wait_ms=round(report.wait_ms, 3),
            repeated=report.repeated,
        ),
        delivery.stream,
        delivery.msg_id,
    )
    if delivery.seq:
        acknowledge(turn, turn.state.mailboxes[delivery.agent_id])
    else:
        turn.record(events.DeliveryAcked(up_to=0, dial=0), delivery.stream, delivery.msg_id)
    if (target := turn.state.workers.get(report.session_id)) is not None:
        pump(turn, target)
    return True


def not_typed(turn: Turn, report: TextNotTyped) -> bool:
    """The host did not complete it. False if nothing here waits for that."""
    delivery = typing_of(turn, report.delivery_id)
    if delivery is None or delivery.state != State.INJECTING or report.attempt < delivery.tries:
        return False  # also the failure of an earlier try: the newer one is under way
    failures = delivery.failures + (report.reason in _REFUSALS)
    is_over = failures >= (MAX_WRITES if report.reason == Reason.PTY_WRITE_FAILED else MAX_HANDOVERS)
    if report.typed != "no" and (is_over or report.reason not in _GOES_ON):
        settle_doubt(turn, delivery, report.reason, report.report)
    elif report.reason == Reason.EXPIRED:
        drop(turn, delivery, Reason.EXPIRED, settled=True, report=report.report)
    elif report.reason == Reason.TOO_LARGE:
        dead_letter(turn, delivery, Reason.TOO_LARGE, report=report.report)
    elif is_over:
        reason = Reason.PTY_WRITE_FAILED if report.reason == Reason.PTY_WRITE_FAILED else Reason.ATTEMPTS_EXHAUSTED
        detail = f"{failures} failures, the last one {report.reason}"
        dead_letter(turn, delivery, reason, detail=detail, report=report.report)
    else:
        _hand_back(turn, delivery, report, failures)
    if (target := turn.state.workers.get(report.session_id)) is not None:
        pump(turn, target)
    return True


_REFUSALS = (Reason.PTY_WRITE_FAILED, Reason.QUEUE_FULL, Reason.NOT_RUNNING)
"""Why the host gives a delivery back that it could have taken: each counts against the delivery."""
_GOES_ON = (Reason.PTY_WRITE_FAILED, Reason.BLOCKED_BY_DIALOG)
"""After these the living host goes on with a text that it began, when it is asked for the same delivery again (F084)."""

_OCCUPIED = (Reason.AGENT_BUSY, Reason.HUMAN_DRIVING)


def _hand_back(turn: Turn, delivery: Delivery, report: TextNotTyped, failures: int) -> None:
    """It takes its place in the queue again, for later, or is held."""
    if report.reason == Reason.PTY_WRITE_FAILED:
        reason, seconds = Reason.WRITE_BACKOFF, WRITE_RETRY_S[failures - 1]
    elif report.reason == Reason.QUEUE_FULL:
        reason, seconds = Reason.WRITE_BACKOFF, HANDOVER_RETRY_S * failures
    elif report.reason == Reason.OUT_OF_TURN:
        reason, seconds = Reason.OUT_OF_TURN, 0.0  # it goes right after the one before it
    elif report.reason in _OCCUPIED:
        reason, seconds = Reason(report.reason), 0.0  # the terminal's being free is told
    else:
        reason, seconds = Reason.NOT_RUNNING, HANDOVER_RETRY_S * max(1, failures)
    turn.record(
        events.DeliveryHandedBack(
            report=report.report,
            reason=reason,
            until=turn.now + seconds,
            failures=failures,
            stands=delivery.stands
            or report.typed != "no",  # what stands in the terminal is not unsaid by a later refusal
        ),
        delivery.stream,
        delivery.msg_id,
    )
    target = turn.state.workers[delivery.session_id]
    if target.ended or target.state == WorkerState.STOPPING:
        return
    steered = target.waiting.index(delivery.stream) < _steered(turn, target)
    if why := _why_held(turn, target, delivery, steered=steered):
        hold(turn, delivery, why)


def verified(turn: Turn, report: TextVerified) -> bool:
    """The verification window ended. False if nothing here waits for that."""
    delivery = typing_of(turn, report.delivery_id)
    if delivery is None or delivery.verified or delivery.state not in (State.INJECTED, State.ACKED):
        return False
    turn.record(
        events.DeliveryVerified(report=report.report, verification=report.verification),
        delivery.stream,
        delivery.msg_id,
    )
    return True


# --- settling and acknowledging -----------------------------------------------------------------------------------------


def drop(turn: Turn, delivery: Delivery, reason: Reason, *, settled: bool, detail: str = "", report: int = 0) -> None:
    """End it untyped. If it counts for the cursor, the acknowledgement may move."""
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
    turn.record(
        events.DeliveryDeadLettered(reason=reason, detail=detail, report=report, in_doubt=in_doubt),
        delivery.stream,
        delivery.msg_id,
    )
    archiving.keep_within_limit(turn)
    _settled(turn, delivery)


def _settled(turn: Turn, delivery: Delivery) -> None:
    if delivery.seq:
        acknowledge(turn, turn.state.mailboxes[delivery.agent_id])


def give_up(turn: Turn, delivery: Delivery, reason: Reason) -> None:
    """Its worker is gone or going: the coupling table says what becomes of it."""
    if delivery.stands:
        settle_doubt(turn, delivery, reason)
        return
    match couplings.WORKER_ENDED[delivery.state, delivery.seq is not None]:
        case Fate.RETURN:
            drop(turn, delivery, reason, settled=False)
        case Fate.DEAD_LETTER:
            dead_letter(turn, delivery, reason)
        case Fate.IN_DOUBT:
            settle_doubt(turn, delivery, reason)


def settle_doubt(turn: Turn, delivery: Delivery, reason: str, report: int = 0) -> None:
    """Whether it was typed cannot be known: the configured policy settles it, and says so."""
    policy = turn.settings.in_doubt
    detail = f"policy {policy}: {reason}"
    fate, settled = couplings.policy_fate(policy, from_engine=bool(delivery.seq))
    if fate is Fate.DEAD_LETTER:
        dead_letter(turn, delivery, Reason.AMBIGUOUS, detail=detail, report=report, in_doubt=True)
        return
    drop(turn, delivery, Reason.AMBIGUOUS, settled=settled, detail=detail, report=report)
    target = turn.state.worker_of_agent(delivery.agent_id)
    if not settled and target is not None and not target.ended and link.is_online(turn):
        box = turn.state.mailboxes[delivery.agent_id]
        _ask_resync(turn, box, box.resyncs)


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
    _send_ack(turn, box)


def _end_late(turn: Turn, box: Mailbox) -> None:
    """What was typed late is covered by an acknowledgement that was sent before."""
    for stream in [stream for seq, stream in box.typed.items() if seq <= box.sent_ack]:
        acked = events.DeliveryAcked(up_to=box.sent_ack, dial=turn.state.link.dial)
        turn.record(acked, stream, turn.state.deliveries[stream].msg_id)


def _send_ack(turn: Turn, box: Mailbox) -> None:
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
            _send_ack(turn, box)


# --- time ------------------------------------------------------------------------------------------------------------------


def due(turn: Turn) -> None:
    """Holds that ran out, texts of which the host says nothing, retries that are due, gaps that need the next step."""
    for target in list(turn.state.workers.values()):
        if target.patience_s:
            reconsider(turn, target)  # waiting for a program that works ends with the message being typed
        for stream in _overdue(turn, target):
            _expire(turn, turn.state.deliveries[stream])
        pump(turn, target)
    for agent_id in list(turn.state.agents):
        box = turn.state.mailboxes.get(agent_id)
        if box is not None and (when := box.deadline) is not None and when <= turn.now:
            _gap_due(turn, box)


def _overdue(turn: Turn, target: Worker) -> list[str]:
    """What has waited as long as it may. Texts are typed in order, and so do holds end, unless a person holds some of them."""
    deliveries, found = turn.state.deliveries, []
    for stream in target.typing:
        if not 0.0 < deliveries[stream].until <= turn.now:
            break
        found.append(stream)
    for stream in target.waiting:
        if deliveries[stream].state == State.HELD and deliveries[stream].until <= turn.now:
            found.append(stream)
        elif not turn.state.is_flushed_by_hand(target.name):
            break
    return found


def _expire(turn: Turn, delivery: Delivery) -> None:
    if delivery.state == State.INJECTING:
        detail = "the PTY host has not said what came of it"
        dead_letter(turn, delivery, Reason.HOLD_EXPIRED, detail=detail, in_doubt=True)
    elif delivery.stands:
        settle_doubt(turn, delivery, Reason.HOLD_EXPIRED)
    elif delivery.seq is not None:
        drop(turn, delivery, Reason.HOLD_EXPIRED, settled=False)
    else:
        dead_letter(turn, delivery, Reason.HOLD_EXPIRED)


def _gap_due(turn: Turn, box: Mailbox) -> None:
    stream = f"mailbox:{box.agent_id}"
    if box.base is None:
        turn.record(events.MailboxBased(base=min(box.buffer) - 1, source="adopted"), stream)
        drain_buffer(turn, box)
        return
    if not link.is_online(turn):
        return
    if box.resyncs < len(RESYNC_AFTER_S):
        _ask_resync(turn, box, box.resyncs + 1)
        return
    for first, last in box.holes():
        turn.record(events.RangeLost(first=first, last=last), stream)
    drain_buffer(turn, box)


def _ask_resync(turn: Turn, box: Mailbox, tries: int) -> None:
    quiet = turn.state.link.next_resync > turn.now
    turn.record(
        events.ResyncAsked(
            tries=tries, first=box.recv + 1, until=turn.state.link.next_resync if quiet else turn.now + 2.0
        ),
        f"mailbox:{box.agent_id}",
    )
    if not quiet:
        link.reregister(turn)


def deadline(state: BrokerState) -> float | None:
    """When a delivery or a gap needs attention next. Without a person's hold, what waits for one worker ends in order."""
    times = [
        until
        for target in state.workers.values()
        if target.typing or target.waiting
        for until in _ends_of_waits(state, target)
    ]
    online = state.link.state == LinkState.ONLINE
    boxes = (state.mailboxes.get(agent_id) for agent_id in state.agents)
    times += [
        when for box in boxes if box is not None and (online or box.base is None) and (when := box.deadline) is not None
    ]
    return min(times, default=None)


def _ends_of_waits(state: BrokerState, target: Worker) -> list[float]:
    """When what waits for this worker has waited long enough; a retry that cannot begin now waits for something else than time."""
    can_go = state.host.attached and not target.draining and (target.takes_text or target.blocked_by == DRAFT)
    found = [state.deliveries[stream].until for stream in target.typing[:1]]
    for stream in target.waiting if state.is_flushed_by_hand(target.name) else target.waiting[:1]:
        delivery = state.deliveries[stream]
        if delivery.state == State.HELD or can_go:
            found.append(delivery.until)
    return [until for until in found if until]
