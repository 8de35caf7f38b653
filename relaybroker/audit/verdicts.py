"""The verdict of a story: one sentence on what became of it, for every state of every machine.

Source: spec/architecture.md section 8; user requirements U01, U02, U03.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from relaybroker.domain import events
from relaybroker.domain.action import ActionState
from relaybroker.domain.agent import AgentState
from relaybroker.domain.deception import ALTERATIONS
from relaybroker.domain.delivery import LOCAL, DeliveryState
from relaybroker.domain.events import Recorded
from relaybroker.domain.link import LinkState
from relaybroker.domain.machines import MACHINE_OF
from relaybroker.domain.message import MessageState
from relaybroker.domain.reasons import SENTENCES, Reason
from relaybroker.domain.story import Waiting
from relaybroker.domain.worker import WorkerState

DELIVERED, NOT_DELIVERED, PENDING = "delivered", "not delivered", "pending"


class Verdict(NamedTuple):
    """`outcome` is one of the three; `state` the machine's; `reason` a member of the closed list, or ""; `next` a command."""

    outcome: str
    state: str
    reason: str
    sentence: str
    next: str


class Receipt(NamedTuple):
    """What became of a message for one agent here."""

    agent: str
    verdict: Verdict


def of(
    kind: str,
    own: list[Recorded],
    around: list[Recorded],
    waiting: list[Waiting],
    receipts: Sequence[Receipt] = (),
) -> Verdict:
    """The verdict on a subject: `kind` is the first part of its stream's name, `own` its events, `around` those of others.

    `receipts`: of a message that was published from here, what became of it for each agent here.
    """
    match kind:
        case "delivery":
            return _delivery(own, around)
        case "action":
            return _action(own)
        case "message":
            return _message(own, around, receipts)
        case "agent":
            return _agent(own, around, waiting)
        case "worker":
            return _worker(own)
        case "node":
            return _node(own)
        case _:
            return _frame(own)


def _delivery(own: list[Recorded], around: list[Recorded]) -> Verdict:
    stream, offered = next(
        (item.stream, item.event) for item in reversed(own) if isinstance(item.event, events.DeliveryOffered)
    )
    own = [recorded for recorded in own if recorded.stream == stream]
    who = f"message {offered.msg_id} for {offered.name}"
    if offered.attempt > 1:
        who = f"attempt {offered.attempt} of {who}{' (a person asked for it)' if offered.letter_id else ''}"
    show = f"relaybroker agent show {offered.name}"
    early = _early(offered, own, around)
    kept = " It is in this broker's custody: the engine was told it is settled." if _in_custody(own) else ""
    event = _moved(own)
    match DeliveryState(_state("delivery", own)):
        case DeliveryState.OFFERED:
            return Verdict(PENDING, "offered", "", f"{who} was taken on.{early}", show)
        case DeliveryState.HELD:
            return Verdict(
                PENDING, "held", event.reason, f"{who} is waiting: {SENTENCES[event.reason]}{kept}{early}", show
            )
        case DeliveryState.QUEUED if isinstance(event, events.DeliveryHandedBack):
            sentence = f"{who} will be tried again: {SENTENCES[event.reason]}{kept}"
            return Verdict(PENDING, "queued", event.reason, sentence, show)
        case DeliveryState.QUEUED:
            return Verdict(PENDING, "queued", "", f"{who} is waiting for its turn.{kept}{early}", show)
        case DeliveryState.INJECTING:
            return Verdict(PENDING, "injecting", "", f"{who} is being typed.{kept}{early}", "relaybroker status")
        case DeliveryState.IN_DOUBT:
            sentence = f"{who} is in doubt: {SENTENCES[event.reason]} Its records are being looked up (door {event.door}).{kept}"
            return Verdict(PENDING, "in_doubt", event.reason, sentence, show)
        case DeliveryState.INJECTED if isinstance(event, events.DeliveryFetched):
            sentence = f"{who} was fetched by its agent; its acknowledgement waits for {_waits_for(own)}.{early}"
            return Verdict(PENDING, "injected", "", sentence, "relaybroker why node")
        case DeliveryState.INJECTED:
            sentence = f"{who} was typed; its acknowledgement waits for {_waits_for(own)}.{early}{_alterations(own)}"
            return Verdict(PENDING, "injected", "", sentence, "relaybroker why node")
        case DeliveryState.ACKED:
            how = _how_typed(own)
            acknowledged = (
                f"acknowledged to the engine (up to {event.up_to})" if event.up_to else "nothing is owed to the engine"
            )
            if kept:
                acknowledged = "the engine was told when it was taken into custody"
            return Verdict(
                DELIVERED, "acked", "", f"{who} was {how} and {acknowledged}.{early}{_alterations(own)}", show
            )
        case DeliveryState.DROPPED:
            returned = _returned(around) if offered.seq and not event.settled else ""
            if offered.source == LOCAL and not offered.letter_id and not event.settled:
                returned = " It went back to the outbox, and comes again, from there or from the engine."
            sentence = f"{who} was not typed: {SENTENCES[event.reason]}{_doubt(own)}{returned}"
            if event.reason is Reason.DUPLICATE:
                sentence = f"{who} was not typed: it is the engine's copy of a message that was given before the engine had it."
                return Verdict(DELIVERED, "dropped", event.reason, sentence, show)
            if event.reason is Reason.READ_ELSEWHERE:
                return Verdict(DELIVERED, "dropped", event.reason, sentence, show)
            return Verdict(NOT_DELIVERED, "dropped", event.reason, sentence, f"relaybroker why {offered.name}")
        case DeliveryState.DEAD_LETTERED:
            sentence = f"{who} is a dead letter: {SENTENCES[event.reason]}{_doubt(own)}"
            if removed := _last(own, events.DeadLetterRemoved):
                sentence = (
                    f"{who} was a dead letter ({event.reason}) and has left the list: {SENTENCES[removed.reason]}"
                )
            return Verdict(NOT_DELIVERED, "dead_lettered", event.reason, sentence, "relaybroker dead-letters ls")


