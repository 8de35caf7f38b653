"""Spawns with a key of the caller's: the same key starts nothing twice, and gets the answer of the first one.

Rules:

* While the first one runs, whoever comes with its key waits for the same answer.
* Another spawn under the same key is refused. The values of variables are not compared: the log has their names only.
* A spawn that is refused before it begins uses up no key. One that fails for a reason that may pass frees it: nothing is left of it.
* Keys are remembered as those of sends are (domain/message.py).

Source: spec/local-api.md section 1.1; U10.
"""

from __future__ import annotations

import hashlib

import msgspec

from relaybroker.domain import events, message, replies
from relaybroker.domain.effects import Reply
from relaybroker.domain.entities import Registration, SpawnKey
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import SpawnRequested
from relaybroker.domain.replies import SpawnAnswer
from relaybroker.domain.turn import Turn


def fingerprint(request: SpawnRequested) -> str:
    """Of everything that is asked for; two requests with one key must have the same."""
    asked = msgspec.structs.replace(request.spec, env_ref="", result_digest="", preface="")
    return hashlib.blake2b(msgspec.json.encode(asked, order="deterministic"), digest_size=16).hexdigest()


def check_room(turn: Turn, key: str) -> None:
    """Raise InvalidRequest if one more key could only be remembered at the cost of one that must not be forgotten yet."""
    state = turn.state
    if key and len(state.spawn_keys) >= message.KEYS_KEPT and next(state.spent_spawn_keys(turn.now), None) is None:
        raise InvalidRequest(Refusal.FULL, "queue_full", "too many idempotency keys are in use; spawn again later")


def again(turn: Turn, request: SpawnRequested, known: SpawnKey) -> None:
    """A key came again: its caller gets the answer of the first one, or waits for it too.

    Raises:
        InvalidRequest: `idempotency_conflict`, it came with something else.
    """
    if known.fingerprint != fingerprint(request):
        raise InvalidRequest(
            Refusal.CONFLICT, "idempotency_conflict", "this idempotency key was used for another spawn"
        )
    turn.record(events.SpawnRepeated(key=request.key, request_id=request.request_id), turn.broker)
    if known.answer is not None:
        turn.effect(Reply(request_id=request.request_id, answer=_repeated(known.answer)))


def tell(turn: Turn, registration: Registration, request_id: str, answer: SpawnAnswer) -> None:
    """Answer everybody who waits for a spawn, and keep the answer for those who ask again with its key."""
    if request_id:
        turn.effect(Reply(request_id=request_id, answer=answer))
    known = turn.state.spawn_keys.get(registration.key)
    if known is None or known.stream != registration.stream or known.answer is not None:
        return
    joined = list(known.joined)
    turn.record(events.SpawnKeyAnswered(key=registration.key, answer=answer), turn.broker)
    for other in joined:
        turn.effect(Reply(request_id=other, answer=_repeated(answer)))


def _repeated(answer: SpawnAnswer) -> SpawnAnswer:
    """The answer that was given before, said once more."""
    if isinstance(answer, replies.Spawned):
        return msgspec.structs.replace(answer, repeated=True)
    return msgspec.structs.replace(answer, about=answer.about | {"replayed": True})
