"""Which events are announced to local clients, and as what: a pure function of an event and the state after it.

Every event has its place here: in `ANNOUNCED` with what is told of it, or in `SILENT`; a test walks them all. Numbers are given by the
fold, so they go on over restarts.

Source: spec/local-api.md section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from relaybroker.domain import announcements, engine_status, events
from relaybroker.domain.announcements import Announcement
from relaybroker.domain.changes.link import rejected_kind
from relaybroker.domain.delivery import DeliveryState
from relaybroker.domain.entities import Delivery, Worker
from relaybroker.domain.events import Event, Recorded
from relaybroker.domain.message import target_type
from relaybroker.domain.reasons import RELEASES, Reason
from relaybroker.domain.state import State
from relaybroker.domain.worker import Sequel, WorkerState

_Announcements = Iterable[Announcement]


def announcements_of(state: State, recorded: Recorded) -> _Announcements:
    """What local clients are told of a recorded event, in order."""
    tell = ANNOUNCED.get(type(recorded.event))
    return () if tell is None else tell(state, recorded.event, recorded)


def _subject(recorded: Recorded) -> str:
    """What stands behind the machine's name in the name of a stream."""
    return recorded.stream.partition(":")[2]


# --- agents and their programs ------------------------------------------------------------------------------------------


def _started(state: State, event: events.AgentLive, recorded: Recorded) -> _Announcements:
    registration = state.registrations[recorded.stream]
    yield announcements.AgentStarted(
        name=registration.name,
        cli=registration.spec.cli,
        model=registration.spec.model,
        session=registration.session,
        pid=event.pid,
        source=registration.source,
    )


def _ready(state: State, event: events.WorkerReady, recorded: Recorded) -> _Announcements:
    program = state.workers[_subject(recorded)]
    is_first = event.report and program.ready_at == recorded.at
    if is_first and (state.settings is None or not state.settings.ready_after_s):
        yield _is_ready(state, program)


def _announced(state: State, _event: events.WorkerAnnounced, recorded: Recorded) -> _Announcements:
    yield _is_ready(state, state.workers[_subject(recorded)])


def _is_ready(state: State, program: Worker) -> Announcement:
    registration = state.registrations[program.registration]
    return announcements.AgentReady(
        name=registration.name,
        cli=registration.spec.cli,
        model=registration.spec.model,
        session=registration.session,
        pid=program.pid,
        evidence=program.evidence if program.ready_at else "startup_timeout",
    )


def _blocked(state: State, event: events.WorkerBlocked, recorded: Recorded) -> _Announcements:
    yield announcements.AgentBlocked(name=state.workers[_subject(recorded)].name, pattern=event.pattern)


def _question_answered(state: State, event: events.QuestionAnswered, recorded: Recorded) -> _Announcements:
    if (program := state.workers.get(_subject(recorded))) is not None:
        yield announcements.AgentAnswered(name=program.name, question=event.question, option=event.option)


def _idle(state: State, event: events.WorkerIdle, recorded: Recorded) -> _Announcements:
    yield announcements.AgentIdle(
        name=state.workers[_subject(recorded)].name, idle_s=event.idle_s, since=recorded.at - event.idle_s
    )


def _stopping(state: State, event: events.WorkerStopping, recorded: Recorded) -> _Announcements:
    program = state.workers[_subject(recorded)]
    return _cleared(state, program, program.waiting, event.reason)


def _cleared(state: State, program: Worker, streams: list[str], reason: Reason) -> _Announcements:
    """What was on its way to a program that ends; each message gets an end of its own besides."""
    if streams:
        ids = tuple(state.deliveries[stream].event_id for stream in streams)
        yield announcements.DeliveriesDropped(name=program.name, reason=reason, event_ids=ids)


def _exited(state: State, event: events.WorkerExited, recorded: Recorded) -> _Announcements:
    program = state.workers[_subject(recorded)]
    yield from _cleared(state, program, _settled_by_end(state, program), event.reason)
    yield from _unseen(state, program, event.reason)
    yield from _ended(state, program, event.reason, event.last_output)


def _lost(state: State, event: events.WorkerLost, recorded: Recorded) -> _Announcements:
    program = state.workers[_subject(recorded)]
    yield from _cleared(state, program, _settled_by_end(state, program), event.reason)
    yield from _unseen(state, program, event.reason)
    yield from _ended(state, program, event.reason, "")


def _settled_by_end(state: State, program: Worker) -> list[str]:
    """What its end takes along: everything, or, if it is started again, what it may have seen."""
    if program.sequel == Sequel.RESTART:
        return [*program.typing, *(one for one in program.waiting if state.deliveries[one].is_in_doubt)]
    return [*program.typing, *program.waiting]


