"""The broker itself: its own identity, and totals."""

from __future__ import annotations

import msgspec


class OwnIdentity(msgspec.Struct):
    """The broker's own agent in the workspace: it publishes what people send."""

    agent_id: str = ""
    name: str = ""
    call_id: str = ""
    until: float = 0.0
    refused: str = ""


class Counters(msgspec.Struct):
    """Totals over the life of the log."""

    spawned: int = 0
    names: int = 0
    """Agent names that were new, as far as is remembered."""
    messages: int = 0
    """That local clients were told of."""
    crashed: int = 0
    restarted: int = 0
    released: int = 0
    offered: int = 0
    typed: int = 0
    acked: int = 0
    dropped: int = 0
    dead_lettered: int = 0
    frames_rejected: int = 0
