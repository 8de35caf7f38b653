"""The broker's whole state: a fold of its log, and nothing that the log does not say.

Everything is plain data (`relaybroker.domain.entities`). Finished entities leave as soon as nothing can refer to them any more, so that the
size of the state follows live work, not history. `encode` and `decode` make the snapshot: discardable, never upcast.

Source: design/architecture.md sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from relaybroker.domain import (
    agent as agent_machine,
)
from relaybroker.domain import (
    message as message_machine,
)
from relaybroker.domain.announcements import Announced
from relaybroker.domain.dead_letter import DeadLetter
from relaybroker.domain.decoding import NOT_READABLE
from relaybroker.domain.delivery import LOCAL
from relaybroker.domain.entities import (
    Act,
    Acted,
    Action,
    CopyToCome,
    Counters,
    Crash,
    Delivery,
    FlushHold,
    Host,
    Link,
    Message,
    OwnIdentity,
    Pair,
    Registration,
    SeenMessage,
    Send,
    Sent,
    Sidecar,
    SpawnKey,
    Stranger,
    Supervised,
    Worker,
)
from relaybroker.domain.inputs import Settings
from relaybroker.domain.mailbox import Mailbox
from relaybroker.domain.manifest import Manifest, of_operator, with_sidecar

STRANGERS_KEPT = 64
"""Agents that are not here and of which it is remembered what came for them."""
STRANGER_FRAMES_KEPT = 512
"""Frames of such an agent that are known again when they are repeated."""
MEMBERSHIP_ACTS = ("join_channel", "create_channel", "leave_channel")
"""What changes in which channels an agent is."""
MEMBERSHIPS_KEPT = 256
"""Channels of which it is remembered that an agent joined or left them."""
CRASHES_KEPT = 500
SEEN_KEPT = 1000
"""Messages of which it is remembered to which thread they belong."""
SEEN_TEXT = 256
"""Characters that are kept of each."""
MODE_CHANGES_KEPT = 1024
"""Agent names of which it is remembered when their delivery mode changed."""
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
PAIRS_KEPT = 4096
"""Messages between two agents here of which it is remembered between whom, and as what the engine knows them."""
NOTICED_KEPT = 4096
"""Notices that are remembered, so that none is made twice."""
SNAPSHOT_FORMAT = 12


class State(msgspec.Struct):
    """All of it."""

    position: int = 0
    now: float = 0.0
    settings: Settings | None = None
    boot_id: str = ""
    machine_boot: str = ""
    """Which run of the machine the newest process belongs to; "" = not known."""
    doubt_before: float = 0.0
    """What was posted before this moment may have been typed before the machine crashed, and the record lost; 0 = it never crashed."""
    started_at: float = 0.0
    leapt_s: float = 0.0
    """By how much the clock has leapt in all: no age of anything that is here."""
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
    doubts: dict[str, None] = msgspec.field(default_factory=dict)
    """Streams of deliveries in doubt, oldest first."""
    flush_holds: dict[str, FlushHold] = msgspec.field(default_factory=dict)
    """Lower-case agent name -> its hold, where its delivery mode is `manual_flush`."""
    mode_changes: dict[str, int] = msgspec.field(default_factory=dict)
    """Lower-case agent name -> log position of the last change of its delivery mode, oldest first."""
    mode_changes_floor: int = 0
    """The newest of those that were forgotten."""
    dead_letters: dict[str, DeadLetter] = msgspec.field(default_factory=dict)
    """By letter id, oldest first."""
    custody_letters: int = 0
    """How many of them are of messages that had been in custody."""
    waiting_of: dict[str, int] = msgspec.field(default_factory=dict)
    """Sender -> how many of its messages that the engine offered are neither typed nor ended."""
    expiries: dict[str, float] = msgspec.field(default_factory=dict)
    """Streams of waiting deliveries that expire -> when."""
    actions: dict[str, Action] = msgspec.field(default_factory=dict)
    messages: dict[str, Message] = msgspec.field(default_factory=dict)
    lines: dict[str, list[str]] = msgspec.field(default_factory=dict)
    """Line -> streams of its open messages, in the order in which they are published."""
    sends: dict[str, Send] = msgspec.field(default_factory=dict)
    """By the callers' keys, oldest first."""
    spawn_keys: dict[str, SpawnKey] = msgspec.field(default_factory=dict)
    """Those of spawns, oldest first."""
    announced: dict[str, str] = msgspec.field(default_factory=dict)
    """Message ids that local clients were told of, oldest first -> the stream with which they were."""
    posted: dict[str, str] = msgspec.field(default_factory=dict)
    """Direct messages that agents sent from here, oldest first: message id -> agent id."""
    noticed: dict[str, None] = msgspec.field(default_factory=dict)
    """What notices were about, oldest first."""
    sent: dict[str, Sent] = msgspec.field(default_factory=dict)
    """What was sent through this broker, by the id that the engine gave it, oldest first."""
    pairs: dict[str, Pair] = msgspec.field(default_factory=dict)
    """Messages between two agents here, oldest first: id at the engine -> who they are."""
    published_as: dict[str, str] = msgspec.field(default_factory=dict)
    """The same messages: id here -> id at the engine."""
    copies_to_come: dict[str, CopyToCome] = msgspec.field(default_factory=dict)
    """What was given to agents here before the engine had it, by the id that the engine gave it, oldest first."""
    strangers: dict[str, Stranger] = msgspec.field(default_factory=dict)
    """By agent id, least recently met first."""
    crashes: list[Crash] = msgspec.field(default_factory=list)
    """The newest of them, oldest first."""
    seen_messages: list[SeenMessage] = msgspec.field(default_factory=list)
    """The newest messages, oldest first."""
    first_message_at: float = 0.0
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

    def spent_spawn_keys(self, now: float) -> Iterator[str]:
        """Those of spawns, likewise."""
        for key, known in self.spawn_keys.items():
            if known.at > now - message_machine.KEY_S:
                return
            if known.answer is not None:
                yield key

    def announce(self, message_id: str, stream: str) -> None:
        """Note with which event local clients are told of a message: the first that there is."""
        if message_id not in self.announced:
            _remember(self.announced, message_id, stream, ANNOUNCED_KEPT)

    def remember_posted(self, message_id: str, agent_id: str) -> None:
        """Note who sent a direct message."""
        _remember(self.posted, message_id, agent_id, POSTED_KEPT)

    def remember_pair(self, message_id: str, event_id: str, pair: Pair) -> None:
        """Note between whom a message was, and both of its ids."""
        _remember(self.pairs, message_id, pair, PAIRS_KEPT)
        _remember(self.published_as, event_id, message_id, PAIRS_KEPT)

    def awaits_copy(self, delivery: Delivery) -> bool:
        """Whether the message of a delivery from the outbox has yet to come back from the engine."""
        if delivery.source != LOCAL or delivery.seq is not None:
            return False
        message = self.messages.get(f"message:{delivery.msg_id}")
        if message is not None:
            return message.early == delivery.stream
        coming = self.copies_to_come.get(self.published_as.get(delivery.msg_id, ""))
        return coming is not None and coming.stream == delivery.stream

    def remember_acted(self, key: str, acted: Acted) -> None:
        """Note what an agent asked for under a key."""
        _remember(self.acted, key, acted, ACTED_KEPT)

    def remember_noticed(self, about: str) -> None:
        """Note that somebody was told."""
        _remember(self.noticed, about, None, NOTICED_KEPT)

    def crashed(self, crash: Crash) -> None:
        """A program ended although nobody wanted it to."""
        self.counters.crashed += 1
        self.crashes.append(crash)
        del self.crashes[:-CRASHES_KEPT]

    def remember_sent(self, message_id: str, sent: Sent) -> None:
        """Note how a message of the engine was sent from here."""
        self.sent.setdefault(message_id, sent)
        while len(self.sent) > ANNOUNCED_KEPT:
            del self.sent[next(iter(self.sent))]

    def next_generation(self, name: str) -> int:
        """The generation of this name's next registration: one that no registration of it ever had."""
        return self.generations.get(name.lower(), self.generation_floor) + 1

    @property
    def is_registering(self) -> bool:
        """Whether the engine may have an agent registered here of which this broker does not know yet."""
        return any(registration.state in agent_machine.ASKED for registration in self.registrations.values())

    def worker_of_agent(self, agent_id: str) -> Worker | None:
        """The worker of the registration that holds this agent id."""
        stream = self.agents.get(agent_id)
        registration = self.registrations.get(stream) if stream else None
        return self.workers.get(registration.session_id) if registration else None

    def is_doubted(self, agent_id: str) -> bool:
        """Whether a delivery for this agent is in doubt: nothing behind it is handed over before that is settled."""
        return any(self.deliveries[stream].agent_id == agent_id for stream in self.doubts)

    def acting(self, agent_id: str) -> Registration | None:
        """The registration under which this agent may act; None unless it is registered here and not leaving."""
        registration = self.registrations.get(self.agents.get(agent_id, ""))
        may = registration is not None and registration.state in agent_machine.PRESENT
        return registration if may else None

    def is_flushed_by_hand(self, name: str) -> bool:
        """Whether the messages of this agent wait for a person."""
        return bool(self.flush_holds) and name.lower() in self.flush_holds

    def live_registrations(self) -> list[Registration]:
        """Every registration that belongs into the inventory: registered here and not leaving, oldest first."""
        present = agent_machine.PRESENT
        return [registration for registration in self.registrations.values() if registration.state in present]


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
