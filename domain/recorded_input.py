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
from relaybroker.domain.credentials import FINGERPRINT, replaced
from relaybroker.domain.inputs import Input

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
            item = msgspec.structs.replace(item, frame=_without_secrets(item.frame))
        case inputs.EngineAnswered(data=dict() | list()):
            item = msgspec.structs.replace(item, data=_without_secrets(item.data))
        case _:
            pass
    return _ENCODER.encode(item)


def decode(kept: bytes) -> RecordedInput:
    """What was kept.

    Raises:
        msgspec.DecodeError: it is none that this version knows.
    """
    return _DECODER.decode(kept)


def _without_secrets(value: Any) -> Any:
    return replaced(value, lambda text: text if text.startswith(FINGERPRINT) else "", DEPTH)