def _early(offered: events.DeliveryOffered, own: list[Recorded], around: list[Recorded]) -> str:
    """Of a message that was given here before the engine had it: what the engine says of it; "" = it was not."""
    if offered.source != LOCAL:
        return ""
    early = " It was given from here because the engine could not be reached"
    sent = [item for item in around if item.stream.startswith("message:")]
    published, refused = _last([*sent, *own], events.MessagePublished), _last(sent, events.MessageRefused)
    if (recognised := _last(own, events.DeliveryRecognised)) is not None:
        return f"{early}; the engine's copy came later, as {recognised.msg_id} with number {recognised.seq}, and was not typed."
    if published is not None:
        return f"{early}; the engine has it since, as {published.message_id}."
    if refused is not None:
        return f"{early}; the engine does not have it: {SENTENCES[refused.reason]}"
    return f"{early}; it is published when the engine is back."


def _waits_for(own: list[Recorded]) -> str:
    offered, recognised = _last(own, events.DeliveryOffered), _last(own, events.DeliveryRecognised)
    is_early = offered.source == LOCAL and not offered.letter_id and recognised is None
    return "the engine's copy" if is_early else "earlier messages or for the link"


def _alterations(own: list[Recorded]) -> str:
    """What was done to the text before it was typed; "" = nothing."""
    injecting = _last(own, events.DeliveryInjecting)
    done = [f"{count} {ALTERATIONS.get(kind, kind)}" for kind, count in injecting.altered.items()] if injecting else []
    return f" Its text was altered first: {', '.join(done)}." if done else ""


def _doubt(own: list[Recorded]) -> str:
    """What made a delivery doubtful, and which policy settled it."""
    event = _moved(own)
    policy, _, cause = event.detail.partition(": ")
    if event.reason is not Reason.AMBIGUOUS or not cause:
        return ""
    sentence = SENTENCES[Reason(cause)] if cause in list(Reason) else cause
    looked_up = _last(own, events.DeliveryLookedUp)
    records = f" Its program's records do not tell: {looked_up.detail}." if looked_up is not None else ""
    return f" What happened: {sentence}{records} ({policy})"


def _in_custody(own: list[Recorded]) -> bool:
    return _last(own, events.DeliveryTakenOver) is not None


def _returned(around: list[Recorded]) -> str:
    """What became of a message that was given back to the engine."""
    if lost := _last(around, events.RangeLost):
        return f" It was returned to the engine, which did not offer it again. {SENTENCES[lost.reason]}"
    return " It was returned to the engine, which keeps it for an hour and offers it again when the agent is back."


