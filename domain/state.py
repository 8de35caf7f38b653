"""The broker's whole state: a fold of its log, and nothing that the log does not say.

Everything here is plain data. Finished entities leave as soon as nothing can refer to them any more, so that the size of the state follows
live work, not history. `encode` and `decode` make the snapshot: discardable, never upcast.

Source: design/architecture.md sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from relaybroker.domain import (
    action as action_machine,
)
from relaybroker.domain import (
    agent as agent_machine,
)
from relaybroker.domain import (
    delivery,
    worker,
)
from relaybroker.domain import (
    link as link_machine,
)
from relaybroker.domain import (
    message as message_machine,
)
from relaybroker.domain import (
    sidecar as sidecar_machine,
)
from relaybroker.domain.announcements import Announced
from relaybroker.domain.dead_letter import DeadLetter
from relaybroker.domain.decoding import NOT_READABLE
from relaybroker.domain.events import Harness
from relaybroker.domain.inputs import Settings, SpawnSpec, Supervision
from relaybroker.domain.mailbox import Mailbox
from relaybroker.domain.manifest import Manifest, of_operator, with_sidecar
from relaybroker.domain.reasons import Reason
from relaybroker.domain.replies import ActAnswer, SendAnswer

ANNOUNCED_KEPT = 4096
"""Message ids that are remembered so that none is announced twice."""
GENERATIONS_KEPT = 4096
"""Names of former agents whose generation is remembered one by one."""
MAILBOXES_KEPT = 1024
"""Former agents whose place in their sequence is remembered."""
ANNOUNCEMENTS_KEPT = 2048
"""Announcements kept for local clients that come back (local-api.md asks for at least 1000)."""
POSTED_KEPT = 4096
"""Direct messages of agents that are remembered, to tell their senders if they come to nothing."""
ACTED_KEPT = 2048
"""Acts with a key that are remembered, each with its answer."""
NOTICED_KEPT = 4096
"""Notices that are remembered, so that none is made twice."""
SNAPSHOT_FORMAT = 6


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


class Membership(msgspec.Struct):
    """An agent in one channel that it was spawned for."""

    channel: str
    joined: bool = False
    call_id: str = ""
    """The call that is under way; "" = none."""
    tries: int = 0
    retry_at: float = 0.0
    """When the engine is asked again; 0 = it is being asked, or has answered."""
    refused: str = ""
    """Why the engine does not let it in; "" = it has not refused."""


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
    """The registration must have an outcome by then."""
    reserved_at: float
    agent_id: str = ""
    invocation_id: str = ""
    request_id: str = ""
    release_requests: list[str] = msgspec.field(default_factory=list)
    release_invocations: list[str] = msgspec.field(default_factory=list)
    live_at: float = 0.0
    final_result: str = ""
    """Of its last result: the id, and behind a blank what it was made of."""
    hinted: bool = False
    fingerprint: str = ""
    """Of the agent's newest token."""
    stale_token: bool = False
    """The token was rotated after the program got it."""
    step: str = ""
    """Which call of the HTTP route is next or under way; see domain/rules/fallback.py."""
    call_id: str = ""
    tries: int = 0
    retry_at: float = 0.0
    """When that call is made again; 0 = it is under way."""
    channels: dict[str, Membership] = msgspec.field(default_factory=dict)
    """Lower-cased channel -> membership, of those that were asked for."""

    @property
    def is_joining(self) -> bool:
        """Whether the engine has yet to say that the agent is in one of its channels, or that it is not let in."""
        return any(not one.joined and not one.refused for one in self.channels.values())

    @property
    def waits_for_link(self) -> bool:
        """Reserved, and `agent.register` has not been sent."""
        return self.state == agent_machine.AgentState.RESERVED


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
    occupied_by: Reason | None = None
    patience_s: float = 0.0
    """What has waited so long for a program that works is typed all the same; 0 = nothing is."""
    active_at: float = 0.0
    idle: bool = False
    typed: int = 0
    last_typed_at: float = 0.0
    stop_reason: Reason | None = None
    ends_at: float = 0.0
    """It is being stopped, and told to end by then at the latest; 0 = it was told, or is not stopped."""
    grace_s: float = 0.0
    exit_reason: Reason | None = None
    code: int | None = None
    signal: int | None = None
    last_output: str = ""
    uptime_s: float = 0.0
    waiting: list[str] = msgspec.field(default_factory=list)
    """Delivery streams held or queued for this worker, in typing order."""
    typing: list[str] = msgspec.field(default_factory=list)
    """Delivery streams that are with the PTY host, in order."""
    draining: bool = False
    """One of these was not typed: nothing more is given to the host before it has said what became of the others."""

    @property
    def ended(self) -> bool:
        """Exited or lost."""
        return self.state in worker.TABLE.terminal

    @property
    def end_due(self) -> float:
        """When it is told to end: the text in its terminal has come to its end, and it had time to read it; 0 = not waited for."""
        return self.ends_at if self.typing else min(self.ends_at, self.last_typed_at + worker.READ_S)

    @property
    def takes_text(self) -> bool:
        """Ready and not blocked or stopping."""
        return self.state in (worker.WorkerState.READY, worker.WorkerState.BUSY)


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
    expires_at: float = 0.0
    tries: int = 0
    failures: int = 0
    """Tries that the terminal itself refused; being handed back because of another one does not count."""
    session_id: str = ""
    text: str = ""
    marker: str = ""
    while_busy: bool = False
    """It was given to the host to be typed also while the program works."""
    verified: bool = False
    doubtful: bool = False
    """An earlier attempt may have been typed."""
    flushed: bool = False
    """A person let it through a hold."""
    stands: bool = False
    """Part of it is in the composer: the host goes on with it when it is asked again, and types nothing else before."""
    aged_s: float = 0.0
    """How long the engine had kept it when it was offered, as far as that is known."""
    in_custody: bool = False
    """The log alone owns it: it counts for the cursor, and the engine need not have it any more."""
    fetch_id: str = ""
    """The fetch of its agent that takes it; "" = none."""
    asked_again: bool = False
    """The host was silent about this try and was asked once more."""

    @property
    def ended(self) -> bool:
        """In a terminal state."""
        return self.state in delivery.TABLE.terminal

    @property
    def is_owed(self) -> bool:
        """The engine has it too, and waits for its acknowledgement."""
        return bool(self.seq) and not self.in_custody

    @property
    def custody_at(self) -> float:
        """When it is taken into custody, if it still waits then."""
        return self.offered_at + max(delivery.CUSTODY_S - self.aged_s, delivery.CUSTODY_SOONEST_S)

    def is_returnable(self, now: float) -> bool:
        """Whether the engine certainly has it and offers it again."""
        return self.is_owed and now < self.offered_at + delivery.CUSTODY_S - self.aged_s

    @property
    def letter_id(self) -> str:
        """What every attempt of this delivery has in common: the name that it has among the dead letters."""
        name = self.stream.removeprefix("delivery:")
        return name.removesuffix(f"#{self.attempt}") if self.attempt > 1 else name


