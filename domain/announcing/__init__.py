"""Which events are announced to local clients, and as what: a pure function of an event and the state after it, one module per subject.

Every event has its place: in `ANNOUNCED` with what is told of it, or in `SILENT`; a test walks them all. Numbers are given by the
fold, so they go on over restarts.

Source: spec/local-api.md section 2.
"""

from __future__ import annotations

from types import MappingProxyType

from relaybroker.domain import events
from relaybroker.domain.announcing import agents, deliveries, engine
from relaybroker.domain.announcing.signature import Announcements, Announcing
from relaybroker.domain.events import Event, Recorded
from relaybroker.domain.state import State

ANNOUNCED: Announcing = MappingProxyType({**agents.ANNOUNCED, **deliveries.ANNOUNCED, **engine.ANNOUNCED})
"""Event -> what local clients are told of it."""


def announcements_of(state: State, recorded: Recorded) -> Announcements:
    """What local clients are told of a recorded event, in order."""
    tell = ANNOUNCED.get(type(recorded.event))
    return () if tell is None else tell(state, recorded.event, recorded)


SILENT: frozenset[type[Event]] = frozenset(
    {
        events.ActionHeld,
        events.ActionReceived,
        events.ActionRepeated,
        events.ActionResent,
        events.ActAsked,
        events.ActRepeated,
        events.AgentBinding,
        events.ChannelAsked,
        events.LateRegistrationKept,
        events.LateRegistrationRefused,
        events.AgentLeaving,
        events.NameReserved,
        events.RegistrationAccepted,
        events.RegistrationAsked,
        events.RegistrationCalled,
        events.RegistrationDelayed,
        events.RegistrationFailed,
        events.RegistrationFellBack,
        events.RegistrationPaused,
        events.RegistrationProven,
        events.ReleaseAsked,
        events.AgentRetired,
        events.SpawnAnswered,
        events.SpawnKeyAnswered,
        events.SpawnRepeated,
        events.SummarySaved,
        events.CallUnmatched,
        events.DeadLettersAsked,
        events.BrokerLeft,
        events.ClockLeapt,
        events.OwnIdentityGranted,
        events.OwnIdentityRefused,
        events.OwnIdentityRequested,
        events.ReleaseIgnored,
        events.RequestRefused,
        events.SendRepeated,
        events.ShutdownRepeated,
        events.BrokerStarted,
        events.BrokerStopping,
        events.RedeliverySkipped,
        events.DeliveryAskedAgain,
        events.DeliveryDoubted,
        events.DeliveryLookedUp,
        events.DoorChosen,
        events.DeliveryInjecting,
        events.DeliveryRecognised,
        events.FetchAsked,
        events.FetchDone,
        events.FlushAsked,
        events.DeliveryModeAsked,
        events.HostAttachDue,
        events.HostAttached,
        events.HostLost,
        events.HostReportIgnored,
        events.TerminalSized,
        events.TerminalTyped,
        events.EarlyFrameKept,
        events.ModelSwitched,
        events.StrangerMet,
        events.EnrolAsked,
        events.LinkBegun,
        events.LinkDialled,
        events.LinkDraining,
        events.FrameNoted,
        events.HeartbeatDue,
        events.InventoryPublished,
        events.InventoryRejected,
        events.NodeNameSettled,
        events.LinkOpened,
        events.LinkReportIgnored,
        events.NodeReregistering,
        events.TokenAsked,
        events.TokenGranted,
        events.AckSent,
        events.MailboxBased,
        events.FrameBuffered,
        events.MailboxOpened,
        events.MessageAccepted,
        events.MessageAnswered,
        events.MessageJoined,
        events.MessagePublishing,
        events.MessageReplyKept,
        events.MessageUnthreaded,
        events.SidecarConnected,
        events.SidecarGone,
        events.ManifestChanged,
        events.ManifestSettled,
        events.SidecarPaused,
        events.SidecarProcessEnded,
        events.SidecarReportIgnored,
        events.SidecarRestartPlanned,
        events.SidecarServing,
        events.SidecarStarting,
        events.SupervisionChanged,
        events.SupervisionEnded,
        events.WorkerEndAsked,
        events.WorkerFreed,
        events.WorkerLaunched,
        events.WorkerOccupied,
        events.WorkerStarted,
        events.WorkerUnblocked,
    }
)
"""Events of which local clients are told nothing."""
