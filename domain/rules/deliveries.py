"""Decisions about deliveries on their way: queued, held, typed, tried again.

Source: spec/node-protocol.md sections 4.4 and 4.7; design/architecture.md section 3.2.
"""

from __future__ import annotations

from relaybroker.domain import composition, events
from relaybroker.domain.composition import Composed
from relaybroker.domain.delivery import (
    HANDOVER_RETRY_S,
    HOLD_S,
    HOST_SILENT_AGAIN_S,
    HOST_SILENT_S,
    INJECT_WINDOW,
    MAX_FLUSHABLE,
    MAX_HANDOVERS,
    MAX_WAITING,
    MAX_WRITES,
    TURN_SILENT_S,
    WRITE_RETRY_S,
    DeliveryState,
)
from relaybroker.domain.doors import MAX_POINTER, WITHOUT_TERMINAL
from relaybroker.domain.effects import TypeText
from relaybroker.domain.entities import Delivery, Registration, Worker
from relaybroker.domain.inputs import TextNotTyped, TextTyped, TextVerified
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import link, settling
from relaybroker.domain.state import State as BrokerState
from relaybroker.domain.turn import Turn
from relaybroker.domain.worker import DRAFT, WorkerState

# --- waiting ------------------------------------------------------------------------------------------------------------


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
            body=registration.spec.opening,
            workspace_id=turn.settings.workspace_id,
        ),
        stream,
        registration.name,
    )
    place(turn, turn.state.deliveries[stream])


def place(turn: Turn, delivery: Delivery) -> None:
    """An offered delivery is queued for its worker, or held with a reason."""
    target = turn.state.worker_of_agent(delivery.agent_id)
    assert target is not None, "deliveries are offered only to registered agents, which have a worker"
    if target.ended or target.state == WorkerState.STOPPING:
        settling.give_up(turn, delivery, target.stop_reason or target.exit_reason or Reason.NOT_RUNNING)
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
    if delivery.fetch_id:
        return Reason.BEING_FETCHED
    if may_be_given_already(turn, delivery):
        return Reason.PUBLISH_PENDING
    if waits_for_flush(turn, delivery):
        return Reason.MANUAL_FLUSH
    match target.state:
        case WorkerState.LAUNCHING:
            return Reason.AGENT_RESTARTING if target.starts_at else Reason.AGENT_STARTING
        case WorkerState.BOOTING:
            return Reason.NOT_READY
        case WorkerState.BLOCKED if target.blocked_by == DRAFT:
            return None if delivery.in_composer else Reason.COMPOSER_UNCLEAR
        case WorkerState.BLOCKED:
            return Reason.BLOCKED_BY_DIALOG if target.question is None else Reason.BLOCKED_BY_QUESTION
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


def may_be_given_already(turn: Turn, delivery: Delivery) -> bool:
    """Whether it may be the engine's copy of a message that its agent was given before the engine had it."""
    box = turn.state.mailboxes.get(delivery.agent_id)
    return bool(delivery.seq) and delivery.source == "engine" and box is not None and box.may_be_given(delivery.sender)


def waits_for_flush(turn: Turn, delivery: Delivery) -> bool:
    """Whether a person holds this message. What was flushed is let through, and so is the task of a spawn."""
    is_first_task = delivery.source == "task" and delivery.attempt == 1
    return turn.state.is_flushed_by_hand(delivery.name) and not delivery.flushed and not is_first_task


def hold(turn: Turn, delivery: Delivery, reason: Reason) -> None:
    """The delivery waits, with a reason and a deadline: in all it waits no longer than `HOLD_S` since it was offered."""
    until = _end_of_holds(turn, delivery)
    if reason is Reason.AGENT_BUSY and (target := turn.state.worker_of_agent(delivery.agent_id)) and target.patience_s:
        until = min(delivery.offered_at + target.patience_s, until)
    until = max(turn.now, until)
    turn.record(events.DeliveryHeld(reason=reason, until=until), delivery.stream, delivery.msg_id)


def _end_of_holds(turn: Turn, delivery: Delivery) -> float:
    """How long it may wait in all. Time that a clock has leapt over is no time that it has waited."""
    return delivery.offered_at + HOLD_S + turn.state.leapt_s - delivery.leapt_before_s


