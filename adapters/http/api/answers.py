"""What the local API answers, as types: what a route returns is encoded from these, and the OpenAPI document describes them.

An answer that only one route gives stands beside its handler.

Source: spec/local-api.md section 1; user requirements U02, U03, U04 (failure-scenarios.md section 4).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Common shape: what is UNSET is left out."""


# --- the broker ---------------------------------------------------------------------------------------------------------


class LastError(Answer, frozen=True, kw_only=True):
    """The last error that the engine sent."""

    code: str
    message: str
    secs_ago: float | None


class Link(Answer, frozen=True, kw_only=True):
    """How the node stands with its engine, with the ages that prove it. Who has no key sees the state alone."""

    state: str
    reason: str | UnsetType | None = UNSET
    detail: str | UnsetType = UNSET
    since_secs: float | UnsetType | None = UNSET
    next_step_in_secs: float | UnsetType | None = UNSET
    dial: int | UnsetType = UNSET
    registered_secs_ago: float | UnsetType | None = UNSET
    synced_secs_ago: float | UnsetType | None = UNSET
    heard_secs_ago: float | UnsetType | None = UNSET
    remints: int | UnsetType = UNSET
    capabilities_not_accepted: list[str] | UnsetType = UNSET
    last_error: LastError | UnsetType | None = UNSET


class Membership(Answer, frozen=True, kw_only=True):
    """One workspace of this broker."""

    workspace_id: str
    is_default: bool


class Health(Answer, frozen=True, kw_only=True):
    """Liveness and basic numbers. Workspaces are shown to callers with the key."""

    status: str
    ready: bool = False
    """Messages come and go: the engine took the node, and the PTY host is attached."""
    service: str = "agent-relay-listen"
    version: str = ""
    code: str | UnsetType = UNSET
    uptime_ms: int = msgspec.field(name="uptimeMs")
    workspace_id: str = msgspec.field(name="workspaceId")
    default_workspace_id: str | None = msgspec.field(name="defaultWorkspaceId")
    memberships: list[Membership]
    agent_count: int = msgspec.field(name="agentCount")
    pending_delivery_count: int = msgspec.field(name="pendingDeliveryCount")
    dead_letter_count: int = msgspec.field(name="deadLetterCount")
    engine_connected: bool = msgspec.field(name="relaycastConnected")
    link: Link
    host_attached: bool = msgspec.field(name="ptyHostAttached")
    socket_count: int = msgspec.field(name="wsConnections", default=0)
    memory_mb: int = msgspec.field(name="memoryMb", default=0)
    log_locked_s: float = msgspec.field(name="logLockedSecs", default=0.0)
    proof: str | UnsetType = UNSET
    """That this is the broker of the key, for whoever sent a challenge."""


class SidecarView(Answer, frozen=True, kw_only=True):
    """The connected sidecar and what it serves."""

    handlers: list[str]
    serving: bool
    since_secs: float | None


class InvocationView(Answer, frozen=True, kw_only=True):
    """An invocation that is not reported yet."""

    invocation_id: str
    action: str
    state: str
    agent: str | None
    by: str
    age_secs: float | None


class WorkspaceView(Answer, frozen=True, kw_only=True):
    """The broker in one workspace."""

    workspace_id: str
    workspace_alias: str | None
    self_name: str
    self_agent_id: str | None
    authenticated: bool
    default: bool


class Auth(Answer, frozen=True, kw_only=True):
    """The broker's own identity."""

    authenticated: bool
    workspace_count: int
    default_workspace_id: str | None
    workspaces: list[WorkspaceView]


class Node(Answer, frozen=True, kw_only=True):
    """The node."""

    id: str
    name: str


class NodeView(Answer, frozen=True, kw_only=True):
    """The node, with what its operator calls the broker and where the engine is."""

    id: str
    name: str
    broker: str
    engine: str


class HostView(Answer, frozen=True, kw_only=True):
    """The PTY host."""

    id: str
    pid: int
    attached: bool


class Outbound(Answer, frozen=True, kw_only=True):
    """Messages on their way to the engine."""

    waiting: int


class Totals(Answer, frozen=True, kw_only=True):
    """Counters over the life of the log."""

    spawned: int
    crashed: int
    offered: int
    typed: int
    acked: int
    dropped: int
    dead_lettered: int
    frames_rejected: int


