"""The link to the engine, as the log tells of it."""

from __future__ import annotations

import msgspec

from relaybroker.domain import (
    link as link_machine,
)
from relaybroker.domain.reasons import Reason


class Pending(msgspec.Struct, frozen=True):
    """A request frame that waits for its reply. `kind`: `node.register`, `agent.register` or `inventory.sync`."""

    kind: str
    subject: str
    """Stream of the registration for `agent.register`; else ""."""
    until: float


class EngineError(msgspec.Struct, frozen=True):
    """The last error that the engine sent."""

    code: str
    message: str
    at: float


class Link(msgspec.Struct):
    """The node connection of this incarnation."""

    incarnation: int = 0
    state: str = link_machine.TABLE.initial
    probing: bool = False
    """Begun by the timer of `refused`: it dials with the token it has and mints none."""
    dial: int = 0
    reason: Reason | None = None
    detail: str = ""
    since: float = 0.0
    until: float = 0.0
    """Next step of a state with a deadline (backing_off, registering, refused)."""
    base_delay: float = link_machine.BACKOFF_FIRST_S
    since_begun: float = 0.0
    """When this incarnation began."""
    remints: int = 0
    """Tokens replaced since the last proven session."""
    remint_times: list[float] = msgspec.field(default_factory=list)
    """When tokens were replaced, over proven sessions too: at most the hourly budget, oldest first."""
    mint_failures: int = 0
    token_dead: bool = False
    mint_call: str = ""
    name_wanted: str = ""
    """What the operator chose, or what was derived."""
    node_name: str = ""
    """What the node is called: `name_wanted`, or the distinct form of it where that belongs to another node."""
    name_probed: bool = False
    has_token: bool = False
    pending: dict[str, Pending] = msgspec.field(default_factory=dict)
    abandoned: dict[str, str] = msgspec.field(default_factory=dict)
    """Request and call ids nobody waits for any more -> registration stream (at most 1024)."""
    heartbeat_id: str = ""
    beaten_at: float = 0.0
    next_heartbeat: float = 0.0
    next_inventory: float = 0.0
    inventory_changed_at: float = 0.0
    """Since when the engine has not been told of a change; 0 = it knows everything."""
    sync_retry_s: float = 0.0
    """Wait after a refused inventory.sync; 0 = the last one was accepted."""
    next_resync: float = 0.0
    online_at: float = 0.0
    heard_at: float = 0.0
    synced_at: float = 0.0
    down_at: float = 0.0
    """When the last socket that was online ended."""
    knows_cursor: bool = False
    """The engine's register reply showed that it is of 6.0 or later."""
    manifest_stale: bool = False
    """The manifest changed after this socket's `node.register` went out and before it was answered."""
    rejected: dict[str, int] = msgspec.field(default_factory=dict)
    """Frames of types or versions that nobody here knows: how many of each came (at most 256 kinds)."""
    not_accepted: tuple[str, ...] = ()
    """Capabilities that the engine did not take, with its reason where it gave one."""
    register_pause_until: float = 0.0
    """No registration over HTTP before this: the engine asked for a pause (429)."""
    last_error: EngineError | None = None