def reconsider(turn: Turn, target: Worker) -> None:
    """The worker or a person's hold changed: what waits is held for the reason that is true now, or queued, in order."""
    steered = _steered(turn, target)
    for at, stream in enumerate(list(target.waiting)):
        delivery = turn.state.deliveries[stream]
        reason = _why_held(turn, target, delivery, steered=at < steered)
        if delivery.state == DeliveryState.HELD and delivery.reason is not reason:
            turn.record(events.DeliveryQueued(), stream, delivery.msg_id)
        if delivery.state == DeliveryState.QUEUED and reason:
            hold(turn, delivery, reason)
    pump(turn, target)


def is_full(turn: Turn, registration: Registration, more: int = 0) -> bool:
    """Whether the agent has as many waiting messages as it may, with `more` that will wait without being asked again."""
    target = turn.state.workers.get(registration.session_id)
    if target is None:
        return False
    return len(target.waiting) + more >= MAX_WAITING or flushable(turn, target, MAX_FLUSHABLE)


def flushable(turn: Turn, target: Worker, count: int) -> bool:
    """Whether at least so many messages wait for a person to flush them."""
    if not turn.state.is_flushed_by_hand(target.name):
        return False
    waiting = (turn.state.deliveries[stream] for stream in target.waiting)
    return sum(delivery.reason is Reason.MANUAL_FLUSH for delivery in waiting) >= count


# --- typing -------------------------------------------------------------------------------------------------------------


def pump(turn: Turn, target: Worker) -> None:
    """Give the next deliveries to the PTY host, in order, up to the window."""
    if _must_stand(turn.state, target):
        return
    while (target.takes_text or target.blocked_by == DRAFT) and len(target.typing) < INJECT_WINDOW:
        delivery = _next_to_type(turn, target)
        if delivery is None or _would_follow_a_draft(turn, target, delivery):
            break
        if 0 < delivery.expires_at <= turn.now and not delivery.in_composer:
            settling.drop(turn, delivery, Reason.EXPIRED, settled=True)
        else:
            _inject(turn, target, delivery)
    _refill(turn, target)


def _must_stand(state: BrokerState, target: Worker) -> bool:
    """Nothing more is given to the host: there is none, or nothing may go before what comes back or is in doubt."""
    return not state.host.attached or target.draining or state.is_doubted(target.agent_id)


def _would_follow_a_draft(turn: Turn, target: Worker, delivery: Delivery) -> bool:
    """What stands in the composer is finished first: the host takes nothing behind it, and a refusal would hold up both."""
    return not delivery.in_composer and any(turn.state.deliveries[stream].in_composer for stream in target.typing)


def _next_to_type(turn: Turn, target: Worker) -> Delivery | None:
    """The first that is queued and due; only what waits for a person is passed over."""
    for stream in target.waiting:
        delivery = turn.state.deliveries[stream]
        if delivery.reason is Reason.MANUAL_FLUSH:
            continue
        is_due = delivery.state == DeliveryState.QUEUED and delivery.until <= turn.now
        return delivery if is_due else None
    return None


def _inject(turn: Turn, target: Worker, delivery: Delivery) -> None:
    registration = turn.state.registrations[target.registration]
    composed, marker = _composed(turn, registration, delivery)
    turn.record(
        events.DeliveryInjecting(
            session_id=target.session_id,
            tries=delivery.tries + 1,
            text=composed.text,
            marker=marker,
            until=turn.now + (TURN_SILENT_S if target.door in WITHOUT_TERMINAL else HOST_SILENT_S),
            while_busy=target.state == WorkerState.BUSY,
            altered=composed.altered,
        ),
        delivery.stream,
        delivery.msg_id,
    )
    type_text(turn, delivery)


def _composed(turn: Turn, registration: Registration, delivery: Delivery) -> tuple[Composed, str]:
    """What is typed for a delivery, and the marker that proves its echo ("" = none)."""
    if delivery.source == "task":
        return composition.compose_task(delivery.body), ""
    composed = composition.compose(
        harness=registration.harness,
        sender=delivery.sender,
        target=delivery.target,
        msg_id=delivery.msg_id,
        body=delivery.body,
        thread_id=delivery.thread_id,
        priority=delivery.priority,
        possible_duplicate=may_be_a_duplicate(turn, delivery),
        hint=not registration.hinted and not registration.spec.skip_relay_prompt,
    )
    return composed, composition.marker_of(delivery.msg_id)


def may_be_a_duplicate(turn: Turn, delivery: Delivery) -> bool:
    """Whether its agent may have it already."""
    return delivery.doubtful or turn.state.mailboxes[delivery.agent_id].is_doubtful(delivery.msg_id)


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
            task=delivery.source == "task",
        )
    )


