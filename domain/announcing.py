"""Which events are announced to local clients, and as what: a pure function of an event and the state after it.

Every event has its place here: in `ANNOUNCED` with what is told of it, or in `SILENT`; a test walks them all. Numbers are given by the
fold, so they go on over restarts.

Source: spec/local-api.md section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from relaybroker.domain import announcements as told
from relaybroker.domain import engine_status, events
from relaybroker.domain.announcements import Announcement
from relaybroker.domain.changes.link import rejected_kind
from relaybroker.domain.delivery import DeliveryState
from relaybroker.domain.entities import Delivery, Worker
from relaybroker.domain.events import Event, Recorded
from relaybroker.domain.message import target_type
from relaybroker.domain.reasons import Reason
from relaybroker.domain.state import State
from relaybroker.domain.worker import WorkerState

_Told = Iterable[Announcement]


def announcements(state: State, recorded: Recorded) -> _Told:
    """What local clients are told of a recorded event, in order."""
    tell = ANNOUNCED.get(type(recorded.event))
    return () if tell is None else tell(state, recorded.event, recorded)


def _subject(recorded: Recorded) -> str:
    """What stands behind the machine's name in the name of a stream."""
    return recorded.stream.partition(":")[2]


# --- agents and their programs ------------------------------------------------------------------------------------------


def _started(state: State, event: events.AgentLive, recorded: Recorded) -> _Told:
    found = state.registrations[recorded.stream]
    yield told.AgentStarted(
        name=found.name,
        cli=found.spec.cli,
        model=found.spec.model,
        session=found.spec.session_ref or found.session_id,
        pid=event.pid,
        source=found.source,
    )


def _ready(state: State, event: events.WorkerReady, recorded: Recorded) -> _Told:
    program = state.workers[_subject(recorded)]
    is_first = event.report and program.ready_at == recorded.at
    if is_first and (state.settings is None or not state.settings.ready_after_s):
        yield _is_ready(state, program)


def _announced(state: State, _event: events.WorkerAnnounced, recorded: Recorded) -> _Told:
    yield _is_ready(state, state.workers[_subject(recorded)])


def _is_ready(state: State, program: Worker) -> Announcement:
    found = state.registrations[program.registration]
    return told.AgentReady(
        name=found.name,
        cli=found.spec.cli,
        model=found.spec.model,
        session=found.spec.session_ref or found.session_id,
        pid=program.pid,
        evidence=program.evidence if program.ready_at else "startup_timeout",
    )


def _blocked(state: State, event: events.WorkerBlocked, recorded: Recorded) -> _Told:
    yield told.AgentBlocked(name=state.workers[_subject(recorded)].name, pattern=event.pattern)


def _idle(state: State, event: events.WorkerIdle, recorded: Recorded) -> _Told:
    yield told.AgentIdle(
        name=state.workers[_subject(recorded)].name, idle_s=event.idle_s, since=recorded.at - event.idle_s
    )


def _stopping(state: State, event: events.WorkerStopping, recorded: Recorded) -> _Told:
    program = state.workers[_subject(recorded)]
    return _cleared(state, program, program.waiting, event.reason)


def _cleared(state: State, program: Worker, streams: list[str], reason: Reason) -> _Told:
    """What was on its way to a program that ends; each message gets an end of its own besides."""
    if streams:
        ids = tuple(state.deliveries[stream].event_id for stream in streams)
        yield told.DeliveriesDropped(name=program.name, reason=reason, event_ids=ids)


def _exited(state: State, event: events.WorkerExited, recorded: Recorded) -> _Told:
    program = state.workers[_subject(recorded)]
    yield from _cleared(state, program, [*program.typing, *program.waiting], event.reason)
    yield from _unseen(state, program, event.reason)
    yield from _ended(state, program, event.reason, event.last_output)


def _lost(state: State, event: events.WorkerLost, recorded: Recorded) -> _Told:
    program = state.workers[_subject(recorded)]
    yield from _cleared(state, program, [*program.typing, *program.waiting], event.reason)
    yield from _unseen(state, program, event.reason)
    yield from _ended(state, program, event.reason, "")


def _unseen(state: State, program: Worker, reason: Reason) -> _Told:
    """What was typed, and whose echo nobody looks for any more."""
    for stream in program.unseen:
        yield from _typed(state.deliveries[stream], "timeout_fallback", str(reason))


def _ended(state: State, program: Worker, reason: Reason, last_output: str) -> _Told:
    registration = state.registrations.get(program.registration)
    if registration is None or not registration.live_at:
        return
    if program.stop_reason in (Reason.AGENT_RELEASED, Reason.SHUTDOWN):
        yield told.AgentReleased(name=program.name)
        return
    yield told.AgentExited(
        name=program.name,
        code=program.code,
        signal=program.signal,
        reason=reason,
        uptime_s=program.uptime_s,
        last_output=last_output,
    )
    yield told.AgentEnded(name=program.name, reason=reason, last_output=last_output)


