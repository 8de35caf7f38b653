"""Decisions about what people ask of dead letters: redeliver them, purge them.

Source: domain/dead_letter.py; spec/failure-scenarios.md F012, F028 to F030; ADR-0021.
"""

from __future__ import annotations

from relaybroker.domain import events, replies
from relaybroker.domain.agent import PRESENT
from relaybroker.domain.dead_letter import DeadLetter
from relaybroker.domain.effects import Reply
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import PurgeRequested, RedeliverRequested
from relaybroker.domain.reasons import SENTENCES, Reason
from relaybroker.domain.rules import dead_letter_removal, deliveries
from relaybroker.domain.turn import Turn
from relaybroker.domain.worker import WorkerState


def redeliver_requested(turn: Turn, request: RedeliverRequested) -> None:
    """Each letter gets a new attempt, or is skipped with a reason and stays on the list."""
    _asked(turn, "redeliver", request, force=request.force)
    chosen = _chosen(turn, request)
    if chosen is None:
        return
    attempts: list[replies.NewAttempt] = []
    skipped: list[tuple[DeadLetter, Reason]] = []
    for letter in chosen:
        if reason := _why_not(turn, letter, force=request.force):
            turn.record(events.RedeliverySkipped(reason=reason), letter.stream, letter.msg_id)
            skipped.append((letter, reason))
        else:
            attempts.append(_open_attempt(turn, letter))
    if skipped and len(chosen) == 1 and not request.every:
        letter, reason = skipped[0]
        kind = Refusal.FULL if reason is Reason.HOLD_FULL else Refusal.CONFLICT
        _refuse(turn, request, InvalidRequest(kind, reason, SENTENCES[reason], id=letter.letter_id))
        return
    kept = tuple((letter.letter_id, why) for letter, why in skipped)
    answer = replies.Redelivered(attempts=tuple(attempts), skipped=kept)
    turn.effect(Reply(request_id=request.request_id, answer=answer))


def purge_requested(turn: Turn, request: PurgeRequested) -> None:
    """The letters leave the list, each with a record."""
    _asked(turn, "purge", request)
    chosen = _chosen(turn, request)
    if chosen is None:
        return
    for letter in chosen:
        dead_letter_removal.remove(turn, letter, Reason.PURGED, request.request_id)
    answer = replies.Purged(letter_ids=tuple(letter.letter_id for letter in chosen))
    turn.effect(Reply(request_id=request.request_id, answer=answer))


def _asked(turn: Turn, wish: str, request: RedeliverRequested | PurgeRequested, *, force: bool = False) -> None:
    turn.record(
        events.DeadLettersAsked(
            request_id=request.request_id,
            wish=wish,
            letter_ids=request.letter_ids,
            every=request.every,
            agent=request.agent,
            force=force,
        ),
        turn.broker,
    )


def _chosen(turn: Turn, request: RedeliverRequested | PurgeRequested) -> list[DeadLetter] | None:
    """The letters that are meant, oldest first; None if one that is named is not on the list (then the caller is told)."""
    letters = turn.state.dead_letters
    if request.every:
        return [letter for letter in letters.values() if request.agent in ("", letter.name)]
    missing = next((name[:200] for name in request.letter_ids if name not in letters), None)
    if missing is not None:
        _refuse(
            turn,
            request,
            InvalidRequest(Refusal.ABSENT, "not_found", f"there is no dead letter '{missing}'", id=missing),
        )
        return None
    wanted = set(request.letter_ids)
    return [letter for letter_id, letter in letters.items() if letter_id in wanted]


def _refuse(turn: Turn, request: RedeliverRequested | PurgeRequested, error: InvalidRequest) -> None:
    turn.effect(Reply(request_id=request.request_id, answer=replies.refused(error)))


def _why_not(turn: Turn, letter: DeadLetter, *, force: bool) -> Reason | None:
    """Why the message cannot be typed now; None = it can."""
    if letter.in_doubt and not force:
        return Reason.AMBIGUOUS
    if letter.reason is Reason.TOO_LARGE:
        return Reason.TOO_LARGE
    stream = turn.state.agents.get(letter.agent_id)
    registration = turn.state.registrations.get(stream) if stream else None
    if registration is None:
        successor = turn.state.registration_of(letter.name)
        return Reason.RETIRED if successor is not None and successor.agent_id else Reason.NOT_RUNNING
    program = turn.state.workers.get(registration.session_id)
    alive = program is not None and not program.ended and program.state != WorkerState.STOPPING
    if not alive or registration.state not in PRESENT:
        return Reason.NOT_RUNNING
    return Reason.HOLD_FULL if deliveries.is_full(turn, registration) else None


def _open_attempt(turn: Turn, letter: DeadLetter) -> replies.NewAttempt:
    """The next attempt of the delivery: a message of this broker, with a stream and a typing id of its own."""
    attempt = letter.attempt + 1
    stream = f"delivery:{letter.letter_id}#{attempt}"
    turn.record(
        events.DeliveryOffered(
            delivery_id=letter.delivery_id,
            attempt=attempt,
            agent_id=letter.agent_id,
            name=letter.name,
            seq=None,
            msg_id=letter.msg_id,
            source=letter.source,
            sender=letter.sender,
            target=letter.target,
            body=letter.body,
            thread_id=letter.thread_id,
            priority=letter.priority,
            mode=letter.mode,
            workspace_id=turn.settings.workspace_id,
            letter_id=letter.letter_id,
            doubtful=letter.in_doubt,
        ),
        stream,
        letter.msg_id,
    )
    deliveries.place(turn, turn.state.deliveries[stream])
    return replies.NewAttempt(
        letter_id=letter.letter_id, attempt=attempt, name=letter.name, event_id=letter.event_id or letter.msg_id
    )
