"""Decisions about deliveries in doubt: what their program's own records say, and what follows from that.

Whoever may have taken a message is asked before any policy is: the program wrote down what it was handed, and the session host, or the
one after it, looks that up. Until it is settled nothing else is handed to the agent, so that the order stays.

Source: ADR-0093; spec/failure-scenarios.md TYPED-ONCE, ORDER, BOUNDED.
"""

from __future__ import annotations

from relaybroker.domain import events, inputs
from relaybroker.domain.delivery import LOOK_UP_S, MAX_HANDOVERS, DeliveryState
from relaybroker.domain.entities import Delivery
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import deliveries, settling
from relaybroker.domain.state import State
from relaybroker.domain.turn import Turn
from relaybroker.domain.worker import WorkerState

ACCEPTED, ABSENT, UNKNOWABLE = "accepted", "absent", "unknowable"
"""What a look-up may say."""


def ask_all(turn: Turn) -> None:
    """A host is attached: it is asked for everything that is in doubt."""
    for stream in turn.state.doubts:
        settling.look_up(turn, turn.state.deliveries[stream])


def looked_up(turn: Turn, answer: inputs.DeliveryLookedUp) -> None:
    """What the program's records say. It changes nothing for a delivery that is not, or no longer, in doubt."""
    delivery = deliveries.typing_of(turn, answer.delivery_id)
    if delivery is None or delivery.state != DeliveryState.IN_DOUBT or answer.attempt != delivery.tries:
        ignored = events.HostReportIgnored(report=0, session_id="", what=type(answer).__name__)
        turn.record(ignored, f"host:{turn.state.host.host_id}")
        return
    turn.record(
        events.DeliveryLookedUp(
            outcome=answer.outcome, evidence=answer.evidence, pointer=answer.pointer, detail=answer.detail[:500]
        ),
        delivery.stream,
        delivery.msg_id,
    )
    if answer.outcome == ACCEPTED:
        _accepted(turn, delivery, answer)
    elif answer.outcome == ABSENT:
        _absent(turn, delivery)
    else:
        settling.settle_doubt(turn, delivery, str(delivery.reason))
    if (target := turn.state.worker_of_agent(delivery.agent_id)) is not None:
        deliveries.pump(turn, target)


def _accepted(turn: Turn, delivery: Delivery, answer: inputs.DeliveryLookedUp) -> None:
    injected = events.DeliveryInjected(
        report=0, bytes_written=0, evidence=answer.evidence, wait_ms=0.0, door=delivery.door, pointer=answer.pointer
    )
    turn.record(injected, delivery.stream, delivery.msg_id)
    if delivery.is_owed and delivery.agent_id not in turn.state.agents:
        turn.record(
            events.DeliveryAcked(up_to=0, dial=0), delivery.stream, delivery.msg_id
        )  # nobody is here to be told for
    else:
        settling.conclude(turn, delivery)


def _absent(turn: Turn, delivery: Delivery) -> None:
    """It is handed over again, unless nobody is there to take it, or it was as often as it may be."""
    target = turn.state.worker_of_agent(delivery.agent_id)
    if target is None or target.ended or target.state == WorkerState.STOPPING:
        reason = (target.stop_reason or target.exit_reason) if target is not None else None
        settling.end_untaken(turn, delivery, reason or _why_ended(delivery))
    elif delivery.failures + 1 >= MAX_HANDOVERS:
        detail = f"{delivery.failures + 1} hand-overs that the program did not take"
        settling.dead_letter(turn, delivery, Reason.ATTEMPTS_EXHAUSTED, detail=detail)
    else:
        deliveries.queue_again(turn, delivery, target, Reason.NOT_TAKEN, failures=delivery.failures + 1)


def _why_ended(delivery: Delivery) -> Reason:
    """Its program is gone; why, it says itself, unless it was in doubt before."""
    return Reason.WORKER_EXITED if delivery.reason in (None, Reason.NO_EVIDENCE) else delivery.reason


def due(turn: Turn) -> None:
    """Nobody has told in time: ask once more, then let the policy settle it."""
    for stream in [one for one in turn.state.doubts if turn.state.deliveries[one].until <= turn.now]:
        delivery = turn.state.deliveries[stream]
        if not delivery.asked_again:
            turn.record(events.DeliveryAskedAgain(until=turn.now + LOOK_UP_S), stream, delivery.msg_id)
            settling.look_up(turn, delivery)
            continue
        settling.settle_doubt(turn, delivery, str(delivery.reason))
        if (target := turn.state.worker_of_agent(delivery.agent_id)) is not None:
            deliveries.pump(turn, target)


def deadline(state: State) -> float | None:
    """When the next doubt has lasted long enough."""
    return min((state.deliveries[stream].until for stream in state.doubts), default=None)
