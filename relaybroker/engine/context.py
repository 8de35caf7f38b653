"""What every part of the engine shares: the store, the ids, the sockets, the limits."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from relaybroker.engine.hub import Hub
from relaybroker.engine.ids import Snowflakes
from relaybroker.engine.store import Store


@dataclass(frozen=True)
class Limits:
    """Times in seconds. The defaults are the contract's."""

    delivery_ttl_s: float = 3600.0
    mailbox_depth: int = 1000
    redispatch_after_s: float = 30.0
    node_timeout_s: float = 45.0
    sweep_every_s: float = 15.0
    idempotency_s: float = 24 * 3600.0
    frame_bytes: int = 1024 * 1024


@dataclass
class Engine:
    """One running engine."""

    store: Store
    limits: Limits = field(default_factory=Limits)
    ids: Snowflakes = field(default_factory=Snowflakes)
    hub: Hub = field(default_factory=Hub)

    def now(self) -> float:
        """Epoch seconds."""
        return time.time()