def _restart_planned(state: State, event: events.AgentRestartPlanned, recorded: Recorded) -> _Announcements:
    yield announcements.AgentRestarting(
        name=state.registrations[recorded.stream].name,
        code=event.code,
        signal=event.signal,
        restart_count=event.restarts,
        delay_s=event.until - recorded.at,
        reason=event.reason,
    )


def _restarted(state: State, event: events.AgentRestarted, recorded: Recorded) -> _Announcements:
    name = state.registrations[recorded.stream].name
    yield announcements.AgentRestarted(name=name, restart_count=event.restarts, pid=event.pid)


def _given_up(state: State, event: events.AgentGivenUp, recorded: Recorded) -> _Announcements:
    yield announcements.AgentPermanentlyDead(name=state.registrations[recorded.stream].name, reason=event.reason)


def _unseen(state: State, program: Worker, reason: Reason) -> _Announcements:
    """What was typed, and whose echo nobody looks for any more."""
    for stream in program.unseen:
        yield from _typed(state.deliveries[stream], "timeout_fallback", str(reason))


def _ended(state: State, program: Worker, reason: Reason, last_output: str) -> _Announcements:
    registration = state.registrations.get(program.registration)
    if registration is None or not registration.live_at or program.sequel == Sequel.RESTART:
        return
    if program.stop_reason in (*RELEASES, Reason.SHUTDOWN):
        yield announcements.AgentReleased(name=program.name)
        return
    yield announcements.AgentExited(
        name=program.name,
        code=program.code,
        signal=program.signal,
        reason=reason,
        uptime_s=program.uptime_s,
        last_output=last_output,
    )
    yield announcements.AgentEnded(name=program.name, reason=reason, last_output=last_output)


def _token_rotated(state: State, event: events.AgentTokenRotated, recorded: Recorded) -> _Announcements:
    yield announcements.AgentTokenRotated(name=state.registrations[recorded.stream].name, cause=event.cause)


def _channel(state: State, event: events.ChannelAnswered, recorded: Recorded) -> _Announcements:
    if engine_status.is_done(event.status) and recorded.stream in state.registrations:
        yield announcements.ChannelJoined(name=state.registrations[recorded.stream].name, channel=event.channel)


def _result(state: State, event: events.ResultSubmitted, recorded: Recorded) -> _Announcements:
    yield announcements.AgentResult(
        name=state.registrations[recorded.stream].name,
        result_id=event.result_id,
        data=event.data,
        final=event.final,
        metadata=event.metadata,
    )


def _acted(state: State, event: events.ActAnswered, recorded: Recorded) -> _Announcements:
    registration = state.registrations.get(recorded.stream)
    if registration is not None and event.joined:
        yield announcements.ChannelJoined(name=registration.name, channel=event.joined)
    if registration is not None and event.left:
        yield announcements.ChannelLeft(name=registration.name, channel=event.left)


def _mode_changed(_state: State, event: events.DeliveryModeChanged, recorded: Recorded) -> _Announcements:
    yield announcements.ModeChanged(
        name=event.name, previous=event.previous, mode=event.mode, revision=recorded.version, reason=event.reason
    )


def _drained(_state: State, event: events.PendingDrained, _recorded: Recorded) -> _Announcements:
    yield announcements.HoldDrained(name=event.name, count=event.count, cause=event.cause)


# --- messages to agents ---------------------------------------------------------------------------------------------------


def _about(delivery: Delivery) -> dict[str, Any]:
    return {
        "name": delivery.name,
        "delivery_id": delivery.delivery_id,
        "event_id": delivery.event_id,
        "msg_id": delivery.msg_id,
    }


def _offered(state: State, event: events.DeliveryOffered, recorded: Recorded) -> _Announcements:
    delivery = state.deliveries[recorded.stream]
    if event.source == "engine" and state.announced.get(event.msg_id) == recorded.stream:
        yield announcements.MessageSeen(
            event_id=delivery.event_id,
            msg_id=event.msg_id,
            sender=delivery.said_by,
            target=event.target,
            body=event.body,
            thread_id=event.thread_id,
            workspace_id=event.workspace_id,
            mode=event.mode,
            names=(event.name,),
        )


def _placed(state: State, _event: Any, recorded: Recorded) -> _Announcements:
    """It begins to wait for its terminal: what is announced so comes once, and has an end."""
    delivery = state.deliveries[recorded.stream]
    if delivery.placed == recorded.version:
        yield announcements.DeliveryQueued(
            **_about(delivery),
            sender=delivery.said_by,
            target=delivery.target,
            attempt=delivery.attempt,
            by_hand=delivery.reason is Reason.MANUAL_FLUSH,
        )


def _held(state: State, event: events.DeliveryHeld, recorded: Recorded) -> _Announcements:
    yield from _placed(state, event, recorded)
    delivery = state.deliveries[recorded.stream]
    yield announcements.DeliveryHeld(**_about(delivery), seq=delivery.seq, reason=event.reason, until=event.until)