def _refill(turn: Turn, target: Worker) -> None:
    """There is room again for what was refused as `hold_full`: ask the engine to offer it once more."""
    box = turn.state.mailboxes.get(target.agent_id)
    if box is None or not box.starved or not link.is_online(turn):
        return
    if len(target.waiting) > MAX_WAITING // 2 or flushable(turn, target, MAX_FLUSHABLE // 2 + 1):
        return
    settling.ask_resync(turn, box, box.resyncs)


def typing_of(turn: Turn, typing_id: str) -> Delivery | None:
    """The delivery that the host knows by this id."""
    delivery = turn.state.deliveries.get(typing_id.rpartition("@")[0])
    return delivery if delivery is not None and delivery.typing_id == typing_id else None


def typed(turn: Turn, report: TextTyped) -> bool:
    """The host wrote body and Enter. False if nothing here waits for that."""
    delivery = typing_of(turn, report.delivery_id)
    if delivery is None or delivery.state != DeliveryState.INJECTING:
        return False
    turn.record(
        events.DeliveryInjected(
            report=report.report,
            bytes_written=report.bytes_written,
            evidence=report.evidence,
            wait_ms=round(report.wait_ms, 3),
            repeated=report.repeated,
            door=report.door,
            pointer=report.pointer[:MAX_POINTER],
        ),
        delivery.stream,
        delivery.msg_id,
    )
    settling.conclude(turn, delivery)
    if (target := turn.state.workers.get(report.session_id)) is not None:
        pump(turn, target)
    return True


def not_typed(turn: Turn, report: TextNotTyped) -> bool:
    """The host did not complete it. False if nothing here waits for that."""
    delivery = typing_of(turn, report.delivery_id)
    if delivery is None or delivery.state != DeliveryState.INJECTING or report.attempt < delivery.tries:
        return False  # also the failure of an earlier try: the newer one is under way
    failures = delivery.failures + (report.reason in _REFUSALS)
    is_over = failures >= (MAX_WRITES if report.reason == Reason.PTY_WRITE_FAILED else MAX_HANDOVERS)
    if report.typed == "unknown":
        reason = Reason(report.reason) if report.reason in list(Reason) else Reason.NO_EVIDENCE
        stopped = turn.state.workers[delivery.session_id].stop_reason
        settling.doubt(turn, delivery, stopped or reason, report.report)
    elif report.typed != "no" and (is_over or report.reason not in _GOES_ON):
        stopped = turn.state.workers[delivery.session_id].stop_reason
        settling.settle_doubt(turn, delivery, stopped or report.reason, report.report)
    elif report.reason == Reason.EXPIRED:
        settling.drop(turn, delivery, Reason.EXPIRED, settled=True, report=report.report)
    elif report.reason == Reason.TOO_LARGE:
        settling.dead_letter(turn, delivery, Reason.TOO_LARGE, report=report.report)
    elif is_over:
        reason = Reason.PTY_WRITE_FAILED if report.reason == Reason.PTY_WRITE_FAILED else Reason.ATTEMPTS_EXHAUSTED
        detail = f"{failures} failures, the last one {report.reason}"
        settling.dead_letter(turn, delivery, reason, detail=detail, report=report.report)
    else:
        _hand_back(turn, delivery, report, failures)
    if (target := turn.state.workers.get(report.session_id)) is not None:
        pump(turn, target)
    return True


_REFUSALS = (Reason.PTY_WRITE_FAILED, Reason.QUEUE_FULL, Reason.NOT_RUNNING)
"""Why the host gives a delivery back that it could have taken: each counts against the delivery."""
_GOES_ON = (Reason.PTY_WRITE_FAILED, Reason.BLOCKED_BY_DIALOG)
"""After these the living host goes on with a text that it began, when it is asked for the same delivery again (F084)."""

_OCCUPIED = (Reason.AGENT_BUSY, Reason.AGENT_SUSPENDED, Reason.COMPOSER_UNCLEAR, Reason.HUMAN_DRIVING)
"""Why a terminal is not free; that it is again is told."""


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
            stands=delivery.in_composer
            or report.typed != "no",  # what stands in the terminal is not unsaid by a later refusal
        ),
        delivery.stream,
        delivery.msg_id,
    )
    _hold_again(turn, delivery, turn.state.workers[delivery.session_id])


