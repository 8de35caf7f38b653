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
from typing import Any

from relaybroker.domain.events.action import (
    ActionDone,
    ActionHeld,
    ActionReceived,
    ActionRepeated,
    ActionReported,
    ActionResent,
    ActionRunning,
)
from relaybroker.domain.events.agent import (
    ActAnswered,
    ActAsked,
    AgentBinding,
    AgentLeaving,
    AgentLive,
    AgentRetired,
    AgentTokenRotated,
    ChannelAnswered,
    ChannelAsked,
    Harness,
    LateRegistrationKept,
    LateRegistrationRefused,
    NameReserved,
    RegistrationAccepted,
    RegistrationAsked,
    RegistrationCalled,
    RegistrationDelayed,
    RegistrationFailed,
    RegistrationFellBack,
    RegistrationPaused,
    RegistrationProven,
    ReleaseAsked,
    SpawnAnswered,
)
from relaybroker.domain.events.base import (
    Event,
    Kind,
    Recorded,
)
from relaybroker.domain.events.broker import (
    BrokerLeft,
    BrokerStarted,
    BrokerStopping,
    CallUnmatched,
    OwnIdentityGranted,
    OwnIdentityRefused,
    OwnIdentityRequested,
    ReleaseIgnored,
    RequestRefused,
    ShutdownRepeated,
)
from relaybroker.domain.events.dead_letter import (
    DeadLetterRemoved,
    DeadLettersAsked,
    RedeliverySkipped,
)
from relaybroker.domain.events.delivery import (
    DeliveryAcked,
    DeliveryAskedAgain,
    DeliveryDeadLettered,
    DeliveryDropped,
    DeliveryHandedBack,
    DeliveryHeld,
    DeliveryInjected,
    DeliveryInjecting,
    DeliveryOffered,
    DeliveryQueued,
    DeliveryTakenOver,
    DeliveryVerified,
)
from relaybroker.domain.events.hold import (
    DeliveryModeAsked,
    DeliveryModeChanged,
    FlushAsked,
    PendingDrained,
)
from relaybroker.domain.events.host import (
    HostAttachDue,
    HostAttached,
    HostLost,
    HostReportIgnored,
    WorkerBlocked,
    WorkerEndAsked,
    WorkerExited,
    WorkerFreed,
    WorkerIdle,
    WorkerLaunched,
    WorkerLost,
    WorkerOccupied,
    WorkerReady,
    WorkerStarted,
    WorkerStopping,
    WorkerUnblocked,
)
from relaybroker.domain.events.link import (
    DeliveryFailureHeard,
    EngineErrorReceived,
    FrameNoted,
    FrameRejected,
    HeartbeatDue,
    InventoryPublished,
    InventoryRejected,
    LinkBackedOff,
    LinkBegun,
    LinkDialled,
    LinkDraining,
    LinkOnline,
    LinkOpened,
    LinkRefused,
    LinkReportIgnored,
    LinkShut,
    NodeNameSettled,
    NodeReregistering,
    TokenAsked,
    TokenGranted,
)
from relaybroker.domain.events.mailbox import (
    AckSent,
    FrameBuffered,
    FrameIgnored,
    MailboxBased,
    MailboxOpened,
    RangeLost,
    ResyncAsked,
)
from relaybroker.domain.events.message import (
    MessageAccepted,
    MessageAnswered,
    MessageJoined,
    MessagePublished,
    MessagePublishing,
    MessageRefused,
    MessageReplyKept,
    MessageUnthreaded,
    MessageWaiting,
    SendRepeated,
)
from relaybroker.domain.events.sidecar import (
    ManifestChanged,
    ManifestSettled,
    SidecarConnected,
    SidecarGone,
    SidecarPaused,
    SidecarProcessEnded,
    SidecarReportIgnored,
    SidecarRestartPlanned,
    SidecarServing,
    SidecarStarting,
    SupervisionChanged,
    SupervisionEnded,
)

__all__ = [
    "REGISTRY",
    "UPCASTERS",
    "AckSent",
    "ActAnswered",
    "ActAsked",
    "ActionDone",
    "ActionHeld",
    "ActionReceived",
    "ActionRepeated",
    "ActionReported",
    "ActionResent",
    "ActionRunning",
    "AgentBinding",
    "AgentLeaving",
    "AgentLive",
    "AgentRetired",
    "AgentTokenRotated",
    "BrokerLeft",
    "BrokerStarted",
    "BrokerStopping",
    "CallUnmatched",
    "ChannelAnswered",
    "ChannelAsked",
    "DeadLetterRemoved",
    "DeadLettersAsked",
    "DeliveryAcked",
    "DeliveryAskedAgain",
    "DeliveryDeadLettered",
    "DeliveryDropped",
    "DeliveryFailureHeard",
    "DeliveryHandedBack",
    "DeliveryHeld",
    "DeliveryInjected",
    "DeliveryInjecting",
    "DeliveryModeAsked",
    "DeliveryModeChanged",
    "DeliveryOffered",
    "DeliveryQueued",
    "DeliveryTakenOver",
    "DeliveryVerified",
    "EngineErrorReceived",
    "Event",
    "FlushAsked",
    "FrameBuffered",
    "FrameIgnored",
    "FrameNoted",
    "FrameRejected",
    "Harness",
    "HeartbeatDue",
    "HostAttachDue",
    "HostAttached",
    "HostLost",
    "HostReportIgnored",
    "InventoryPublished",
    "InventoryRejected",
    "Kind",
    "LateRegistrationKept",
    "LateRegistrationRefused",
    "LinkBackedOff",
    "LinkBegun",
    "LinkDialled",
    "LinkDraining",
    "LinkOnline",
    "LinkOpened",
    "LinkRefused",
    "LinkReportIgnored",
    "LinkShut",
    "MailboxBased",
    "MailboxOpened",
    "ManifestChanged",
    "ManifestSettled",
    "MessageAccepted",
    "MessageAnswered",
    "MessageJoined",
    "MessagePublished",
    "MessagePublishing",
    "MessageRefused",
    "MessageReplyKept",
    "MessageUnthreaded",
    "MessageWaiting",
    "NameReserved",
    "NodeNameSettled",
    "NodeReregistering",
    "OwnIdentityGranted",
    "OwnIdentityRefused",
    "OwnIdentityRequested",
    "PendingDrained",
    "RangeLost",
    "Recorded",
    "RedeliverySkipped",
    "RegistrationAccepted",
    "RegistrationAsked",
    "RegistrationCalled",
    "RegistrationDelayed",
    "RegistrationFailed",
    "RegistrationFellBack",
    "RegistrationPaused",
    "RegistrationProven",
    "ReleaseAsked",
    "ReleaseIgnored",
    "RequestRefused",
    "ResyncAsked",
    "SendRepeated",
    "ShutdownRepeated",
    "SidecarConnected",
    "SidecarGone",
    "SidecarPaused",
    "SidecarProcessEnded",
    "SidecarReportIgnored",
    "SidecarRestartPlanned",
    "SidecarServing",
    "SidecarStarting",
    "SpawnAnswered",
    "SupervisionChanged",
    "SupervisionEnded",
    "TokenAsked",
    "TokenGranted",
    "WorkerBlocked",
    "WorkerEndAsked",
    "WorkerExited",
    "WorkerFreed",
    "WorkerIdle",
    "WorkerLaunched",
    "WorkerLost",
    "WorkerOccupied",
    "WorkerReady",
    "WorkerStarted",
    "WorkerStopping",
    "WorkerUnblocked",
]


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