# --- agents -------------------------------------------------------------------------------------------------------------


class Hold(Answer, frozen=True, kw_only=True):
    """Why messages of an agent are held: how many, since when, until when at the latest."""

    reason: str
    count: int
    until_ms: int | None
    since_ms: int | UnsetType = UNSET
    by_hand_since_secs: float | UnsetType | None = UNSET


class AgentView(Answer, frozen=True, kw_only=True):
    """One agent, with where its messages stand."""

    name: str
    runtime: str = "pty"
    provider: str | None = None
    cli: str
    model: str | None
    session_id: str = msgspec.field(name="sessionId")
    shadow_of: str | UnsetType = UNSET
    shadow_mode: str | UnsetType = UNSET
    team: str | None
    channels: list[str]
    channels_pending: list[str]
    parent: str
    pid: int | None
    host_pid: int | None = msgspec.field(name="workerPid")
    last_activity_ms: int | None
    last_activity_at: str | None
    spawned_at: str | None = msgspec.field(name="spawnedAt")
    context_budget_pct: float | None = None
    current_state: str
    agent_id: str | None = msgspec.field(name="agentId")
    registration: str
    restart_count: int
    restarts_in_secs: float | None
    worker: str | None
    ready: bool
    readiness: str
    door: str
    """Through which messages enter its program: `pty_paste` is its terminal."""
    blocked_by: str
    typed: int
    last_typed_secs_ago: float | None
    in_terminal: int
    waiting: int
    waiting_since_secs: float | None
    waiting_reason: str | None
    deaf_since_secs: float | None
    delivery_mode: str
    held_count: int
    in_custody: int
    holds: list[Hold]
    cursor: int | None
    ack_floor: int | None
    acked: int | None
    gap_buffered: int


class WaitingMessage(Answer, frozen=True, kw_only=True):
    """A message that waits for the agent that asks: why, not what it says."""

    message_id: str
    sender: str = msgspec.field(name="from")
    target: str
    thread_id: str | None
    state: str
    reason: str | None
    why: str | None
    age_secs: float | None


class Own(Answer, frozen=True, kw_only=True):
    """What an agent is told of itself: who it is here, where it is a member, what waits for it and why."""

    name: str
    agent_id: str
    node: Node
    workspace_id: str
    channels: list[str]
    channels_pending: list[str]
    delivery_mode: str
    engine_connected: bool
    waiting_count: int
    waiting: list[WaitingMessage]


# --- messages -----------------------------------------------------------------------------------------------------------


class DeliveryView(Answer, frozen=True, kw_only=True):
    """One open delivery."""

    delivery_id: str
    worker_name: str
    event_id: str
    message_id: str
    sender: str = msgspec.field(name="from")
    to: str
    attempts: int
    queued_at_ms: int
    age_ms: int
    last_error: str | None
    state: str
    seq: int | None
    held: bool
    since_ms: int
    until_ms: int | None
    in_custody: bool


class StrangerView(Answer, frozen=True, kw_only=True):
    """An agent that is not here and for which messages come; where they are not kept as dead letters, the engine keeps them."""

    agent_id: str
    name: str | None
    reason: str
    why: str
    since_ms: int
    messages: int
    kept_as_dead_letters: bool


class DiskView(Answer, frozen=True, kw_only=True):
    """The disk of the log: `ok`, `nearly_full`, `full` or `unwritable`; with the last two nothing new is accepted."""

    state: str = "ok"
    free_bytes: int = 0


class Status(Answer, frozen=True, kw_only=True):
    """Agents, open deliveries, identity, link."""

    agent_count: int
    agents: list[AgentView]
    pending_delivery_count: int
    pending_deliveries: list[DeliveryView]
    dead_letter_count: int
    auth: Auth
    link: Link
    node: NodeView | None
    strangers: list[StrangerView]
    sidecar: SidecarView | None
    invocations: list[InvocationView]
    host: HostView
    outbound: Outbound
    log_position: int
    log_locked_secs: float = 0.0
    disk: DiskView = msgspec.field(default_factory=DiskView)
    totals: Totals