class FlushHold(msgspec.Struct, frozen=True):
    """The messages of an agent's name are held until a person flushes them (`manual_flush`)."""

    name: str
    since: float
    revision: int
    """Log position of its beginning."""
    reason: str = ""


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
    agent_id: str = ""
    handler: str = ""
    """The sidecar connection that runs it; "" = the broker itself."""

    @property
    def reported(self) -> bool:
        """The result was given to a live link."""
        return self.state == action_machine.ActionState.REPORTED


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
    attachments: tuple[str, ...] = ()
    priority: int = message_machine.PRIORITY
    tried_at: float = 0.0
    """When the engine was last asked to publish it."""
    unthreaded: bool = False
    """The engine did not know its thread."""
    strict: bool = False
    """It goes to its thread or nowhere."""
    turned_away: bool = False
    """The engine itself answered the last try, with an error that may pass."""
    unanswered: bool = False
    """Nobody answered the last try."""
    key: str = ""
    joined: list[str] = msgspec.field(default_factory=list)
    """Further local requests with the same key that wait for the same answer."""

    @property
    def waits(self) -> bool:
        """Accepted and due at `until`."""
        return self.state == message_machine.MessageState.ACCEPTED

    @property
    def line(self) -> str:
        """What is published one after the other: messages of one sender to one target."""
        return f"{self.author_id} {self.to.lower()}"

    @property
    def holds_line(self) -> bool:
        """Whether later messages of its line wait for it."""
        failed = self.tries if self.waits else self.tries - 1
        return not (self.turned_away and failed >= message_machine.HOLDS_LINE_TRIES)


MARK_READ = "mark_message_read"
"""The act by which an agent says that it has read a message."""


