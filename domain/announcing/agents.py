"""What is told of agents, their programs and their delivery modes."""

from __future__ import annotations

from relaybroker.domain import announcements, engine_status, events
from relaybroker.domain.announcements import Announcement
from relaybroker.domain.announcing.deliveries import typed
from relaybroker.domain.announcing.signature import Announcements, Announcing, subject
from relaybroker.domain.entities import Worker
from relaybroker.domain.events import Recorded
from relaybroker.domain.reasons import RELEASES, Reason
from relaybroker.domain.state import State
from relaybroker.domain.worker import Sequel


def _started(state: State, event: events.AgentLive, recorded: Recorded) -> Announcements:
    registration = state.registrations[recorded.stream]
    yield announcements.AgentStarted(
        name=registration.name,
        cli=registration.spec.cli,
        model=registration.spec.model,
        session=registration.session,
        pid=event.pid,
        has_terminal=registration.has_terminal,
        source=registration.source,
    )


def _ready(state: State, event: events.WorkerReady, recorded: Recorded) -> Announcements:
    program = state.workers[subject(recorded)]
    is_first = event.report and program.ready_at == recorded.at
    if is_first and (state.settings is None or not state.settings.ready_after_s):
        yield _is_ready(state, program)


def _announced(state: State, _event: events.WorkerAnnounced, recorded: Recorded) -> Announcements:
    yield _is_ready(state, state.workers[subject(recorded)])


def _is_ready(state: State, program: Worker) -> Announcement:
    registration = state.registrations[program.registration]
    return announcements.AgentReady(
        name=registration.name,
        cli=registration.spec.cli,
        model=registration.spec.model,
        session=registration.session,
        pid=program.pid,
        has_terminal=registration.has_terminal,
        evidence=program.evidence if program.ready_at else "startup_timeout",
    )


def _blocked(state: State, event: events.WorkerBlocked, recorded: Recorded) -> Announcements:
    name = state.workers[subject(recorded)].name
    yield announcements.AgentBlocked(name=name, pattern=event.pattern, question=event.question)


def _question_answered(_state: State, event: events.QuestionAnswered, _recorded: Recorded) -> Announcements:
    yield announcements.AgentAnswered(name=event.name, question=event.question, option=event.option, by=event.by)


def _idle(state: State, event: events.WorkerIdle, recorded: Recorded) -> Announcements:
    yield announcements.AgentIdle(
        name=state.workers[subject(recorded)].name, idle_s=event.idle_s, since=recorded.at - event.idle_s
    )


def _stopping(state: State, event: events.WorkerStopping, recorded: Recorded) -> Announcements:
    program = state.workers[subject(recorded)]
    return _cleared(state, program, program.waiting, event.reason)


def _cleared(state: State, program: Worker, streams: list[str], reason: Reason) -> Announcements:
    """What was on its way to a program that ends; each message gets an end of its own besides."""
    if streams:
        ids = tuple(state.deliveries[stream].event_id for stream in streams)
        yield announcements.DeliveriesDropped(name=program.name, reason=reason, event_ids=ids)


def _exited(state: State, event: events.WorkerExited, recorded: Recorded) -> Announcements:
    program = state.workers[subject(recorded)]
    yield from _cleared(state, program, _settled_by_end(state, program), event.reason)
    yield from _unseen(state, program, event.reason)
    yield from _ended(state, program, event.reason, event.last_output)


def _lost(state: State, event: events.WorkerLost, recorded: Recorded) -> Announcements:
    program = state.workers[subject(recorded)]
    yield from _cleared(state, program, _settled_by_end(state, program), event.reason)
    yield from _unseen(state, program, event.reason)
    yield from _ended(state, program, event.reason, "")


def _settled_by_end(state: State, program: Worker) -> list[str]:
    """What its end takes along: everything, or, if it is started again, what it may have seen. What can be looked up is in doubt first."""
    typing = [] if program.door else program.typing
    if program.sequel == Sequel.RESTART:
        return [*typing, *(one for one in program.waiting if state.deliveries[one].may_be_seen)]
    return [*typing, *program.waiting]


def _restart_planned(state: State, event: events.AgentRestartPlanned, recorded: Recorded) -> Announcements:
    yield announcements.AgentRestarting(
        name=state.registrations[recorded.stream].name,
        code=event.code,
        signal=event.signal,
        restart_count=event.restarts,
        delay_s=event.until - recorded.at,
        reason=event.reason,
    )


def _restarted(state: State, event: events.AgentRestarted, recorded: Recorded) -> Announcements:
    name = state.registrations[recorded.stream].name
    yield announcements.AgentRestarted(name=name, restart_count=event.restarts, pid=event.pid)


def _given_up(state: State, event: events.AgentGivenUp, recorded: Recorded) -> Announcements:
    yield announcements.AgentPermanentlyDead(name=state.registrations[recorded.stream].name, reason=event.reason)


def _unseen(state: State, program: Worker, reason: Reason) -> Announcements:
    """What was typed, and whose echo nobody looks for any more."""
    for stream in program.unseen:
        yield from typed(state.deliveries[stream], "timeout_fallback", str(reason))


def _ended(state: State, program: Worker, reason: Reason, last_output: str) -> Announcements:
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


def _token_rotated(state: State, event: events.AgentTokenRotated, recorded: Recorded) -> Announcements:
    yield announcements.AgentTokenRotated(name=state.registrations[recorded.stream].name, cause=event.cause)


def _channel(state: State, event: events.ChannelAnswered, recorded: Recorded) -> Announcements:
    if engine_status.is_done(event.status) and recorded.stream in state.registrations:
        yield announcements.ChannelJoined(name=state.registrations[recorded.stream].name, channel=event.channel)


def _result(state: State, event: events.ResultSubmitted, recorded: Recorded) -> Announcements:
    yield announcements.AgentResult(
        name=state.registrations[recorded.stream].name,
        result_id=event.result_id,
        data=event.data,
        final=event.final,
        metadata=event.metadata,
    )


def _acted(state: State, event: events.ActAnswered, recorded: Recorded) -> Announcements:
    registration = state.registrations.get(recorded.stream)
    if registration is not None and event.joined:
        yield announcements.ChannelJoined(name=registration.name, channel=event.joined)
    if registration is not None and event.left:
        yield announcements.ChannelLeft(name=registration.name, channel=event.left)


def _mode_changed(_state: State, event: events.DeliveryModeChanged, recorded: Recorded) -> Announcements:
    yield announcements.ModeChanged(
        name=event.name, previous=event.previous, mode=event.mode, revision=recorded.version, reason=event.reason
    )


def _drained(_state: State, event: events.PendingDrained, _recorded: Recorded) -> Announcements:
    yield announcements.HoldDrained(name=event.name, count=event.count, cause=event.cause)


ANNOUNCED: Announcing = {
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
    events.DeliveryModeChanged: _mode_changed,
    events.PendingDrained: _drained,
    events.AgentTokenRotated: _token_rotated,
    events.ChannelAnswered: _channel,
    events.ResultSubmitted: _result,
    events.ActAnswered: _acted,
}