def _token_rotated(state: State, event: events.AgentTokenRotated, recorded: Recorded) -> _Told:
    yield told.AgentTokenRotated(name=state.registrations[recorded.stream].name, cause=event.cause)


def _channel(state: State, event: events.ChannelAnswered, recorded: Recorded) -> _Told:
    if engine_status.is_done(event.status) and recorded.stream in state.registrations:
        yield told.ChannelJoined(name=state.registrations[recorded.stream].name, channel=event.channel)


def _result(state: State, event: events.ResultSubmitted, recorded: Recorded) -> _Told:
    yield told.AgentResult(
        name=state.registrations[recorded.stream].name,
        result_id=event.result_id,
        data=event.data,
        final=event.final,
        metadata=event.metadata,
    )


def _acted(state: State, event: events.ActAnswered, recorded: Recorded) -> _Told:
    found = state.registrations.get(recorded.stream)
    if found is not None and event.joined:
        yield told.ChannelJoined(name=found.name, channel=event.joined)
    if found is not None and event.left:
        yield told.ChannelLeft(name=found.name, channel=event.left)


def _mode_changed(_state: State, event: events.DeliveryModeChanged, recorded: Recorded) -> _Told:
    yield told.ModeChanged(
        name=event.name, previous=event.previous, mode=event.mode, revision=recorded.version, reason=event.reason
    )


def _drained(_state: State, event: events.PendingDrained, _recorded: Recorded) -> _Told:
    yield told.HoldDrained(name=event.name, count=event.count, cause=event.cause)


# --- messages to agents ---------------------------------------------------------------------------------------------------


def _about(delivery: Delivery) -> dict[str, Any]:
    return {
        "name": delivery.name,
        "delivery_id": delivery.delivery_id,
        "event_id": delivery.event_id,
        "msg_id": delivery.msg_id,
    }


def _offered(state: State, event: events.DeliveryOffered, recorded: Recorded) -> _Told:
    found = state.deliveries[recorded.stream]
    if event.source == "engine" and state.announced.get(event.msg_id) == recorded.stream:
        yield told.MessageSeen(
            event_id=found.event_id,
            msg_id=event.msg_id,
            sender=found.said_by,
            target=event.target,
            body=event.body,
            thread_id=event.thread_id,
            workspace_id=event.workspace_id,
            mode=event.mode,
            names=(event.name,),
        )


def _placed(state: State, _event: Any, recorded: Recorded) -> _Told:
    """It begins to wait for its terminal: what is announced so comes once, and has an end."""
    found = state.deliveries[recorded.stream]
    if found.placed == recorded.version:
        yield told.DeliveryQueued(
            **_about(found),
            sender=found.said_by,
            target=found.target,
            attempt=found.attempt,
            by_hand=found.reason is Reason.MANUAL_FLUSH,
        )


def _held(state: State, event: events.DeliveryHeld, recorded: Recorded) -> _Told:
    yield from _placed(state, event, recorded)
    found = state.deliveries[recorded.stream]
    yield told.DeliveryHeld(**_about(found), seq=found.seq, reason=event.reason, until=event.until)


def _taken_over(state: State, _event: events.DeliveryTakenOver, recorded: Recorded) -> _Told:
    found = state.deliveries[recorded.stream]
    yield told.DeliveryTakenOver(**_about(found), seq=found.seq)


def _injected(state: State, event: events.DeliveryInjected, recorded: Recorded) -> _Told:
    yield told.DeliveryInjected(**_about(state.deliveries[recorded.stream]), evidence=event.evidence)


def _fetched(state: State, _event: events.DeliveryFetched, recorded: Recorded) -> _Told:
    found = state.deliveries[recorded.stream]
    about = _about(found)
    yield told.DeliveryInjected(**about, evidence="fetched")
    yield told.DeliveryRead(**about)
    yield told.DeliveryConfirmed(**about, sender=found.said_by)


def _verified(state: State, event: events.DeliveryVerified, recorded: Recorded) -> _Told:
    why = "" if event.verification == "echo" else "verification_timeout"
    return _typed(state.deliveries[recorded.stream], event.verification, why)