def _taken_over(state: State, _event: events.DeliveryTakenOver, recorded: Recorded) -> _Announcements:
    delivery = state.deliveries[recorded.stream]
    yield announcements.DeliveryTakenOver(**_about(delivery), seq=delivery.seq)


def _injected(state: State, event: events.DeliveryInjected, recorded: Recorded) -> _Announcements:
    yield announcements.DeliveryInjected(**_about(state.deliveries[recorded.stream]), evidence=event.evidence)


def _fetched(state: State, _event: events.DeliveryFetched, recorded: Recorded) -> _Announcements:
    delivery = state.deliveries[recorded.stream]
    about = _about(delivery)
    yield announcements.DeliveryInjected(**about, evidence="fetched")
    yield announcements.DeliveryRead(**about)
    yield announcements.DeliveryConfirmed(**about, sender=delivery.said_by)


def _verified(state: State, event: events.DeliveryVerified, recorded: Recorded) -> _Announcements:
    why = "" if event.verification == "echo" else "verification_timeout"
    return _typed(state.deliveries[recorded.stream], event.verification, why)


def _typed(delivery: Delivery, verification: str, why: str) -> _Announcements:
    """The good end of a delivery."""
    about = _about(delivery)
    yield announcements.DeliveryRead(**about)
    yield announcements.DeliveryConfirmed(**about, sender=delivery.said_by)
    if delivery.source == "task":
        synthetic = "initial_task_synthetic_event_id"
        yield announcements.DeliveryMarkedRead(**about, status="skipped_synthetic", why=synthetic)
    elif delivery.state == DeliveryState.ACKED:
        yield announcements.DeliveryMarkedRead(**about, status="marked")
    yield announcements.DeliveryVerified(**about, verification=verification, why=why)


def _acked(state: State, _event: events.DeliveryAcked, recorded: Recorded) -> _Announcements:
    delivery = state.deliveries[recorded.stream]
    if delivery.verified and delivery.source != "task":
        yield announcements.DeliveryMarkedRead(**_about(delivery), status="marked")


def _handed_back(state: State, event: events.DeliveryHandedBack, recorded: Recorded) -> _Announcements:
    if event.reason is Reason.WRITE_BACKOFF:
        yield announcements.DeliveryRetried(**_about(state.deliveries[recorded.stream]), attempts=event.failures)


def _dropped(state: State, event: events.DeliveryDropped, recorded: Recorded) -> _Announcements:
    delivery = state.deliveries[recorded.stream]
    if event.reason is Reason.EXPIRED:
        yield announcements.DeliveriesDropped(name=delivery.name, reason=event.reason, event_ids=(delivery.event_id,))
    elif not event.settled and delivery.seq:
        yield announcements.DeliveryReturned(**_about(delivery), reason=event.reason)
        if delivery.placed and _lives_on(state, delivery):  # with its program others go, too: see `_cleared`
            yield announcements.DeliveriesDropped(
                name=delivery.name, reason=event.reason, event_ids=(delivery.event_id,)
            )
    elif event.reason is Reason.AMBIGUOUS:
        yield from _failed(delivery, event.reason)
    elif event.reason is Reason.POISON:
        yield announcements.Undeliverable(
            name=delivery.name,
            agent_id=delivery.agent_id,
            seq=delivery.seq,
            msg_id=delivery.msg_id,
            reason=event.reason,
        )
    if event.reason is Reason.AMBIGUOUS:
        yield _ambiguous(state, delivery)


def _lives_on(state: State, delivery: Delivery) -> bool:
    program = state.worker_of_agent(delivery.agent_id)
    return program is not None and not program.ended and program.state != WorkerState.STOPPING


def _failed(delivery: Delivery, reason: Reason) -> _Announcements:
    """The end of a delivery that was not typed, as far as is known: its sender is told."""
    yield announcements.DeliveryFailed(**_about(delivery), reason=reason)
    yield announcements.SenderTold(
        **_about(delivery), sender=delivery.said_by, attempts=delivery.tries, failure=str(reason)
    )


def _ambiguous(state: State, delivery: Delivery) -> Announcement:
    assert state.settings is not None
    return announcements.DeliveryAmbiguous(**_about(delivery), seq=delivery.seq, policy=state.settings.in_doubt)


def _dead_lettered(state: State, event: events.DeliveryDeadLettered, recorded: Recorded) -> _Announcements:
    delivery = state.deliveries[recorded.stream]
    yield from _failed(delivery, event.reason)
    if event.reason is Reason.AMBIGUOUS:
        yield _ambiguous(state, delivery)
    yield announcements.DeadLetterAdded(**_about(delivery), letter_id=delivery.letter_id, reason=event.reason)


