"""What the core was told, as the log keeps it beside the first event of the turn that it began.

So any piece of a log can be replayed (ADR-0025): an event says what we made of an input; only the input says what was there to
decide about. Where time was the cause, the deadline that had come is kept.

No input carries a secret (`relaybroker.domain.inputs`). Answers of the engine come from outside our types, so whatever in them is named
like a credential, and is not a fingerprint, is left out.

Source: ADR-0025; invariant I7.
"""

from __future__ import annotations

from typing import Any

import msgspec

from relaybroker.domain import inputs
from relaybroker.domain.inputs import Input

SECRET_NAMES = frozenset(
    {"token", "node_token", "agent_token", "access_token", "refresh_token", "api_key", "apikey", "secret", "password"}
    | {"workspace_key", "authorization", "credential", "credentials"}
)
"""Members of an engine's answer that are not kept, whatever their spelling."""
FINGERPRINT = "sha256:"
"""How the fingerprint begins that stands for a token."""
DEPTH = 64
"""Levels of an engine's answer that are kept; no rule looks deeper than four."""


class TimePassed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Nobody told us anything: a deadline (epoch seconds) had come."""

    due: float


RecordedInput = Input | TimePassed

_ENCODER = msgspec.json.Encoder()
_DECODER: msgspec.json.Decoder[RecordedInput] = msgspec.json.Decoder(RecordedInput)


def encode(item: RecordedInput) -> bytes:
    """The input, or the deadline, as it is kept."""
    match item:
        case inputs.FrameArrived(frame={"type": "reply" | "error"}):
            item = msgspec.structs.replace(item, frame=_without_secrets(item.frame, DEPTH))
        case inputs.EngineAnswered(data=dict() | list()):
            item = msgspec.structs.replace(item, data=_without_secrets(item.data, DEPTH))
        case _:
            pass
    return _ENCODER.encode(item)


def decode(kept: bytes) -> RecordedInput:
    """What was kept.

    Raises:
        msgspec.DecodeError: it is none that this version knows.
    """
    return _DECODER.decode(kept)


def _without_secrets(value: Any, depth: int) -> Any:
    if not isinstance(value, dict | list):
        return value
    if not depth:
        return None
    if isinstance(value, list):
        return [_without_secrets(one, depth - 1) for one in value]
    return {name: "" if _is_secret(name, one) else _without_secrets(one, depth - 1) for name, one in value.items()}


def _is_secret(name: Any, value: Any) -> bool:
    return str(name).lower() in SECRET_NAMES and isinstance(value, str) and not value.startswith(FINGERPRINT)
