"""Every event that is ever recorded: frozen, versioned, with an explicit topic.

* A **fact** was observed outside (a frame came, the host reported, a time was due). A **decision** is ours.
* `trigger` names the transition that the event makes in its stream's machine; an event without one annotates.
* The version of a recorded event is its position in the broker's log: strictly increasing within a stream and unique in the log, so a
  peer that repeats an id can never make two records collide (ADR-0002).
* Topics are for ever. A changed event gets a new version and an upcaster for the old one.

Source: design/architecture.md section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import msgspec

from domain import (
    action_invocation,
    agent_registration,
    delivery,
    node_connection,
    outbound_message,
    worker,
)
from domain.inputs import HostSession, Settings, SpawnSpec
from domain.reasons import Reason

Kind = Literal["fact", "decision"]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Common shape of events. Subclasses say their topic, their machine (stream prefix), kind and trigger."""

    topic: ClassVar[str]
    machine: ClassVar[str]
    kind: ClassVar[Kind] = "decision"
    trigger: ClassVar[str] = ""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An event in its place: which stream, which position, when, and because of what."""

    stream: str
    version: int
    """Position in the broker's log, from 1."""
    at: float
    """Epoch seconds, as the core was told."""
    causation: str
    """Event id of the fact that led to this event; its own id for the fact itself."""
    correlation: str
    """What the event is about across streams: a message id, an invocation id, an agent name, or ""."""
    event: Event

    @property
    def event_id(self) -> str:
        """`<stream>@<version>`, unique in the log."""
        return f"{self.stream}@{self.version}"


# --- broker ------------------------------------------------------------------------------------------------------------


class BrokerStarted(Event, frozen=True, kw_only=True):
    """A broker process took over this log."""

    topic: ClassVar[str] = "broker.started.v1"
    machine: ClassVar[str] = "broker"
    kind: ClassVar[Kind] = "fact"
    boot_id: str
    entropy: str
    settings: Settings
    has_node_token: bool
    has_own_token: bool = False
    own_agent_id: str = ""


class BrokerStopping(Event, frozen=True, kw_only=True):
    """The broker was asked to stop."""

    topic: ClassVar[str] = "broker.stopping.v1"
    machine: ClassVar[str] = "broker"
    kind: ClassVar[Kind] = "fact"
    reason: str
    agents_too: bool
    until: float


class ShutdownRepeated(Event, frozen=True, kw_only=True):
    """The broker was asked to stop once more."""

    topic: ClassVar[str] = "broker.shutdown_repeated.v1"
    machine: ClassVar[str] = "broker"
    kind: ClassVar[Kind] = "fact"
    reason: str


class BrokerLeft(Event, frozen=True, kw_only=True):
    """Everything is said; the process ends."""

    topic: ClassVar[str] = "broker.left.v1"
    machine: ClassVar[str] = "broker"
    reason: str


class RequestRefused(Event, frozen=True, kw_only=True):
    """A local request was refused before anything happened."""

    topic: ClassVar[str] = "broker.request_refused.v1"
    machine: ClassVar[str] = "broker"
    request_id: str
    request: str
    status: int
    code: str
    detail: str


class ReleaseIgnored(Event, frozen=True, kw_only=True):
    """A release named an agent that is not here; it is answered as done."""

    topic: ClassVar[str] = "broker.release_ignored.v1"
    machine: ClassVar[str] = "broker"
    request_id: str
    name: str
    reason: str = ""


class OwnIdentityRequested(Event, frozen=True, kw_only=True):
    """The broker asks the engine for its own agent identity."""

    topic: ClassVar[str] = "broker.own_identity_requested.v1"
    machine: ClassVar[str] = "broker"
    call_id: str
    name: str


class OwnIdentityGranted(Event, frozen=True, kw_only=True):
    """The engine gave the broker its own agent identity."""

    topic: ClassVar[str] = "broker.own_identity_granted.v1"
    machine: ClassVar[str] = "broker"
    kind: ClassVar[Kind] = "fact"
    agent_id: str
    name: str


class OwnIdentityRefused(Event, frozen=True, kw_only=True):
    """The engine did not give the broker its own identity; it is asked again at `until`, or never (`until` 0)."""

    topic: ClassVar[str] = "broker.own_identity_refused.v1"
    machine: ClassVar[str] = "broker"
    kind: ClassVar[Kind] = "fact"
    status: int
    code: str
    detail: str
    until: float


