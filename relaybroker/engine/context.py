"""What every part of the engine shares: the store, the ids, the sockets, the limits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from relaybroker.engine.addresses import Network
from relaybroker.engine.hub import Hub
from relaybroker.engine.ids import Snowflakes
from relaybroker.engine.refusals import Refusals
from relaybroker.engine.store import Store

IDEMPOTENCY_S = 24 * 3600.0
"""Life of an idempotency key."""
FRAME_BYTES = 1024 * 1024
"""The largest frame that is accepted."""
SWEEP_S = 15.0
"""Time-outs are checked this often, more often where they are short."""


SENDER_OPEN = 10_000
"""Deliveries of one sender that may be open, whoever they are for."""
SENDER_OPEN_SIZE = 64 * 1024 * 1024
"""Characters of these together."""
SENDER_INVOCATIONS = 256
"""Invocations of one agent that may be open."""
AGENT_CHANNELS = 256
"""Channels and groups that one agent may make."""


@dataclass(frozen=True)
class Limits:
    """Times in seconds, sizes in characters. The defaults are the contract's."""

    delivery_ttl_s: float = 3600.0
    """Life of a delivery that nobody acknowledges."""
    mailbox_depth: int = 1000
    """Open deliveries for one agent; further posts succeed without a row."""
    redispatch_after_s: float = 30.0
    """When an action without a result is sent again."""
    node_timeout_s: float = 45.0
    """Silence after which a node is offline."""
    sender_open: int = SENDER_OPEN
    sender_open_size: int = SENDER_OPEN_SIZE
    sender_invocations: int = SENDER_INVOCATIONS
    agent_channels: int = AGENT_CHANNELS

    @property
    def sweep_every_s(self) -> float:
        """How often time-outs are checked."""
        return min(SWEEP_S, self.delivery_ttl_s / 2, self.redispatch_after_s / 2, self.node_timeout_s / 3)


DEFAULT_LIMITS = Limits()


@dataclass
class Engine:
    """One running engine."""

    store: Store
    limits: Limits
    ids: Snowflakes = field(default_factory=Snowflakes)
    hub: Hub = field(default_factory=Hub)
    networks: tuple[Network, ...] = ()
    """Networks besides the public ones that it posts to."""
    posts_wait: asyncio.Event = field(default_factory=asyncio.Event)
    """Something may have to be posted."""
    refusals: Refusals = field(default_factory=Refusals)
