"""The broker's whole state: a fold of its log, and nothing that the log does not say.

Everything here is plain data. Finished entities leave as soon as nothing can refer to them any more, so that the size of the state follows
live work, not history. `encode` and `decode` make the snapshot: discardable, never upcast.

Source: design/architecture.md sections 3 and 4.
"""

from __future__ import annotations

from typing import Any

import msgspec

from domain import action_invocation, agent_registration, delivery, node_connection, outbound_message, worker
from domain.events import Harness
from domain.inputs import Settings, SpawnSpec
from domain.mailbox import Mailbox
from domain.reasons import Reason

NOTIFICATIONS_KEPT = 2048
"""Local API events kept for clients that come back (local-api.md asks for at least 1000)."""
SNAPSHOT_FORMAT = 1


class Pending(msgspec.Struct, frozen=True):
    """A request frame that waits for its reply. `kind`: `node.register`, `agent.register` or `inventory.sync`."""

    kind: str
    subject: str
    """Stream of the registration for `agent.register`; else ""."""
    until: float


class Link(msgspec.Struct):
    """The node connection of this incarnation."""

    incarnation: int = 0
    state: str = node_connection.TABLE.initial
    dial: int = 0
    reason: Reason | None = None
    detail: str = ""
    since: float = 0.0
    until: float = 0.0
    """Next step of a state with a deadline (backing_off, registering, refused)."""
    base_delay: float = node_connection.BACKOFF_FIRST_S
    mints: int = 0
    """Re-mints since the last proven session."""
    token_dead: bool = False
    mint_call: str = ""
    node_name: str = ""
    has_token: bool = False
    pending: dict[str, Pending] = msgspec.field(default_factory=dict)
    abandoned: dict[str, str] = msgspec.field(default_factory=dict)
    """Request ids nobody waits for any more -> registration stream (at most 1024)."""
    next_heartbeat: float = 0.0
    next_inventory: float = 0.0
    inventory_changed: bool = False
    next_resync: float = 0.0
    online_at: float = 0.0
    heard_at: float = 0.0
    synced_at: float = 0.0


class Registration(msgspec.Struct):
    """One generation of one agent name."""

    stream: str
    name: str
    generation: int
    state: str
    session_id: str
    source: str
    spec: SpawnSpec
    harness: Harness
    argv: tuple[str, ...]
    until: float
    reserved_at: float
    agent_id: str = ""
    invocation_id: str = ""
    request_id: str = ""
    release_requests: list[str] = msgspec.field(default_factory=list)
    release_invocations: list[str] = msgspec.field(default_factory=list)
    live_at: float = 0.0
    hinted: bool = False

    @property
    def waits_for_link(self) -> bool:
        """Reserved, and `agent.register` has not been sent."""
        return self.state == agent_registration.State.RESERVED


class Worker(msgspec.Struct):
    """One program in one PTY."""

    stream: str
    session_id: str
    registration: str
    name: str
    agent_id: str
    state: str
    until: float
    """Deadline of launching, of the survival window, or of stopping; 0 = none."""
    launched_at: float
    pid: int = 0
    ready_at: float = 0.0
    evidence: str = ""
    blocked_by: str = ""
    active_at: float = 0.0
    idle: bool = False
    typed: int = 0
    last_typed_at: float = 0.0
    stop_reason: Reason | None = None
    exit_reason: Reason | None = None
    code: int | None = None
    signal: int | None = None
    last_output: str = ""
    uptime_s: float = 0.0
    waiting: list[str] = msgspec.field(default_factory=list)
    """Delivery streams held or queued for this worker, in typing order."""
    typing: list[str] = msgspec.field(default_factory=list)
    """Delivery streams that are with the PTY host, in order."""

    @property
    def ended(self) -> bool:
        """Exited or lost."""
        return self.state in worker.TABLE.terminal

    @property
    def takes_text(self) -> bool:
        """Ready and not blocked or stopping."""
        return self.state in (worker.State.READY, worker.State.BUSY)


class Delivery(msgspec.Struct):
    """One message for one agent, one attempt."""

    stream: str
    typing_id: str
    """What the PTY host knows it by: unique in the log."""
    delivery_id: str
    attempt: int
    agent_id: str
    name: str
    seq: int | None
    msg_id: str
    source: str
    sender: str
    target: str
    body: str
    thread_id: str
    priority: int | None
    mode: str
    workspace_id: str
    state: str
    offered_at: float
    changed_at: float
    reason: Reason | None = None
    until: float = 0.0
    tries: int = 0
    session_id: str = ""
    text: str = ""
    marker: str = ""
    verified: bool = False

    @property
    def ended(self) -> bool:
        """In a terminal state."""
        return self.state in delivery.TABLE.terminal