def _frame(own: list[Recorded]) -> Verdict:
    match own[-1].event:
        case events.FrameBuffered(seq=seq):
            sentence = f"frame {seq} is waiting: {SENTENCES[Reason.GAP_WAIT]}"
            return Verdict(PENDING, "buffered", Reason.GAP_WAIT, sentence, "relaybroker status")
        case events.RangeLost(first=first, last=last, reason=reason):
            sentence = f"frames {first} to {last} were given up: {SENTENCES[reason]}"
            return Verdict(NOT_DELIVERED, "lost", reason, sentence, "relaybroker why node")
        case events.FrameIgnored(reason=reason, seq=seq):
            return Verdict(
                NOT_DELIVERED, "ignored", reason, f"frame {seq}: {SENTENCES[reason]}", "relaybroker log tail"
            )
        case event:
            return Verdict(
                PENDING,
                "asked_again",
                Reason.GAP_WAIT,
                f"The latest event is {event.topic}.",
                "relaybroker why node",
            )


def _action(own: list[Recorded]) -> Verdict:
    received = own[0].event
    assert isinstance(received, events.ActionReceived)
    who = f"action {received.action} ({received.invocation_id})"
    state, done = ActionState(_state("action", own)), _last(own, events.ActionDone)
    match state:
        case ActionState.RECEIVED:
            return Verdict(PENDING, "received", "", f"{who} is waiting to run.", "relaybroker status")
        case ActionState.RUNNING:
            return Verdict(PENDING, "running", "", f"{who} is running.", "relaybroker status")
        case ActionState.DONE | ActionState.REPORTED if done.error:
            cause = f" {SENTENCES[done.reason]}" if done.reason else ""
            sentence = f"{who} failed with {done.error}.{cause} {done.detail}".strip()
            return Verdict(NOT_DELIVERED, state, done.reason or "", sentence, "relaybroker log tail")
        case ActionState.DONE:
            return Verdict(
                DELIVERED, "done", "", f"{who} is done; its report waits for the link.", "relaybroker status"
            )
        case ActionState.REPORTED:
            return Verdict(DELIVERED, "reported", "", f"{who} is done and reported.", "relaybroker agent ls")


def _message(own: list[Recorded], around: list[Recorded], receipts: Sequence[Receipt]) -> Verdict:
    accepted = own[0].event
    assert isinstance(accepted, events.MessageAccepted)
    who = f"message {accepted.event_id} to {accepted.to}"
    event = _moved(own)
    match MessageState(_state("message", own)):
        case MessageState.ACCEPTED:
            waiting = _last(own, events.MessageWaiting)
            cause = f" Last try: {waiting.detail}" if waiting else ""
            sentence = f"{who} is waiting to be published.{cause}{_here(receipts)}"
            return Verdict(PENDING, "accepted", "", sentence, "relaybroker status")
        case MessageState.PUBLISHING:
            sentence = f"{who} is being published.{_here(receipts)}"
            return Verdict(PENDING, "publishing", "", sentence, "relaybroker status")
        case MessageState.PUBLISHED:
            return _published(f"{who} was published as {event.message_id}.", event.message_id, around, receipts)
        case MessageState.REFUSED:
            sentence = f"{who} was refused: {SENTENCES[event.reason]} {event.code} {event.detail}".strip()
            sentence += _here(receipts)
            return Verdict(NOT_DELIVERED, "refused", event.reason, sentence, "relaybroker message send")


def _published(said: str, message_id: str, around: list[Recorded], receipts: Sequence[Receipt]) -> Verdict:
    """The engine has it: what became of it then. Of agents elsewhere nothing is known here but what the engine could not deliver."""
    show = f"relaybroker message show {message_id}"
    typed = (DeliveryState.INJECTED, DeliveryState.ACKED)
    here = {receipt.agent.lower() for receipt in receipts if receipt.verdict.state in typed}
    failures = [item.event for item in around if isinstance(item.event, events.DeliveryFailureHeard)]
    failures = [event for event in failures if event.target.lower() not in here]
    if failures:
        failed = ", ".join(dict.fromkeys(f"{event.target} ({event.failure})" for event in failures))
        return Verdict(NOT_DELIVERED, "published", "", f"{said} The engine could not deliver it to {failed}.", show)
    if not receipts:
        held = "No agent on this node was a recipient; only the engine knows whether it was read."
        return Verdict(PENDING, "published", "", f"{said} {held}", show)
    outcomes = {receipt.verdict.outcome for receipt in receipts}
    outcome = next(candidate for candidate in (PENDING, NOT_DELIVERED, DELIVERED) if candidate in outcomes)
    return Verdict(outcome, "published", "", f"{said}{_here(receipts)}", f"relaybroker why {message_id}")