def _letter_removed(_state: State, event: events.DeadLetterRemoved, recorded: Recorded) -> _Announcements:
    yield announcements.DeadLetterRemoved(letter_id=event.letter_id, msg_id=recorded.correlation, reason=event.reason)


def _range_lost(state: State, event: events.RangeLost, recorded: Recorded) -> _Announcements:
    yield announcements.RangeLost(name=state.mailboxes[_subject(recorded)].name, first=event.first, last=event.last)


def _resync(state: State, event: events.ResyncAsked, recorded: Recorded) -> _Announcements:
    box = state.mailboxes[_subject(recorded)]
    yield announcements.RangeMissing(name=box.name, first=event.first, last=min(box.buffer, default=event.first) - 1)


_UNDELIVERABLE = (
    Reason.SEQ_CONFLICT,
    Reason.DELIVERY_ID_REUSED,
    Reason.HOLD_FULL,
    Reason.RETIRED,
    Reason.UNKNOWN,
)


def _ignored(state: State, event: events.FrameIgnored, recorded: Recorded) -> _Announcements:
    if event.reason in _UNDELIVERABLE:
        agent_id = _subject(recorded)
        box = state.mailboxes.get(agent_id)
        yield announcements.Undeliverable(
            name=box.name if box is not None else "",
            agent_id=agent_id,
            seq=event.seq,
            msg_id=event.msg_id,
            reason=event.reason,
        )


# --- the engine -----------------------------------------------------------------------------------------------------------


def _link(label: str) -> Callable[[State, Any, Recorded], _Announcements]:
    def tell(_state: State, event: Any, _recorded: Recorded) -> _Announcements:
        yield announcements.LinkMoved(state=label, reason=str(getattr(event, "reason", "") or ""))

    return tell


def _rejected(state: State, event: events.FrameRejected, _recorded: Recorded) -> _Announcements:
    kind = rejected_kind(event)
    if kind and state.link.rejected.get(kind) != 1:
        return  # one that a newer engine sends is announced once and counted every time
    yield announcements.FrameRejected(frame_type=event.frame_type, reason=event.reason)


def _engine_error(_state: State, event: events.EngineErrorReceived, _recorded: Recorded) -> _Announcements:
    yield announcements.EngineErrorHeard(code=event.code, message=event.message, request_id=event.request_id)


def _published(state: State, event: events.MessagePublished, recorded: Recorded) -> _Announcements:
    message = state.messages[recorded.stream]
    message_id = event.message_id or message.event_id
    if state.announced.get(message_id) == recorded.stream:
        local = state.registration_of(message.to) if target_type(message.to) == "agent" else None
        yield announcements.MessageSeen(
            event_id=message.event_id,
            msg_id=message_id,
            sender=message.sender or "human:orchestrator",
            target=message.to,
            body=message.text,
            thread_id=message.thread_id,
            workspace_id=state.settings.workspace_id if state.settings is not None else "",
            mode=message.mode,
            names=(local.name,) if local is not None else (),
        )
    yield announcements.MessagePublished(event_id=message.event_id, message_id=event.message_id, to=message.to)


def _publish_failed(
    state: State, event: events.MessageWaiting | events.MessageRefused, recorded: Recorded
) -> _Announcements:
    message = state.messages[recorded.stream]
    yield announcements.PublishFailed(event_id=message.event_id, to=message.to, detail=event.detail)


def _undelivered(state: State, event: events.DeliveryFailureHeard, _recorded: Recorded) -> _Announcements:
    """The engine could not deliver what an agent of this node, or the broker, had sent."""
    names = {state.own.agent_id: state.own.name}
    names |= {agent_id: state.registrations[stream].name for agent_id, stream in state.agents.items()}
    yield announcements.SenderTold(
        name=event.target,
        delivery_id=event.delivery_id,
        event_id=state.sent[event.message_id].event_id if event.message_id in state.sent else event.message_id,
        msg_id=event.message_id,
        sender=next((names[agent_id] for agent_id in event.sender_ids if agent_id in names), ""),
        attempts=0,
        failure=event.failure,
    )


def _action(label: str) -> Callable[[State, Any, Recorded], _Announcements]:
    def tell(_state: State, event: Any, recorded: Recorded) -> _Announcements:
        yield announcements.ActionMoved(
            invocation_id=_subject(recorded), state=label, reason=getattr(event, "reason", None) or None
        )

    return tell


ANNOUNCED: Mapping[type[Event], Callable[[State, Any, Recorded], _Announcements]] = MappingProxyType(
    {
        events.AgentLive: _started,
        events.AgentRestartPlanned: _restart_planned,
        events.AgentRestarted: _restarted,
        events.AgentGivenUp: _given_up,
        events.WorkerReady: _ready,
        events.WorkerAnnounced: _announced,
        events.WorkerBlocked: _blocked,
        events.QuestionAnswered: _question_answered,
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