class CallUnmatched(Event, frozen=True, kw_only=True):
    """An engine answer came for a call that is not open (any more)."""

    topic: ClassVar[str] = "broker.call_unmatched.v1"
    machine: ClassVar[str] = "broker"
    kind: ClassVar[Kind] = "fact"
    call_id: str
    status: int
    detail: str = ""


# --- node link ---------------------------------------------------------------------------------------------------------


class _Link(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "node"


class LinkBegun(_Link, frozen=True, kw_only=True):
    """A new incarnation of the link starts `offline`."""

    topic: ClassVar[str] = "link.begun.v1"
    incarnation: int


class TokenAsked(_Link, frozen=True, kw_only=True):
    """A node token is being minted."""

    topic: ClassVar[str] = "link.token_asked.v1"
    trigger: ClassVar[str] = node_connection.Trigger.MINT
    call_id: str
    node_name: str


class TokenGranted(_Link, frozen=True, kw_only=True):
    """The engine gave the node a token (fingerprint only)."""

    topic: ClassVar[str] = "link.token_granted.v1"
    kind: ClassVar[Kind] = "fact"
    node_id: str
    fingerprint: str


class LinkDialled(_Link, frozen=True, kw_only=True):
    """A dial starts."""

    topic: ClassVar[str] = "link.dialled.v1"
    trigger: ClassVar[str] = node_connection.Trigger.CONNECT
    dial: int


class LinkOpened(_Link, frozen=True, kw_only=True):
    """The socket is open; `node.register` goes out with this request id."""

    topic: ClassVar[str] = "link.opened.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = node_connection.Trigger.OPEN
    dial: int
    request_id: str
    until: float


class LinkOnline(_Link, frozen=True, kw_only=True):
    """The engine accepted the registration on this socket."""

    topic: ClassVar[str] = "link.online.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = node_connection.Trigger.ACCEPT
    dial: int


class LinkBackedOff(_Link, frozen=True, kw_only=True):
    """The link is down and will be tried again at `until`."""

    topic: ClassVar[str] = "link.backed_off.v1"
    trigger: ClassVar[str] = node_connection.Trigger.BACK_OFF
    reason: Reason
    detail: str
    delay_s: float
    until: float
    token_dead: bool = False
    """The next attempt mints a new token first."""


class LinkRefused(_Link, frozen=True, kw_only=True):
    """The engine refused this node; probed again at `until` with the same credential."""

    topic: ClassVar[str] = "link.refused.v1"
    trigger: ClassVar[str] = node_connection.Trigger.REFUSE
    reason: Reason
    detail: str
    until: float


class LinkDraining(_Link, frozen=True, kw_only=True):
    """The last frames are on their way."""

    topic: ClassVar[str] = "link.draining.v1"
    trigger: ClassVar[str] = node_connection.Trigger.DRAIN


class LinkShut(_Link, frozen=True, kw_only=True):
    """The link is closed for good in this run."""

    topic: ClassVar[str] = "link.shut.v1"
    trigger: ClassVar[str] = node_connection.Trigger.CLOSE
    detail: str


class LinkReportIgnored(_Link, frozen=True, kw_only=True):
    """Something came from a socket that is not the current one."""

    topic: ClassVar[str] = "link.report_ignored.v1"
    kind: ClassVar[Kind] = "fact"
    dial: int
    detail: str


class FrameRejected(_Link, frozen=True, kw_only=True):
    """A frame could not be used."""

    topic: ClassVar[str] = "link.frame_rejected.v1"
    kind: ClassVar[Kind] = "fact"
    reason: Reason
    frame_type: str
    detail: str


class FrameNoted(_Link, frozen=True, kw_only=True):
    """A frame that asks for nothing (ping, context.update, a reply to a sync)."""

    topic: ClassVar[str] = "link.frame_noted.v1"
    kind: ClassVar[Kind] = "fact"
    frame_type: str
    detail: str = ""


class EngineErrorReceived(_Link, frozen=True, kw_only=True):
    """The engine sent an `error` frame."""

    topic: ClassVar[str] = "link.error_received.v1"
    kind: ClassVar[Kind] = "fact"
    code: str
    message: str
    request_id: str = ""
    request: str = ""
    """Which request it answers; "" when it answers none that is open."""


class HeartbeatDue(_Link, frozen=True, kw_only=True):
    """The heartbeat interval has passed (or the load changed)."""

    topic: ClassVar[str] = "link.heartbeat_due.v1"
    kind: ClassVar[Kind] = "fact"


class InventoryPublished(_Link, frozen=True, kw_only=True):
    """The list of live agents goes to the engine."""

    topic: ClassVar[str] = "link.inventory_published.v1"
    request_id: str
    names: tuple[str, ...]


# --- agent registration --------------------------------------------------------------------------------------------------


class Harness(msgspec.Struct, frozen=True, kw_only=True):
    """How a program wants to be run and talked to: the part of its harness profile that the core needs."""

    profile: str
    comment_prefix: str = ""
    """Put before every typed line, so that a shell or interpreter runs nothing of a message."""
    hint: str = "none"
    """`none`, `line` or `block`: whether the relay hint for language models is typed above a message."""
    model_flag: str = ""
    """Flag that selects a model; "" = the program has none."""


class _Agent(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "agent"


class NameReserved(_Agent, frozen=True, kw_only=True):
    """A spawn begins: the name is taken here; nothing remote has happened."""

    topic: ClassVar[str] = "agent.name_reserved.v1"
    name: str
    generation: int
    session_id: str
    source: str
    """`http_api` or `relaycast_ws`."""
    request_id: str
    """Local request that waits for the outcome, or ""."""
    invocation_id: str
    """Engine invocation that waits for the outcome, or ""."""
    spec: SpawnSpec
    harness: Harness
    argv: tuple[str, ...]
    until: float
    """The spawn must have an outcome by then."""


class RegistrationAsked(_Agent, frozen=True, kw_only=True):
    """`agent.register` goes to the engine."""

    topic: ClassVar[str] = "agent.registration_asked.v1"
    trigger: ClassVar[str] = agent_registration.Trigger.REGISTER
    request_id: str


class RegistrationAccepted(_Agent, frozen=True, kw_only=True):
    """The engine registered the agent; its token is in the vault."""

    topic: ClassVar[str] = "agent.registration_accepted.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = agent_registration.Trigger.ACCEPT
    agent_id: str
    fingerprint: str
    ack_seq: int | None = None


class RegistrationFailed(_Agent, frozen=True, kw_only=True):
    """The spawn ends before the engine said yes."""

    topic: ClassVar[str] = "agent.registration_failed.v1"
    trigger: ClassVar[str] = agent_registration.Trigger.FAIL
    reason: Reason
    code: str
    detail: str


class AgentLive(_Agent, frozen=True, kw_only=True):
    """The program runs and the engine knows it: the spawn succeeded."""

    topic: ClassVar[str] = "agent.live.v1"
    trigger: ClassVar[str] = agent_registration.Trigger.GO_LIVE
    pid: int


class AgentLeaving(_Agent, frozen=True, kw_only=True):
    """The agent ends; the engine must be told."""

    topic: ClassVar[str] = "agent.leaving.v1"
    trigger: ClassVar[str] = agent_registration.Trigger.DEREGISTER
    reason: Reason
    detail: str = ""


class AgentRetired(_Agent, frozen=True, kw_only=True):
    """`agent.deregister` was given to a live link: the registration is over."""

    topic: ClassVar[str] = "agent.retired.v1"
    trigger: ClassVar[str] = agent_registration.Trigger.RETIRE


class ReleaseAsked(_Agent, frozen=True, kw_only=True):
    """Somebody wants the agent released. Several may wait for the same release."""

    topic: ClassVar[str] = "agent.release_asked.v1"
    kind: ClassVar[Kind] = "fact"
    request_id: str = ""
    invocation_id: str = ""
    reason: str = ""


class LateRegistrationRefused(_Agent, frozen=True, kw_only=True):
    """The engine accepted a registration that nobody waits for any more; it is undone."""

    topic: ClassVar[str] = "agent.late_registration_refused.v1"
    kind: ClassVar[Kind] = "fact"
    agent_id: str
    request_id: str


class ChannelAsked(_Agent, frozen=True, kw_only=True):
    """The agent joins a channel, in its own name."""

    topic: ClassVar[str] = "agent.channel_asked.v1"
    channel: str
    call_id: str


class ChannelAnswered(_Agent, frozen=True, kw_only=True):
    """The engine answered the join."""

    topic: ClassVar[str] = "agent.channel_answered.v1"
    kind: ClassVar[Kind] = "fact"
    channel: str
    status: int
    detail: str = ""


# --- PTY host and workers -------------------------------------------------------------------------------------------------


class HostAttached(Event, frozen=True, kw_only=True):
    """The PTY host answered; these are its sessions."""

    topic: ClassVar[str] = "host.attached.v1"
    machine: ClassVar[str] = "host"
    kind: ClassVar[Kind] = "fact"
    host_id: str
    host_pid: int
    sessions: tuple[HostSession, ...]


class HostLost(Event, frozen=True, kw_only=True):
    """The connection to the PTY host ended; it is attached again (or a new one started) at `until`."""

    topic: ClassVar[str] = "host.lost.v1"
    machine: ClassVar[str] = "host"
    kind: ClassVar[Kind] = "fact"
    detail: str
    until: float


class HostAttachDue(Event, frozen=True, kw_only=True):
    """It is time to look for the PTY host again."""

    topic: ClassVar[str] = "host.attach_due.v1"
    machine: ClassVar[str] = "host"
    kind: ClassVar[Kind] = "fact"


class HostReportIgnored(Event, frozen=True, kw_only=True):
    """A host report that changes nothing: repeated, or about a session that is settled."""

    topic: ClassVar[str] = "host.report_ignored.v1"
    machine: ClassVar[str] = "host"
    kind: ClassVar[Kind] = "fact"
    report: int
    session_id: str
    what: str


class _Worker(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "worker"
    kind: ClassVar[Kind] = "fact"


class WorkerLaunched(_Worker, frozen=True, kw_only=True):
    """The host is asked to start the program."""

    topic: ClassVar[str] = "worker.launched.v1"
    kind: ClassVar[Kind] = "decision"
    name: str
    agent_id: str
    until: float


class WorkerStarted(_Worker, frozen=True, kw_only=True):
    """The process exists."""

    topic: ClassVar[str] = "worker.started.v1"
    trigger: ClassVar[str] = worker.Trigger.START
    report: int
    pid: int
    until: float
    """It counts as started when it still lives then."""


class WorkerReady(_Worker, frozen=True, kw_only=True):
    """The program takes input."""

    topic: ClassVar[str] = "worker.ready.v1"
    trigger: ClassVar[str] = worker.Trigger.OPEN
    report: int
    evidence: str


class WorkerBlocked(_Worker, frozen=True, kw_only=True):
    """A dialog or login is on the screen."""

    topic: ClassVar[str] = "worker.blocked.v1"
    trigger: ClassVar[str] = worker.Trigger.BLOCK
    report: int
    pattern: str


class WorkerUnblocked(_Worker, frozen=True, kw_only=True):
    """The dialog is gone."""

    topic: ClassVar[str] = "worker.unblocked.v1"
    trigger: ClassVar[str] = worker.Trigger.UNBLOCK
    report: int


class WorkerIdle(_Worker, frozen=True, kw_only=True):
    """Nothing was printed for a while and nothing is pending."""

    topic: ClassVar[str] = "worker.idle.v1"
    report: int
    idle_s: float


class WorkerStopping(_Worker, frozen=True, kw_only=True):
    """The worker is out of dispatch and is being ended."""

    topic: ClassVar[str] = "worker.stopping.v1"
    kind: ClassVar[Kind] = "decision"
    trigger: ClassVar[str] = worker.Trigger.STOP
    reason: Reason
    grace_s: float
    until: float


class WorkerExited(_Worker, frozen=True, kw_only=True):
    """The process ended, with its own status. `report` 0: the host could not start it at all."""

    topic: ClassVar[str] = "worker.exited.v1"
    trigger: ClassVar[str] = worker.Trigger.EXIT
    report: int
    code: int | None
    signal: int | None
    last_output: str
    uptime_s: float
    reason: Reason


class WorkerLost(_Worker, frozen=True, kw_only=True):
    """Nobody can say any more what became of the process: its host is gone."""

    topic: ClassVar[str] = "worker.lost.v1"
    trigger: ClassVar[str] = worker.Trigger.LOSE
    reason: Reason
    detail: str


# --- delivery -----------------------------------------------------------------------------------------------------------


class _Delivery(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "delivery"


class DeliveryOffered(_Delivery, frozen=True, kw_only=True):
    """A message for an agent was taken on."""

    topic: ClassVar[str] = "delivery.offered.v1"
    kind: ClassVar[Kind] = "fact"
    delivery_id: str
    attempt: int
    agent_id: str
    name: str
    seq: int | None
    """None: a local message; 0: fan-out; else the place in the agent's sequence."""
    msg_id: str
    source: str
    """`engine` or `task`."""
    sender: str
    target: str
    body: str
    thread_id: str = ""
    priority: int | None = None
    mode: str = "wait"
    payload_type: str = ""
    workspace_id: str = ""


class DeliveryHeld(_Delivery, frozen=True, kw_only=True):
    """The message waits, for this reason, until then at the latest."""

    topic: ClassVar[str] = "delivery.held.v1"
    trigger: ClassVar[str] = delivery.Trigger.HOLD
    reason: Reason
    until: float


class DeliveryQueued(_Delivery, frozen=True, kw_only=True):
    """The message may be typed as soon as it is its turn."""

    topic: ClassVar[str] = "delivery.queued.v1"
    trigger: ClassVar[str] = delivery.Trigger.QUEUE


class DeliveryInjecting(_Delivery, frozen=True, kw_only=True):
    """The intent to type it, durable before the terminal is touched."""

    topic: ClassVar[str] = "delivery.injecting.v1"
    trigger: ClassVar[str] = delivery.Trigger.INJECT
    session_id: str
    tries: int
    text: str
    marker: str


class DeliveryInjected(_Delivery, frozen=True, kw_only=True):
    """Body and Enter were written, says the host."""

    topic: ClassVar[str] = "delivery.injected.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = delivery.Trigger.CONFIRM
    report: int
    bytes_written: int
    evidence: str
    wait_ms: float
    repeated: bool = False


class DeliveryHandedBack(_Delivery, frozen=True, kw_only=True):
    """The host did not type it; it is queued again and due at `until`."""

    topic: ClassVar[str] = "delivery.handed_back.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = delivery.Trigger.HAND_BACK
    report: int
    reason: Reason
    until: float


class DeliveryVerified(_Delivery, frozen=True, kw_only=True):
    """The verification window ended."""

    topic: ClassVar[str] = "delivery.verified.v1"
    kind: ClassVar[Kind] = "fact"
    report: int
    verification: str


class DeliveryAcked(_Delivery, frozen=True, kw_only=True):
    """The acknowledgement that covers it was given to the link (`dial` 0: nothing is owed upstream)."""

    topic: ClassVar[str] = "delivery.acked.v1"
    trigger: ClassVar[str] = delivery.Trigger.ACK
    up_to: int
    dial: int


class DeliveryDropped(_Delivery, frozen=True, kw_only=True):
    """Not typed. `settled`: it counts for the cursor; else it is returned and the engine keeps it."""

    topic: ClassVar[str] = "delivery.dropped.v1"
    trigger: ClassVar[str] = delivery.Trigger.DROP
    reason: Reason
    settled: bool
    detail: str = ""
    report: int = 0


class DeliveryDeadLettered(_Delivery, frozen=True, kw_only=True):
    """Not typed and kept for a person; it counts for the cursor."""

    topic: ClassVar[str] = "delivery.dead_lettered.v1"
    trigger: ClassVar[str] = delivery.Trigger.DEAD_LETTER
    reason: Reason
    detail: str = ""
    report: int = 0


# --- mailbox ------------------------------------------------------------------------------------------------------------


class _Mailbox(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "mailbox"


class MailboxOpened(_Mailbox, frozen=True, kw_only=True):
    """An agent id gets its mailbox, or its mailbox a (new) name and generation."""

    topic: ClassVar[str] = "mailbox.opened.v1"
    name: str
    generation: int


class MailboxBased(_Mailbox, frozen=True, kw_only=True):
    """The sequence starts here. `source`: `journal`, `engine`, `first_frame` (seq 1) or `adopted`."""

    topic: ClassVar[str] = "mailbox.based.v1"
    base: int
    source: str


class FrameBuffered(_Mailbox, frozen=True, kw_only=True):
    """A frame waits for earlier ones (or for the base to be known)."""

    topic: ClassVar[str] = "mailbox.frame_buffered.v1"
    kind: ClassVar[Kind] = "fact"
    seq: int
    frame: dict[str, Any]
    until: float


class FrameIgnored(_Mailbox, frozen=True, kw_only=True):
    """A frame that is not taken on. `advances`: it fills its place in the sequence all the same."""

    topic: ClassVar[str] = "mailbox.frame_ignored.v1"
    kind: ClassVar[Kind] = "fact"
    reason: Reason
    seq: int
    msg_id: str
    delivery_id: str
    advances: bool = False


class ResyncAsked(_Mailbox, frozen=True, kw_only=True):
    """`node.register` is repeated so that the engine offers its open rows again."""

    topic: ClassVar[str] = "mailbox.resync_asked.v1"
    tries: int
    first: int
    until: float


class RangeLost(_Mailbox, frozen=True, kw_only=True):
    """These sequence numbers never came; the mailbox goes on behind them."""

    topic: ClassVar[str] = "mailbox.range_lost.v1"
    first: int
    last: int
    reason: Reason = Reason.LOST


class AckSent(_Mailbox, frozen=True, kw_only=True):
    """The floor moved without anything typed; the acknowledgement was given to the link."""

    topic: ClassVar[str] = "mailbox.ack_sent.v1"
    up_to: int
    dial: int


# --- actions ------------------------------------------------------------------------------------------------------------


class _Action(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "action"


class ActionReceived(_Action, frozen=True, kw_only=True):
    """The engine asks for work."""

    topic: ClassVar[str] = "action.received.v1"
    kind: ClassVar[Kind] = "fact"
    invocation_id: str
    action: str
    input: Any
    agent_name: str = ""


class ActionRunning(_Action, frozen=True, kw_only=True):
    """The work begins, once."""

    topic: ClassVar[str] = "action.running.v1"
    trigger: ClassVar[str] = action_invocation.Trigger.RUN
    name: str
    until: float


class ActionDone(_Action, frozen=True, kw_only=True):
    """The work has its result: `output` or, when `error` is not empty, that error. `reason` is the cause of an error."""

    topic: ClassVar[str] = "action.done.v1"
    trigger: ClassVar[str] = action_invocation.Trigger.FINISH
    output: Any = None
    error: str = ""
    reason: Reason | None = None
    detail: str = ""


class ActionReported(_Action, frozen=True, kw_only=True):
    """The result was given to a live link."""

    topic: ClassVar[str] = "action.reported.v1"
    trigger: ClassVar[str] = action_invocation.Trigger.REPORT
    dial: int


class ActionRepeated(_Action, frozen=True, kw_only=True):
    """The engine asked again for an invocation that is known; a stored result is sent again."""

    topic: ClassVar[str] = "action.repeated.v1"
    kind: ClassVar[Kind] = "fact"
    state: str


# --- outbound messages -----------------------------------------------------------------------------------------------------


class _Message(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "message"


class MessageAccepted(_Message, frozen=True, kw_only=True):
    """A local caller handed in a message; it will be published."""

    topic: ClassVar[str] = "message.accepted.v1"
    kind: ClassVar[Kind] = "fact"
    event_id: str
    request_id: str
    to: str
    text: str
    sender: str
    """As the caller gave it."""
    author_id: str
    """Agent id whose token publishes it; "" = the broker's own."""
    answer_by: float
    """The caller is answered by then, whatever the engine does."""
    thread_id: str = ""
    mode: str = "wait"
    data: dict[str, Any] | None = None


class MessagePublishing(_Message, frozen=True, kw_only=True):
    """The engine is asked to publish it."""

    topic: ClassVar[str] = "message.publishing.v1"
    trigger: ClassVar[str] = outbound_message.Trigger.PUBLISH
    call_id: str
    tries: int


class MessageWaiting(_Message, frozen=True, kw_only=True):
    """Publishing failed for now; it is tried again at `until`."""

    topic: ClassVar[str] = "message.waiting.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = outbound_message.Trigger.WAIT
    status: int
    detail: str
    until: float


class MessagePublished(_Message, frozen=True, kw_only=True):
    """The engine has it."""

    topic: ClassVar[str] = "message.published.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = outbound_message.Trigger.CONFIRM
    message_id: str


class MessageRefused(_Message, frozen=True, kw_only=True):
    """It will not be published."""

    topic: ClassVar[str] = "message.refused.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = outbound_message.Trigger.REFUSE
    reason: Reason
    status: int
    code: str
    detail: str


class MessageAnswered(_Message, frozen=True, kw_only=True):
    """The local caller was answered before the engine had the message; it goes on."""

    topic: ClassVar[str] = "message.answered.v1"


def _registry() -> Mapping[str, type[Event]]:
    found: dict[str, type[Event]] = {}
    open_classes: list[type[Event]] = [Event]
    while open_classes:
        for cls in open_classes.pop().__subclasses__():
            open_classes.append(cls)
            if not cls.__name__.startswith("_"):
                if cls.topic in found:
                    raise TypeError(f"two events with topic {cls.topic}")
                found[cls.topic] = cls
    return MappingProxyType(dict(sorted(found.items())))


REGISTRY: Mapping[str, type[Event]] = _registry()
"""Topic -> event class. Unknown topics are refused when a log is read."""

UPCASTERS: Mapping[str, Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]] = MappingProxyType({})
"""Old topic -> function that turns an old body into (newer topic, newer body). None yet: this is the first release."""
