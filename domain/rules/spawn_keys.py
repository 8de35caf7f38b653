"""Spawns with a key of the caller's: the same key starts nothing twice, and gets the answer of the first one.

Rules:

* While the first one runs, whoever comes with its key waits for the same answer.
* Another spawn under the same key is refused. The values of variables are not compared: the log has their names only.
* A spawn that is refused before it begins uses up no key. One that fails for a reason that may pass frees it: nothing is left of it.
* Keys are remembered as those of sends are (domain/message.py).

Source: spec/local-api.md section 1.1; U10.
"""

from __future__ import annotations

import msgspec

from relaybroker.domain import events
from relaybroker.domain.effects import Reply
from relaybroker.domain.entities import Registration, SpawnKey
from relaybroker.domain.inputs import SpawnRequested
from relaybroker.domain.replies import SpawnAnswer
from relaybroker.domain.rules import keys
from relaybroker.domain.turn import Turn


def fingerprint(request: SpawnRequested) -> str:
    """Of everything that is asked for."""
    return keys.fingerprint(msgspec.structs.replace(request.spec, env_ref="", result_digest="", preface=""))


def check_room(turn: Turn, key: str) -> None:
    """Raise InvalidRequest if there is no room for one more key."""
    if key:
        keys.check_room(turn.state.spawn_keys, turn.state.spent_spawn_keys(turn.now), "spawn")


def again(turn: Turn, request: SpawnRequested, known: SpawnKey) -> None:
    """A key came again: its caller gets the answer of the first one, or waits for it too.

    Raises:
        InvalidRequest: `idempotency_conflict`, it came with something else.
    """
    keys.check_same(known.fingerprint, fingerprint(request), "another spawn")
    turn.record(events.SpawnRepeated(key=request.key, request_id=request.request_id), turn.broker)
    if known.answer is not None:
        turn.effect(Reply(request_id=request.request_id, answer=keys.repeated(known.answer)))


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
        turn.effect(Reply(request_id=other, answer=keys.repeated(answer)))
