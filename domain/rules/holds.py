"""Decisions about a person's hold on the messages of an agent: setting it, lifting it, letting through what waits.

Rules:

* The mode belongs to the agent's name. An exit, a release, a new agent id or a restart of the broker changes nothing of it.
* While it is `manual_flush` every message waits, also what was queued before; only the task of a spawn is typed. What the PTY host has
  already is typed.
* A flush lets through what waits at that moment, each message for itself; what comes later waits again.
* Lifting the hold lets everything through. It can be lifted when no agent has the name, so that no trap stays behind.
* The revision of a hold is the log position of its beginning, 0 where there is none: whoever gives one changes the mode only if nobody
  else has changed it since.

Source: spec/local-api.md routes 10 to 12 and section 6.3; spec/failure-scenarios.md F012, F018 to F020, F087 to F089, F124; ADR-0022.
"""

from __future__ import annotations

from relaybroker.domain import events, replies
from relaybroker.domain.delivery import AUTO_INJECT, MANUAL_FLUSH, MAX_FLUSH_HOLDS
from relaybroker.domain.effects import Reply
from relaybroker.domain.entities import Delivery, Worker
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import DeliveryModeRequested, FlushRequested
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import deliveries
from relaybroker.domain.state import State
from relaybroker.domain.turn import Turn


def mode_of(state: State, name: str) -> str:
    """The delivery mode of an agent's name."""
    return MANUAL_FLUSH if state.is_flushed_by_hand(name) else AUTO_INJECT


def mode_requested(turn: Turn, request: DeliveryModeRequested) -> None:
    """Set or lift the hold; what it held is let through before the answer."""
    name, stream = request.name, _stream(request.name)
    turn.record(
        events.DeliveryModeAsked(
            request_id=request.request_id,
            name=name,
            mode=request.mode,
            reason=request.reason,
            revision=request.revision,
            expected=request.expected,
        ),
        stream,
        name,
    )
    if error := _refusal(turn, request):
        turn.effect(Reply(request_id=request.request_id, answer=replies.refused(error)))
        return
    target, former = program_of(turn.state, name), mode_of(turn.state, name)
    released = len(held(turn.state, target))
    if former != request.mode:
        turn.record(
            events.DeliveryModeChanged(name=name, mode=request.mode, previous=former, reason=request.reason),
            stream,
            name,
        )
        if request.mode == AUTO_INJECT and released:
            turn.record(
                events.PendingDrained(name=name, count=released, cause="delivery_mode_transition"), stream, name
            )
        if target is not None:
            deliveries.reconsider(turn, target)
    lifted = former == MANUAL_FLUSH and request.mode == AUTO_INJECT
    answer = mode_set(turn.state, name, flushed=released if lifted else 0)
    turn.effect(Reply(request_id=request.request_id, answer=answer))


def mode_set(state: State, name: str, *, flushed: int = 0) -> replies.ModeSet:
    """What a caller is told of an agent's delivery mode."""
    return replies.ModeSet(
        mode=mode_of(state, name),
        held=len(held(state, program_of(state, name))),
        revision=revision_of(state, name),
        flushed=flushed,
    )


def revision_of(state: State, name: str) -> int:
    """Log position of the last change of the mode, which no other change has; 0 = it never changed, as far as is remembered."""
    return state.mode_changes.get(name.lower(), state.mode_changes_floor)


def _refusal(turn: Turn, request: DeliveryModeRequested) -> InvalidRequest | None:
    state, name = turn.state, request.name
    hold = state.flush_holds.get(name.lower())
    if program_of(state, name) is None and (hold is None or request.mode == MANUAL_FLUSH):
        return InvalidRequest(Refusal.ABSENT, "agent_not_found", f"unknown worker '{name}'", name=name)
    has_other = bool(request.expected) and request.expected != mode_of(state, name)
    if has_other or (request.revision is not None and request.revision != revision_of(state, name)):
        text = f"the delivery mode of '{name}' was changed meanwhile"
        now = mode_set(state, name)
        present = {"mode": now.mode, "held": now.held, "revision": now.revision}
        return InvalidRequest(Refusal.CONFLICT, "revision_conflict", text, name=name, **present)
    if request.mode == MANUAL_FLUSH and hold is None and len(state.flush_holds) >= MAX_FLUSH_HOLDS:
        return InvalidRequest(Refusal.FULL, "queue_full", f"{MAX_FLUSH_HOLDS} agents are held already", name=name)
    return None


def flush_requested(turn: Turn, request: FlushRequested) -> None:
    """Let through what is held now, in order; the mode stays as it is."""
    name, stream = request.name, _stream(request.name)
    turn.record(events.FlushAsked(request_id=request.request_id, name=name), stream, name)
    target = program_of(turn.state, name)
    if target is None:
        error = InvalidRequest(Refusal.ABSENT, "agent_not_found", f"unknown worker '{name}'", name=name)
        turn.effect(Reply(request_id=request.request_id, answer=replies.refused(error)))
        return
    waiting = held(turn.state, target)
    if waiting:
        turn.record(events.PendingDrained(name=name, count=len(waiting), cause="explicit_flush"), stream, name)
        for delivery in waiting:
            turn.record(events.DeliveryQueued(flushed=True), delivery.stream, delivery.msg_id)
        deliveries.reconsider(turn, target)
    answer = replies.Flushed(flushed=len(waiting), remaining=len(held(turn.state, target)))
    turn.effect(Reply(request_id=request.request_id, answer=answer))


def program_of(state: State, name: str) -> Worker | None:
    """The program that runs under this name, whatever its spelling."""
    registration = state.registration_of(name)
    program = state.workers.get(registration.session_id) if registration is not None else None
    return None if program is None or program.ended else program


def held(state: State, target: Worker | None) -> list[Delivery]:
    """What waits for a person to flush it, in order."""
    waiting = target.waiting if target is not None else ()
    return [delivery for stream in waiting if (delivery := state.deliveries[stream]).reason is Reason.MANUAL_FLUSH]


def _stream(name: str) -> str:
    return f"hold:{name.lower()}"