class HeldMessage(Answer, frozen=True, kw_only=True):
    """A message that waits for a person to flush it."""

    sender: str = msgspec.field(name="from")
    body: str
    target: str
    mode: str
    queued_at_ms: int
    event_id: str
    message_id: str
    delivery_id: str
    held_since_ms: int
    until_ms: int
    in_custody: bool
    priority: int | UnsetType = UNSET
    thread_id: str | UnsetType = UNSET
    workspace_id: str | UnsetType = UNSET


class DeadLetterView(Answer, frozen=True, kw_only=True):
    """A message that could not be typed. What it says is shown where one letter is asked for."""

    id: str
    delivery_id: str
    event_id: str
    message_id: str
    name: str
    agent_id: str
    seq: int | None
    sender: str = msgspec.field(name="from")
    reason: str
    why: str
    detail: str
    in_doubt: bool
    attempt: int
    tries: int
    queued_at_ms: int
    dead_lettered_at_ms: int
    age_ms: int
    body: str | UnsetType = UNSET
    body_bytes: int | UnsetType = UNSET
    target: str | UnsetType = UNSET


class BrokerMetrics(Answer, frozen=True, kw_only=True):
    """Totals over the life of the log."""

    uptime_secs: int
    total_agents_spawned: int
    total_crashes: int
    total_restarts: int
    active_agents: int


# --- what was asked for and is done ----------------------------------------------------------------------------------------


class Spawned(Answer, frozen=True, kw_only=True):
    """The agent is live. `warning`: what is otherwise than the caller may think; `replayed`: the answer that the same key had before."""

    success: bool
    name: str
    runtime: str
    model: str | None
    session_id: str = msgspec.field(name="sessionId")
    pid: int
    pre_registered: bool
    warning: str | None
    agent_id: str
    channels: list[str]
    channels_pending: list[str] | UnsetType = UNSET
    replayed: bool | UnsetType = UNSET


class Released(Answer, frozen=True, kw_only=True):
    """The agent is gone.

    `existed`: it was there; `pending`: it is being ended; `release_pending`: the engine hears of it when the link is back;
    `end_unconfirmed`: its program's end was not seen.
    """

    success: bool
    name: str
    existed: bool | UnsetType = UNSET
    pending: bool | UnsetType = UNSET
    release_pending: bool | UnsetType = UNSET
    end_unconfirmed: bool | UnsetType = UNSET


class Mode(Answer, frozen=True, kw_only=True):
    """`auto_inject` or `manual_flush`; how many messages are held; log position of the last change, 0 = none."""

    mode: str
    held: int
    revision: int
    flushed: int | UnsetType = UNSET
    """Let through because the hold was lifted."""


class Flushed(Answer, frozen=True, kw_only=True):
    """How many were let through, and how many are held still."""

    flushed: int
    failed: int
    remaining: int


class NewAttempt(Answer, frozen=True, kw_only=True):
    """A message that is tried again."""

    id: str
    attempt: int
    name: str
    event_id: str


class Skipped(Answer, frozen=True, kw_only=True):
    """A letter that stays where it is, and why."""

    id: str
    code: str
    message: str


class Redelivered(Answer, frozen=True, kw_only=True):
    """What became of each letter."""

    success: bool
    redelivered: list[NewAttempt]
    skipped: list[Skipped]


class Purged(Answer, frozen=True, kw_only=True):
    """The letters that are off the list."""

    success: bool
    purged: list[str]


class Sent(Answer, frozen=True, kw_only=True):
    """The message is published, or stored and published later (`publish_pending`); `replayed`: the answer that the same key had before."""

    success: bool
    event_id: str
    local: bool
    published: bool = msgspec.field(name="relaycast_published")
    publish_pending: bool | UnsetType = UNSET
    message_id: str | None
    recipient_live: bool | None
    targets: list[str]
    queued: int
    rejected: list[str]
    workspace_id: str
    workspace_alias: str | None
    sent_as: str
    thread_used: bool
    mode_used: str
    delivered: int | UnsetType = UNSET
    stage: str | UnsetType = UNSET
    replayed: bool | UnsetType = UNSET


JsonObject = dict[str, Any]
"""An object whose shape somebody else decides."""


class ResultTaken(Answer, frozen=True, kw_only=True):
    """The result is recorded. `replayed`: it was handed in before."""

    success: bool
    name: str
    result_id: str
    final: bool
    replayed: bool | UnsetType = UNSET