def _typed(found: Delivery, verification: str, why: str) -> _Told:
    """The good end of a delivery."""
    about = _about(found)
    yield told.DeliveryRead(**about)
    yield told.DeliveryConfirmed(**about, sender=found.said_by)
    if found.source == "task":
        synthetic = "initial_task_synthetic_event_id"
        yield told.DeliveryMarkedRead(**about, status="skipped_synthetic", why=synthetic)
    elif found.state == DeliveryState.ACKED:
        yield told.DeliveryMarkedRead(**about, status="marked")
    yield told.DeliveryVerified(**about, verification=verification, why=why)


def _acked(state: State, _event: events.DeliveryAcked, recorded: Recorded) -> _Told:
    found = state.deliveries[recorded.stream]
    if found.verified and found.source != "task":
        yield told.DeliveryMarkedRead(**_about(found), status="marked")


def _handed_back(state: State, event: events.DeliveryHandedBack, recorded: Recorded) -> _Told:
    if event.reason is Reason.WRITE_BACKOFF:
        yield told.DeliveryRetried(**_about(state.deliveries[recorded.stream]), attempts=event.failures)


def _dropped(state: State, event: events.DeliveryDropped, recorded: Recorded) -> _Told:
    found = state.deliveries[recorded.stream]
    if event.reason is Reason.EXPIRED:
        yield told.DeliveriesDropped(name=found.name, reason=event.reason, event_ids=(found.event_id,))
    elif not event.settled and found.seq:
        yield told.DeliveryReturned(**_about(found), reason=event.reason)
        if found.placed and _lives_on(state, found):  # with its program others go, too: see `_cleared`
            yield told.DeliveriesDropped(name=found.name, reason=event.reason, event_ids=(found.event_id,))
    elif event.reason is Reason.AMBIGUOUS:
        yield from _failed(found, event.reason)
    elif event.reason is Reason.POISON:
        yield told.Undeliverable(
            name=found.name, agent_id=found.agent_id, seq=found.seq, msg_id=found.msg_id, reason=event.reason
        )
    if event.reason is Reason.AMBIGUOUS:
        yield _ambiguous(state, found)


def _lives_on(state: State, found: Delivery) -> bool:
    program = state.worker_of_agent(found.agent_id)
    return program is not None and not program.ended and program.state != WorkerState.STOPPING


def _failed(delivery: Delivery, reason: Reason) -> _Told:
    """The end of a delivery that was not typed, as far as is known: its sender is told."""
    yield told.DeliveryFailed(**_about(delivery), reason=reason)
    yield told.SenderTold(**_about(delivery), sender=delivery.said_by, attempts=delivery.tries, failure=str(reason))


def _ambiguous(state: State, delivery: Delivery) -> Announcement:
    assert state.settings is not None
    return told.DeliveryAmbiguous(**_about(delivery), seq=delivery.seq, policy=state.settings.in_doubt)


def _dead_lettered(state: State, event: events.DeliveryDeadLettered, recorded: Recorded) -> _Told:
    found = state.deliveries[recorded.stream]
    yield from _failed(found, event.reason)
    if event.reason is Reason.AMBIGUOUS:
        yield _ambiguous(state, found)
    yield told.DeadLetterAdded(**_about(found), letter_id=found.letter_id, reason=event.reason)


def _letter_removed(_state: State, event: events.DeadLetterRemoved, recorded: Recorded) -> _Told:
    yield told.DeadLetterRemoved(letter_id=event.letter_id, msg_id=recorded.correlation, reason=event.reason)


def _range_lost(state: State, event: events.RangeLost, recorded: Recorded) -> _Told:
    yield told.RangeLost(name=state.mailboxes[_subject(recorded)].name, first=event.first, last=event.last)


def _resync(state: State, event: events.ResyncAsked, recorded: Recorded) -> _Told:
    box = state.mailboxes[_subject(recorded)]
    yield told.RangeMissing(name=box.name, first=event.first, last=min(box.buffer, default=event.first) - 1)


_UNDELIVERABLE = (
    Reason.SEQ_CONFLICT,
    Reason.DELIVERY_ID_REUSED,
    Reason.HOLD_FULL,
    Reason.RETIRED,
    Reason.UNKNOWN,
)


def _ignored(state: State, event: events.FrameIgnored, recorded: Recorded) -> _Told:
    if event.reason in _UNDELIVERABLE:
        agent_id = _subject(recorded)
        box = state.mailboxes.get(agent_id)
        yield told.Undeliverable(
            name=box.name if box is not None else "",
            agent_id=agent_id,
            seq=event.seq,
            msg_id=event.msg_id,
            reason=event.reason,
        )


# --- the engine -----------------------------------------------------------------------------------------------------------


def _link(label: str) -> Callable[[State, Any, Recorded], _Told]:
    def tell(_state: State, event: Any, _recorded: Recorded) -> _Told:
        yield told.LinkMoved(state=label, reason=str(getattr(event, "reason", "") or ""))

    return tell


