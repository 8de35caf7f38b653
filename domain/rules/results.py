"""Results that agents hand in: recorded, told to local clients, and at most one of them the final one.

Rules:

* The same final result again is the same result: it gets the same answer. Another one after it is refused.
* A result has at most `MAX_BYTES` as JSON.

Source: spec/conversation.md section 2; spec/local-api.md route 25.
"""

from __future__ import annotations

import hashlib

import msgspec

from relaybroker.domain import events, replies
from relaybroker.domain.effects import Reply
from relaybroker.domain.entities import Registration
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import ResultRequested
from relaybroker.domain.rules import agents
from relaybroker.domain.turn import Turn

MAX_BYTES = 256 * 1024
"""Of data and metadata as JSON."""


def requested(turn: Turn, request: ResultRequested) -> None:
    """An agent hands in a result."""
    registration = turn.state.acting(request.agent_id)
    if registration is None:
        agents.refuse(turn, request.request_id, "result", agents.over(request.agent_id))
        return
    encoded = msgspec.json.encode((request.data, request.metadata), order="deterministic")
    fingerprint = hashlib.blake2b(encoded, digest_size=16).hexdigest()
    try:
        former = _former(registration, fingerprint, len(encoded), final=request.final)
    except InvalidRequest as error:
        agents.refuse(turn, request.request_id, "result", error)
        return
    result_id = former or f"ar_{turn.fresh('result')}"
    if former:
        repeated = events.ActRepeated(key=f"result:{former}", request_id=request.request_id)
        turn.record(repeated, turn.broker)
    else:
        turn.record(
            events.ResultSubmitted(
                request_id=request.request_id,
                result_id=result_id,
                data=request.data,
                final=request.final,
                metadata=request.metadata,
                fingerprint=fingerprint,
            ),
            registration.stream,
            registration.name,
        )
    answer = replies.ResultKept(name=registration.name, result_id=result_id, final=request.final, repeated=bool(former))
    turn.effect(Reply(request_id=request.request_id, answer=answer))


def _former(registration: Registration, fingerprint: str, size: int, *, final: bool) -> str:
    """The id of the final result, if this is that one again; "" if there is none.

    Raises:
        InvalidRequest: `result_already_final`, `body_too_large`.
    """
    if size > MAX_BYTES:
        raise InvalidRequest(
            Refusal.TOO_LARGE, "body_too_large", f"a result has at most {MAX_BYTES // 1024} KiB", field="data"
        )
    result_id, _, known = registration.final_result.partition(" ")
    if result_id and not (final and known == fingerprint):
        raise InvalidRequest(
            Refusal.CONFLICT,
            "result_already_final",
            f"{registration.name} has handed in its final result ({result_id})",
        )
    return result_id