def _here(receipts: Sequence[Receipt]) -> str:
    """What became of a message for agents here; "" where there is none."""
    states = ", ".join(f"{receipt.agent}: {receipt.verdict.state}" for receipt in receipts)
    return f" Here: {states}." if states else ""


def _agent(own: list[Recorded], around: list[Recorded], waiting: list[Waiting]) -> Verdict:
    reserved = own[0].event
    assert isinstance(reserved, events.NameReserved)
    who = f"agent {reserved.name} (generation {reserved.generation})"
    state = AgentState(_state("agent", own))
    match state:
        case AgentState.FAILED:
            failed = _moved(own)
            sentence = f"{who} was not started: {SENTENCES[failed.reason]} {failed.detail}".strip()
            return Verdict(NOT_DELIVERED, state, failed.reason, sentence, "relaybroker agent spawn")
        case AgentState.DEREGISTERING | AgentState.GONE:
            leaving = _last(own, events.AgentLeaving)
            sentence = f"{who} is gone: {SENTENCES[leaving.reason]} {leaving.detail}".strip()
            return Verdict(NOT_DELIVERED, "gone", leaving.reason, sentence, "relaybroker agent spawn")
        case (
            AgentState.RESERVED
            | AgentState.REGISTERING
            | AgentState.FALLING_BACK
            | AgentState.BINDING
            | AgentState.REGISTERED
        ):
            return Verdict(PENDING, "starting", "", f"{who} is being started.", "relaybroker status")
        case AgentState.RESTARTING:
            planned = _last(own, events.AgentRestartPlanned)
            sentence = (
                f"{who} is being started again (restart {planned.restarts}) after its program failed: {planned.detail}"
            )
            return Verdict(PENDING, state, planned.reason, sentence, f"relaybroker agent show {reserved.name}")
        case AgentState.LIVE:
            return _live(who, reserved.name, around, waiting)


def _live(who: str, name: str, around: list[Recorded], waiting: list[Waiting]) -> Verdict:
    if not waiting:
        return Verdict(
            DELIVERED,
            "live",
            "",
            f"{who} is live; no messages are waiting for it.",
            f"relaybroker agent show {name}",
        )
    oldest = waiting[0]
    cause = SENTENCES[Reason(oldest.reason)] if oldest.reason else f"It is {oldest.state}."
    obstacle = _obstacle(around)
    wait = "one message is" if len(waiting) == 1 else f"{len(waiting)} messages are"
    sentence = f"{who} is live{obstacle}; {wait} waiting for it, the oldest is {oldest.msg_id}: {cause}"
    return Verdict(PENDING, "live", oldest.reason, sentence, f"relaybroker why {oldest.msg_id}")


def _obstacle(around: list[Recorded]) -> str:
    """What keeps the agent's program from taking text, as far as its last events say."""
    moves = (
        events.WorkerStarted,
        events.WorkerReady,
        events.WorkerBlocked,
        events.WorkerUnblocked,
        events.WorkerOccupied,
        events.WorkerFreed,
        events.WorkerStopping,
    )
    last = next(
        (item.event for item in sorted(around, key=lambda item: -item.version) if isinstance(item.event, moves)), None
    )
    match last:
        case events.WorkerBlocked(pattern=pattern):
            return f", with a dialog ({pattern}) on its screen"
        case events.WorkerOccupied(reason=Reason.HUMAN_DRIVING):
            return ", with a person typing in its terminal"
        case events.WorkerOccupied(reason=Reason.AGENT_SUSPENDED):
            return ", suspended"
        case events.WorkerOccupied(reason=Reason.COMPOSER_UNCLEAR):
            return ", with unsent text in its composer"
        case events.WorkerOccupied(detail=detail):
            return f", busy ({detail})"
        case events.WorkerStarted() | events.WorkerUnblocked():
            return ", not yet accepting input"
        case events.WorkerStopping():
            return ", is being stopped"
        case _:
            return ""


def _how_typed(own: list[Recorded]) -> str:
    if _last(own, events.DeliveryFetched) is not None:
        return "fetched by its agent"
    typed = _last(own, events.DeliveryInjected)
    if typed is None:
        return "typed"
    if typed.evidence == "shown":
        return "shown on the terminal but not typed, because its program would execute typed text"
    if typed.door:
        seen = " ".join(filter(None, (typed.evidence, typed.pointer)))
        return f"taken by its program (door {typed.door}, {seen}, {_when_taken(own, typed)})"
    return f"typed ({typed.bytes_written} bytes, evidence: {typed.evidence})"


