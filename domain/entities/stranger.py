"""Agents that are not here and for which messages come."""

from __future__ import annotations

import msgspec

from relaybroker.domain.reasons import Reason


class Stranger(msgspec.Struct):
    """An agent that is not here and for which messages come."""

    name: str
    reason: Reason
    since: float
    dial: int
    """The connection on which the engine was told so last."""
    keeps: bool
    messages: int = 0
    """How many different ones came, those that came again on another connection included."""
    frames: dict[str, None] = msgspec.field(default_factory=dict)
    """What came on this connection, oldest first."""
