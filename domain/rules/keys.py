"""Idempotency keys of callers, whatever they ask for: the same request under a key again has the same answer, another one is refused.

Source: spec/local-api.md section 1.1; U10.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sized
from typing import TypeVar

import msgspec

from relaybroker.domain import message, replies
from relaybroker.domain.errors import InvalidRequest, Refusal


def fingerprint(asked: msgspec.Struct) -> str:
    """Of everything that is asked for; two requests with one key must have the same."""
    return hashlib.blake2b(msgspec.json.encode(asked, order="deterministic"), digest_size=16).hexdigest()


def check_room(kept: Sized, spent: Iterator[str], what: str) -> None:
    """Raise InvalidRequest (`queue_full`) if one more key could only be kept at the cost of one that must not be forgotten yet.

    Args:
        kept: the keys.
        spent: those of them that may be forgotten.
        what: `send` or `spawn`.
    """
    if len(kept) >= message.KEYS_KEPT and next(spent, None) is None:
        raise InvalidRequest(Refusal.FULL, "queue_full", f"too many idempotency keys are in use; {what} again later")


def check_same(known: object, asked: object, what: str) -> None:
    """Raise InvalidRequest (`idempotency_conflict`) if the key was used for something else; `what` says for what it was."""
    if known != asked:
        raise InvalidRequest(Refusal.CONFLICT, "idempotency_conflict", f"this idempotency key was used for {what}")


_Answer = TypeVar("_Answer", bound=replies.Sent | replies.Spawned | replies.Done | replies.Refused)


def repeated(answer: _Answer) -> _Answer:
    """The answer that was given before, said once more."""
    if isinstance(answer, replies.Refused):
        return msgspec.structs.replace(answer, about=answer.about | {"replayed": True})
    return msgspec.structs.replace(answer, repeated=True)