def queue_again(turn: Turn, delivery: Delivery, target: Worker, reason: Reason, *, failures: int) -> None:
    """What was in doubt was not taken: it takes its place in the queue again."""
    handed_back = events.DeliveryHandedBack(report=0, reason=reason, until=turn.now, failures=failures)
    turn.record(handed_back, delivery.stream, delivery.msg_id)
    _hold_again(turn, delivery, target)


def _hold_again(turn: Turn, delivery: Delivery, target: Worker) -> None:
    if target.ended or target.state == WorkerState.STOPPING:
        return
    steered = target.waiting.index(delivery.stream) < _steered(turn, target)
    if why := _why_held(turn, target, delivery, steered=steered):
        hold(turn, delivery, why)


def verified(turn: Turn, report: TextVerified) -> bool:
    """The verification window ended. False if nothing here waits for that."""
    delivery = typing_of(turn, report.delivery_id)
    if delivery is None or delivery.verified or delivery.state not in (DeliveryState.INJECTED, DeliveryState.ACKED):
        return False
    turn.record(
        events.DeliveryVerified(report=report.report, verification=report.verification),
        delivery.stream,
        delivery.msg_id,
    )
    return True


# --- time ---------------------------------------------------------------------------------------------------------------


def due(turn: Turn) -> None:
    """Holds that ran out, texts of which the host says nothing, retries that are due."""
    for target in list(turn.state.workers.values()):
        if target.patience_s:
            reconsider(turn, target)  # waiting for a program that works ends with the message being typed
        for stream in _overdue(turn, target):
            _expire(turn, turn.state.deliveries[stream])
        pump(turn, target)


def _overdue(turn: Turn, target: Worker) -> list[str]:
    """What has waited as long as it may. Texts are typed in order, and so do holds end, unless a person holds some of them."""
    deliveries, overdue = turn.state.deliveries, []
    for stream in target.typing:
        if not 0.0 < deliveries[stream].until <= turn.now:
            break
        overdue.append(stream)
    for stream in target.waiting:
        if deliveries[stream].state == DeliveryState.HELD and deliveries[stream].until <= turn.now:
            overdue.append(stream)
        elif not turn.state.is_flushed_by_hand(target.name):
            break
    return overdue


def _expire(turn: Turn, delivery: Delivery) -> None:
    if delivery.state == DeliveryState.INJECTING and not delivery.asked_again:
        until = turn.now + HOST_SILENT_AGAIN_S
        turn.record(events.DeliveryAskedAgain(until=until), delivery.stream, delivery.msg_id)
        type_text(turn, delivery)
    elif delivery.state == DeliveryState.INJECTING and turn.state.workers[delivery.session_id].door:
        settling.doubt(turn, delivery, Reason.HOLD_EXPIRED)
    elif delivery.state == DeliveryState.INJECTING:
        detail = "the PTY host has not said what came of it"
        settling.dead_letter(turn, delivery, Reason.HOLD_EXPIRED, detail=detail, in_doubt=True)
    elif turn.now < _end_of_holds(turn, delivery):
        _hold_anew(turn, delivery)
    elif delivery.in_composer:
        settling.settle_doubt(turn, delivery, Reason.HOLD_EXPIRED)
    else:
        settling.dead_letter(turn, delivery, Reason.HOLD_EXPIRED)


def _hold_anew(turn: Turn, delivery: Delivery) -> None:
    """An earlier version held it for less time than it may wait, or nobody has heard of the fetch that took it."""
    target = turn.state.worker_of_agent(delivery.agent_id)
    assert target is not None, "what waits has a worker"
    turn.record(events.DeliveryQueued(doubtful=bool(delivery.fetch_id)), delivery.stream, delivery.msg_id)
    reconsider(turn, target)


def deadline(state: BrokerState) -> float | None:
    """When a delivery needs attention next. Without a person's hold, what waits for one worker ends in order."""
    times = [
        until
        for target in state.workers.values()
        if target.typing or target.waiting
        for until in _ends_of_waits(state, target)
    ]
    return min(times, default=None)


def _ends_of_waits(state: BrokerState, target: Worker) -> list[float]:
    """When what waits for this worker has waited long enough; a retry that cannot begin now waits for something else than time."""
    can_go = not _must_stand(state, target) and (target.takes_text or target.blocked_by == DRAFT)
    ends = [state.deliveries[stream].until for stream in target.typing[:1]]
    for stream in target.waiting if state.is_flushed_by_hand(target.name) else target.waiting[:1]:
        delivery = state.deliveries[stream]
        if delivery.state == DeliveryState.HELD or can_go:
            ends.append(delivery.until)
    return [until for until in ends if until]