class Action(msgspec.Struct):
    """One invocation in the ledger."""

    stream: str
    invocation_id: str
    action: str
    state: str
    received_at: float
    name: str = ""
    until: float = 0.0
    output: Any = None
    error: str = ""
    reported_at: float = 0.0
    input: Any = None
    agent_name: str = ""

    @property
    def reported(self) -> bool:
        """The result was given to a live link."""
        return self.state == action_invocation.State.REPORTED


class Message(msgspec.Struct):
    """One message on its way to the engine."""

    stream: str
    event_id: str
    request_id: str
    to: str
    text: str
    sender: str
    author_id: str
    thread_id: str
    mode: str
    data: dict[str, Any] | None
    state: str
    accepted_at: float
    answer_by: float
    """0 = the caller has its answer."""
    until: float = 0.0
    tries: int = 0
    call_id: str = ""

    @property
    def waits(self) -> bool:
        """Accepted and due at `until`."""
        return self.state == outbound_message.State.ACCEPTED


class Host(msgspec.Struct):
    """The PTY host, as far as it is known."""

    host_id: str = ""
    pid: int = 0
    attached: bool = False
    last_report: int = 0
    until: float = 0.0
    """When to attach again."""


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
    crashed: int = 0
    released: int = 0
    offered: int = 0
    typed: int = 0
    acked: int = 0
    dropped: int = 0
    dead_lettered: int = 0
    frames_rejected: int = 0


class Notification(msgspec.Struct, frozen=True):
    """A local API event with its place in the durable sequence."""

    seq: int
    body: dict[str, Any]


class State(msgspec.Struct):
    """All of it."""

    position: int = 0
    now: float = 0.0
    settings: Settings | None = None
    boot_id: str = ""
    started_at: float = 0.0
    entropy: str = ""
    epoch: str = ""
    stopping_until: float = 0.0
    stop_reason: str = ""
    agents_too: bool = True
    left: bool = False
    link: Link = msgspec.field(default_factory=Link)
    host: Host = msgspec.field(default_factory=Host)
    own: OwnIdentity = msgspec.field(default_factory=OwnIdentity)
    registrations: dict[str, Registration] = msgspec.field(default_factory=dict)
    names: dict[str, str] = msgspec.field(default_factory=dict)
    """Lower-case agent name -> stream of its newest registration that has not ended."""
    generations: dict[str, int] = msgspec.field(default_factory=dict)
    agents: dict[str, str] = msgspec.field(default_factory=dict)
    """Agent id -> stream of the registration that holds it."""
    workers: dict[str, Worker] = msgspec.field(default_factory=dict)
    """By session id."""
    mailboxes: dict[str, Mailbox] = msgspec.field(default_factory=dict)
    deliveries: dict[str, Delivery] = msgspec.field(default_factory=dict)
    actions: dict[str, Action] = msgspec.field(default_factory=dict)
    messages: dict[str, Message] = msgspec.field(default_factory=dict)
    calls: dict[str, str] = msgspec.field(default_factory=dict)
    """Open engine calls of agents (channel joins): call id -> registration stream."""
    counters: Counters = msgspec.field(default_factory=Counters)
    notified: int = 0
    notifications: list[Notification] = msgspec.field(default_factory=list)

    def registration_of(self, name: str) -> Registration | None:
        """The registration that holds a name now, whatever its spelling."""
        stream = self.names.get(name.lower())
        return self.registrations.get(stream) if stream else None

    def worker_of_agent(self, agent_id: str) -> Worker | None:
        """The worker of the registration that holds this agent id."""
        stream = self.agents.get(agent_id)
        found = self.registrations.get(stream) if stream else None
        return self.workers.get(found.session_id) if found else None

    def live_registrations(self) -> list[Registration]:
        """Every registration that belongs into the inventory: registered here and not leaving, oldest first."""
        states = (agent_registration.State.REGISTERED, agent_registration.State.LIVE)
        return [found for found in self.registrations.values() if found.state in states]


def encode(state: State) -> bytes:
    """The state as snapshot bytes."""
    return msgspec.json.encode((SNAPSHOT_FORMAT, state))  # JSON: peers may send integers beyond 64 bits


def decode(data: bytes) -> State | None:
    """The state from snapshot bytes; None if they are of another format (then the log is folded from its beginning)."""
    try:
        version, state = msgspec.json.decode(data, type=tuple[int, State])
    except msgspec.MsgspecError:
        return None
    return state if version == SNAPSHOT_FORMAT else None