class Act(msgspec.Struct, frozen=True):
    """Something that an agent asks the engine for in its own name."""

    stream: str
    """Of its registration."""
    request_id: str
    agent_id: str = ""
    reads: str = ""
    """The message that it marks as read."""
    key: str = ""


class Acted(msgspec.Struct):
    """What is remembered of an act with a key."""

    act: str
    arguments: dict[str, Any]
    answer: ActAnswer | None = None
    """None = the engine has not answered yet."""


class Send(msgspec.Struct):
    """What is remembered of a caller's key."""

    fingerprint: str
    stream: str
    at: float
    answer: SendAnswer | None = None
    """None = nobody was answered yet."""


class Sidecar(msgspec.Struct):
    """The sidecar that is connected."""

    stream: str
    connection: str
    since: float
    state: str = sidecar_machine.TABLE.initial
    handlers: tuple[str, ...] = ()
    manifest_request: str = ""
    """Local request that waits for the engine to take its manifest."""
    register_id: str = ""
    """The `node.register` whose answer that is."""

    def proven(self, now: float) -> bool:
        """Whether it has been connected long enough for its start to have succeeded."""
        return now - self.since >= sidecar_machine.STABLE_S


class Supervised(msgspec.Struct):
    """The program behind a sidecar, and how often it was started."""

    how: Supervision
    restarts: int = 0
    failures: int = 0
    until: float = 0.0
    """When it is started; 0 = not planned."""


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
    """Lower-case agent name -> its newest generation, least recently spawned first."""
    generation_floor: int = 0
    """The highest generation of a name that was forgotten: names that are not remembered go on above it."""
    agents: dict[str, str] = msgspec.field(default_factory=dict)
    """Agent id -> stream of the registration that holds it."""
    workers: dict[str, Worker] = msgspec.field(default_factory=dict)
    """By session id."""
    mailboxes: dict[str, Mailbox] = msgspec.field(default_factory=dict)
    """By agent id, least recently opened first."""
    deliveries: dict[str, Delivery] = msgspec.field(default_factory=dict)
    flush_holds: dict[str, FlushHold] = msgspec.field(default_factory=dict)
    """Lower-case agent name -> its hold, where its delivery mode is `manual_flush`."""
    dead_letters: dict[str, DeadLetter] = msgspec.field(default_factory=dict)
    """By letter id, oldest first."""
    custody_letters: int = 0
    """How many of them are of messages that had been in custody."""
    expiries: dict[str, float] = msgspec.field(default_factory=dict)
    """Streams of waiting deliveries that expire -> when."""
    actions: dict[str, Action] = msgspec.field(default_factory=dict)
    messages: dict[str, Message] = msgspec.field(default_factory=dict)
    lines: dict[str, list[str]] = msgspec.field(default_factory=dict)
    """Line -> streams of its open messages, in the order in which they are published."""
    sends: dict[str, Send] = msgspec.field(default_factory=dict)
    """By the callers' keys, oldest first."""
    announced: dict[str, str] = msgspec.field(default_factory=dict)
    """Message ids that local clients were told of, oldest first -> the stream with which they were."""
    posted: dict[str, str] = msgspec.field(default_factory=dict)
    """Direct messages that agents sent from here, oldest first: message id -> agent id."""
    noticed: dict[str, None] = msgspec.field(default_factory=dict)
    """What notices were about, oldest first."""
    calls: dict[str, str] = msgspec.field(default_factory=dict)
    """Open engine calls of agents (channel joins): call id -> registration stream."""
    acted: dict[str, Acted] = msgspec.field(default_factory=dict)
    """Acts with a key, by it, oldest first."""
    acts: dict[str, Act] = msgspec.field(default_factory=dict)
    """What agents have asked the engine for, by call id; the engine has not answered."""
    unfinished: dict[str, None] = msgspec.field(default_factory=dict)
    """Streams of invocations that are not reported yet, oldest first."""
    sidecar: Sidecar | None = None
    handler_grace: dict[str, float] = msgspec.field(default_factory=dict)
    """`spawn:` handlers of a sidecar that dropped -> until when they wait for it."""
    supervised: Supervised | None = None
    sidecar_manifest: Manifest | None = None
    """What the sidecar registered; None = the operator's manifest alone."""
    counters: Counters = msgspec.field(default_factory=Counters)
    notified: int = 0
    announcements: list[Announced] = msgspec.field(default_factory=list)

    @property
    def manifest(self) -> Manifest:
        """What the node offers now, its own version filled in."""
        assert self.settings is not None
        operator = of_operator(self.settings.capabilities, self.settings.max_agents)
        offered = operator if self.sidecar_manifest is None else with_sidecar(operator, self.sidecar_manifest)
        return offered if offered.version else msgspec.structs.replace(offered, version=self.settings.version)

    @property
    def has_handlers(self) -> bool:
        """Whether a sidecar serves at least one handler."""
        return self.sidecar is not None and bool(self.sidecar.handlers)

    def open_actions(self) -> list[Action]:
        """Invocations that are not reported yet, oldest first."""
        return [self.actions[stream] for stream in self.unfinished]

    @property
    def node_name(self) -> str:
        """What the node calls itself at the engine."""
        named = self.sidecar_manifest.name.strip() if self.sidecar_manifest else ""
        return named or self.link.node_name

    def registration_of(self, name: str) -> Registration | None:
        """The registration that holds a name now, whatever its spelling."""
        stream = self.names.get(name.lower())
        return self.registrations.get(stream) if stream else None

    def firsts(self) -> Iterator[Message]:
        """The open messages that no other one of their line holds back."""
        for line in self.lines.values():
            for stream in line:
                yield self.messages[stream]
                if self.messages[stream].holds_line:
                    break

    def spent_keys(self, now: float) -> Iterator[str]:
        """Keys that may be forgotten if there is need, oldest first."""
        for key, known in self.sends.items():
            if known.at > now - message_machine.KEY_S:
                return
            if known.stream not in self.messages:
                yield key

    def announce(self, message_id: str, stream: str) -> None:
        """Note with which event local clients are told of a message: the first that there is."""
        if message_id not in self.announced:
            _remember(self.announced, message_id, stream, ANNOUNCED_KEPT)

    def remember_posted(self, message_id: str, agent_id: str) -> None:
        """Note who sent a direct message."""
        _remember(self.posted, message_id, agent_id, POSTED_KEPT)

    def remember_acted(self, key: str, acted: Acted) -> None:
        """Note what an agent asked for under a key."""
        _remember(self.acted, key, acted, ACTED_KEPT)

    def remember_noticed(self, about: str) -> None:
        """Note that somebody was told."""
        _remember(self.noticed, about, None, NOTICED_KEPT)

    def next_generation(self, name: str) -> int:
        """The generation of this name's next registration: one that no registration of it ever had."""
        return self.generations.get(name.lower(), self.generation_floor) + 1

    @property
    def is_registering(self) -> bool:
        """Whether the engine may have an agent registered here of which this broker does not know yet."""
        return any(found.state in agent_machine.ASKED for found in self.registrations.values())

    def worker_of_agent(self, agent_id: str) -> Worker | None:
        """The worker of the registration that holds this agent id."""
        stream = self.agents.get(agent_id)
        found = self.registrations.get(stream) if stream else None
        return self.workers.get(found.session_id) if found else None

    def acting(self, agent_id: str) -> Registration | None:
        """The registration under which this agent may act; None unless it is registered here and not leaving."""
        found = self.registrations.get(self.agents.get(agent_id, ""))
        may = found is not None and found.state in (agent_machine.AgentState.REGISTERED, agent_machine.AgentState.LIVE)
        return found if may else None

    def is_flushed_by_hand(self, name: str) -> bool:
        """Whether the messages of this agent wait for a person."""
        return bool(self.flush_holds) and name.lower() in self.flush_holds

    def live_registrations(self) -> list[Registration]:
        """Every registration that belongs into the inventory: registered here and not leaving, oldest first."""
        states = (agent_machine.AgentState.REGISTERED, agent_machine.AgentState.LIVE)
        return [found for found in self.registrations.values() if found.state in states]


def _remember(known: dict[str, Any], key: str, value: Any, limit: int) -> None:
    """Keep the newest ones."""
    known[key] = value
    while len(known) > limit:
        del known[next(iter(known))]


def encode(state: State) -> bytes:
    """The state as snapshot bytes."""
    return msgspec.json.encode((SNAPSHOT_FORMAT, state))  # JSON: peers may send integers beyond 64 bits


def decode(data: bytes) -> State | None:
    """The state from snapshot bytes; None if they are of another format (then the log is folded from its beginning)."""
    try:
        version, state = msgspec.json.decode(data, type=tuple[int, State])
    except NOT_READABLE:
        return None
    return state if version == SNAPSHOT_FORMAT else None