def _when_taken(own: list[Recorded], typed: events.DeliveryInjected) -> str:
    """How long after the hand-over its program showed that; or what had made it doubtful, where only the program's records tell."""
    doubted = _last(own, events.DeliveryDoubted)
    if typed.wait_ms or doubted is None:
        return f"{typed.wait_ms:.0f} ms after the hand-over"
    return f"found in its records after doubt: {SENTENCES[doubted.reason].rstrip('.')}"


def _worker(own: list[Recorded]) -> Verdict:
    launched = own[0].event
    assert isinstance(launched, events.WorkerLaunched)
    who = f"the program of {launched.name}"
    following = f"relaybroker why {launched.name}"
    event, state = _moved(own), WorkerState(_state("worker", own))
    match state:
        case WorkerState.LAUNCHING | WorkerState.BOOTING:
            return Verdict(PENDING, state, "", f"{who} has not yet shown that it accepts input.", following)
        case WorkerState.READY:
            return Verdict(DELIVERED, state, "", f"{who} takes input.", following)
        case WorkerState.BUSY:
            sentence = f"{who} is busy ({event.detail}). {SENTENCES[event.reason]}"
            return Verdict(PENDING, state, event.reason, sentence, following)
        case WorkerState.BLOCKED:
            answer = f"relaybroker agent answer {launched.name}"
            if event.question is not None:
                sentence = f"{who} asks something ({event.pattern}): {event.question.text}"
                return Verdict(PENDING, state, Reason.BLOCKED_BY_QUESTION, sentence, answer)
            return Verdict(PENDING, state, Reason.BLOCKED_BY_DIALOG, f"{who} shows a dialog ({event.pattern}).", answer)
        case WorkerState.STOPPING:
            return Verdict(PENDING, state, "", f"{who} is being stopped.", following)
        case WorkerState.EXITED:
            sentence = f"{who} ended (code {event.code}, signal {event.signal})."
            return Verdict(NOT_DELIVERED, state, event.reason, sentence, following)
        case WorkerState.LOST:
            sentence = f"{who} is lost: {SENTENCES[event.reason]} {event.detail}".strip()
            return Verdict(NOT_DELIVERED, state, event.reason, sentence, following)


def _node(own: list[Recorded]) -> Verdict:
    stream = own[0].stream.partition(":")[2]
    who = f"node {stream}"
    event, state, tail = _moved(own), LinkState(_state("node", own)), "relaybroker log tail --stream node:"
    match state:
        case LinkState.ONLINE:
            return Verdict(DELIVERED, state, "", f"{who} is online.", "relaybroker status")
        case LinkState.BACKING_OFF:
            why = f"{SENTENCES[event.reason]} {event.detail}".strip()
            sentence = f"{who} is offline and retries after {event.delay_s:.1f} s: {why}"
            return Verdict(PENDING, state, event.reason, sentence, tail)
        case LinkState.REFUSED:
            sentence = f"{who} is refused: {SENTENCES[event.reason]} {event.detail}".strip()
            return Verdict(NOT_DELIVERED, state, event.reason, sentence, "relaybroker status")
        case LinkState.CLOSED:
            return Verdict(NOT_DELIVERED, state, Reason.SHUTDOWN, f"{who} was shut: {event.detail}", "relaybroker up")
        case LinkState.MINTING:
            return Verdict(PENDING, state, "", f"{who} is waiting for its token.", tail)
        case LinkState.OFFLINE | LinkState.CONNECTING | LinkState.REGISTERING:
            return Verdict(PENDING, state, "", f"{who} is being connected.", "relaybroker status")
        case LinkState.DRAINING:
            return Verdict(PENDING, state, "", f"{who} is sending its last frames and will then close.", tail)


def _state(machine: str, own: list[Recorded]) -> str:
    """The state that the last event which moved this machine led to."""
    table, event = MACHINE_OF[machine], _moved(own)
    return table.initial if event is None else table.target_of(event.trigger)


def _moved(own: list[Recorded]) -> Any:
    """The last event that moved the subject's machine; None = none did."""
    return next((recorded.event for recorded in reversed(own) if recorded.event.trigger), None)


def _last(own: list[Recorded], kind: type[Any]) -> Any:
    return next((recorded.event for recorded in reversed(own) if isinstance(recorded.event, kind)), None)