def _rejected(state: State, event: events.FrameRejected, _recorded: Recorded) -> _Told:
    kind = rejected_kind(event)
    if kind and state.link.rejected.get(kind) != 1:
        return  # one that a newer engine sends is announced once and counted every time
    yield told.FrameRejected(frame_type=event.frame_type, reason=event.reason)


def _engine_error(_state: State, event: events.EngineErrorReceived, _recorded: Recorded) -> _Told:
    yield told.EngineErrorHeard(code=event.code, message=event.message, request_id=event.request_id)


def _published(state: State, event: events.MessagePublished, recorded: Recorded) -> _Told:
    found = state.messages[recorded.stream]
    message_id = event.message_id or found.event_id
    if state.announced.get(message_id) == recorded.stream:
        local = state.registration_of(found.to) if target_type(found.to) == "agent" else None
        yield told.MessageSeen(
            event_id=found.event_id,
            msg_id=message_id,
            sender=found.sender or "human:orchestrator",
            target=found.to,
            body=found.text,
            thread_id=found.thread_id,
            workspace_id=state.settings.workspace_id if state.settings is not None else "",
            mode=found.mode,
            names=(local.name,) if local is not None else (),
        )
    yield told.MessagePublished(event_id=found.event_id, message_id=event.message_id, to=found.to)


def _publish_failed(state: State, event: events.MessageWaiting | events.MessageRefused, recorded: Recorded) -> _Told:
    found = state.messages[recorded.stream]
    yield told.PublishFailed(event_id=found.event_id, to=found.to, detail=event.detail)


def _undelivered(state: State, event: events.DeliveryFailureHeard, _recorded: Recorded) -> _Told:
    """The engine could not deliver what an agent of this node, or the broker, had sent."""
    names = {state.own.agent_id: state.own.name}
    names |= {agent_id: state.registrations[stream].name for agent_id, stream in state.agents.items()}
    yield told.SenderTold(
        name=event.target,
        delivery_id=event.delivery_id,
        event_id=state.sent[event.message_id].event_id if event.message_id in state.sent else event.message_id,
        msg_id=event.message_id,
        sender=next((names[agent_id] for agent_id in event.sender_ids if agent_id in names), ""),
        attempts=0,
        failure=event.failure,
    )


def _action(label: str) -> Callable[[State, Any, Recorded], _Told]:
    def tell(_state: State, event: Any, recorded: Recorded) -> _Told:
        yield told.ActionMoved(
            invocation_id=_subject(recorded), state=label, reason=getattr(event, "reason", None) or None
        )

    return tell


ANNOUNCED: Mapping[type[Event], Callable[[State, Any, Recorded], _Told]] = MappingProxyType(
    {
        events.AgentLive: _started,
        events.WorkerReady: _ready,
        events.WorkerAnnounced: _announced,
        events.WorkerBlocked: _blocked,
        events.WorkerIdle: _idle,
        events.WorkerStopping: _stopping,
        events.WorkerExited: _exited,
        events.WorkerLost: _lost,
        events.DeliveryOffered: _offered,
        events.DeliveryQueued: _placed,
        events.DeliveryHeld: _held,
        events.DeliveryTakenOver: _taken_over,
        events.DeliveryInjected: _injected,
        events.DeliveryFetched: _fetched,
        events.DeliveryVerified: _verified,
        events.DeliveryAcked: _acked,
        events.DeliveryHandedBack: _handed_back,
        events.DeliveryDropped: _dropped,
        events.DeliveryDeadLettered: _dead_lettered,
        events.DeadLetterRemoved: _letter_removed,
        events.DeliveryModeChanged: _mode_changed,
        events.PendingDrained: _drained,
        events.RangeLost: _range_lost,
        events.ResyncAsked: _resync,
        events.FrameIgnored: _ignored,
        events.LinkOnline: _link("online"),
        events.LinkBackedOff: _link("backing_off"),
        events.LinkRefused: _link("refused"),
        events.LinkShut: _link("closed"),
        events.FrameRejected: _rejected,
        events.EngineErrorReceived: _engine_error,
        events.AgentTokenRotated: _token_rotated,
        events.DeliveryFailureHeard: _undelivered,
        events.MessagePublished: _published,
        events.MessageWaiting: _publish_failed,
        events.MessageRefused: _publish_failed,
        events.ActionRunning: _action("running"),
        events.ActionDone: _action("done"),
        events.ActionReported: _action("reported"),
        events.ChannelAnswered: _channel,
        events.ResultSubmitted: _result,
        events.ActAnswered: _acted,
    }
)
"""Event -> what local clients are told of it."""

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
        events.DeliveryInjecting,
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
