"""How events of agent registrations change the state."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec

from relaybroker.domain import (
    agent as agent_machine,
)
from relaybroker.domain import (
    engine_status,
    events,
    message,
    sessions,
    worker,
)
from relaybroker.domain.changes.link import abandon, load_changed
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.command_line import switched_model
from relaybroker.domain.entities import MARK_READ, Act, Acted, Membership, Pending, Registration, SpawnKey, Worker
from relaybroker.domain.errors import may_pass
from relaybroker.domain.events import Recorded
from relaybroker.domain.replies import Refused
from relaybroker.domain.state import GENERATIONS_KEPT, MEMBERSHIP_ACTS, MEMBERSHIPS_KEPT, State


def _name_reserved(state: State, event: events.NameReserved, recorded: Recorded, _: Any) -> None:
    state.registrations[recorded.stream] = Registration(
        stream=recorded.stream,
        name=event.name,
        generation=event.generation,
        state=agent_machine.TABLE.initial,
        session_id=event.session_id,
        source=event.source,
        spec=event.spec,
        harness=event.harness,
        argv=event.argv,
        until=event.until,
        reserved_at=recorded.at,
        invocation_id=event.invocation_id,
        request_id=event.request_id,
        key=event.key,
        begins_session=sessions.is_new(event.argv, event.harness.session, event.spec.session_ref),
    )
    if event.key:
        _forget_keys(state, recorded.at)
        state.spawn_keys[event.key] = SpawnKey(event.fingerprint, recorded.stream, recorded.at)
    name = event.name.lower()
    state.counters.names += name not in state.generations
    state.names[name] = recorded.stream
    state.generations.pop(name, None)
    state.generations[name] = event.generation
    _forget_generations(state)


def _forget_keys(state: State, now: float) -> None:
    """Make room for one more, and forget what is too old."""
    for key in list(state.spent_spawn_keys(now)):
        is_old = state.spawn_keys[key].at <= now - message.KEY_MAX_S
        if not is_old and len(state.spawn_keys) < message.KEYS_KEPT:
            return
        del state.spawn_keys[key]


def _spawn_repeated(state: State, event: events.SpawnRepeated, _recorded: Recorded, _: Any) -> None:
    known = state.spawn_keys[event.key]
    if known.answer is None:
        known.joined.append(event.request_id)


def _spawn_key_answered(state: State, event: events.SpawnKeyAnswered, _recorded: Recorded, _: Any) -> None:
    known = state.spawn_keys[event.key]
    known.joined, known.answer = [], event.answer
    if isinstance(event.answer, Refused) and may_pass(event.answer.kind):
        del state.spawn_keys[event.key]


def _forget_generations(state: State) -> None:
    """Forget names of former agents, least recently spawned first. What goes is the number, never that it was given."""
    excess = len(state.generations) - len(state.names) - GENERATIONS_KEPT
    if excess > 0:
        former = (name for name in state.generations if name not in state.names)
        for name in list(itertools.islice(former, excess)):
            state.generation_floor = max(state.generation_floor, state.generations.pop(name))


def _registration_asked(
    state: State, event: events.RegistrationAsked, _recorded: Recorded, registration: Registration
) -> None:
    registration.until = registration.reserved_at + agent_machine.REGISTER_S
    state.link.pending[event.request_id] = Pending(
        "agent.register", registration.stream, event.until or registration.until
    )


def _fell_back(
    state: State, event: events.RegistrationFellBack, _recorded: Recorded, registration: Registration
) -> None:
    for request_id in _close_requests(state, registration.stream):
        abandon(state, request_id, registration.stream)
    registration.step = event.step


def _called(state: State, event: events.RegistrationCalled, recorded: Recorded, _: Any) -> None:
    registration = state.registrations[recorded.stream]
    registration.step, registration.call_id, registration.tries, registration.retry_at = (
        event.step,
        event.call_id,
        event.tries,
        0.0,
    )


def _delayed(state: State, event: events.RegistrationDelayed, recorded: Recorded, _: Any) -> None:
    registration = state.registrations[recorded.stream]
    registration.call_id, registration.retry_at = "", event.until


def _binding(_state: State, event: events.AgentBinding, _recorded: Recorded, registration: Registration) -> None:
    registration.until = registration.reserved_at + agent_machine.REGISTER_S
    registration.agent_id, registration.fingerprint = event.agent_id, event.fingerprint


def _proven(state: State, event: events.RegistrationProven, recorded: Recorded, _: Any) -> None:
    state.registrations[recorded.stream].agent_id = event.agent_id


def _paused(state: State, event: events.RegistrationPaused, _recorded: Recorded, _: Any) -> None:
    state.link.register_pause_until = event.until


def _model_switched(state: State, event: events.ModelSwitched, recorded: Recorded, _: Any) -> None:
    registration = state.registrations[recorded.stream]
    registration.spec = msgspec.structs.replace(registration.spec, model=event.model)
    if flag := registration.harness.model_flag:  # for the program that may take its place
        registration.argv = switched_model(registration.argv, flag, event.model, last=bool(registration.spec.harness))


def _early_frame(state: State, event: events.EarlyFrameKept, recorded: Recorded, _: Any) -> None:
    state.link.heard_at = recorded.at
    state.registrations[recorded.stream].early.append(event.frame)


def _registration_accepted(
    state: State, event: events.RegistrationAccepted, recorded: Recorded, registration: Registration
) -> None:
    registration.agent_id, registration.fingerprint = event.agent_id, event.fingerprint
    registration.call_id, registration.retry_at, registration.early = "", 0.0, []
    state.agents[event.agent_id] = registration.stream
    state.link.heard_at = recorded.at
    load_changed(state, recorded.at)
    _close_requests(state, registration.stream)


def _registration_failed(state: State, _event: Any, recorded: Recorded, registration: Registration) -> None:
    registration.early = []
    unanswered = _close_requests(state, registration.stream)
    for request_id in unanswered:
        abandon(state, request_id, registration.stream)
    _abandon_call(state, registration)
    if unanswered or registration.step:  # the engine may have done it: the next inventory says that nobody is here
        state.link.inventory_changed_at = state.link.inventory_changed_at or recorded.at


def _abandon_call(state: State, registration: Registration) -> None:
    if registration.call_id:
        abandon(state, registration.call_id, registration.stream)
        registration.call_id, registration.retry_at = "", 0.0


def _token_rotated(state: State, event: events.AgentTokenRotated, recorded: Recorded, _: Any) -> None:
    registration = state.registrations[recorded.stream]
    registration.fingerprint, registration.stale_token = event.fingerprint, True
    state.link.abandoned.pop(event.request_id, None)


def _close_requests(state: State, stream: str) -> list[str]:
    closed = [request_id for request_id, pending in state.link.pending.items() if pending.subject == stream]
    for request_id in closed:
        del state.link.pending[request_id]
    return closed


def _agent_live(state: State, _event: Any, recorded: Recorded, registration: Registration) -> None:
    registration.live_at = recorded.at
    if not registration.is_joining:
        registration.request_id, registration.invocation_id, registration.answered_at = "", "", recorded.at
    load_changed(state, recorded.at)
    state.counters.spawned += 1
    state.workers[registration.session_id].until = 0.0


def _restart_planned(
    state: State, event: events.AgentRestartPlanned, recorded: Recorded, registration: Registration
) -> None:
    former = state.workers.pop(registration.session_id)
    registration.first_session_id = registration.first_session_id or former.session_id
    registration.session_id, registration.restarts, registration.failures = (
        event.session_id,
        event.restarts,
        event.failures,
    )
    registration.argv = event.argv or registration.argv
    registration.hinted, registration.stale_token = False, False  # the next program gets the newest token, and the hint
    state.workers[event.session_id] = Worker(
        stream=f"worker:{event.session_id}",
        session_id=event.session_id,
        registration=registration.stream,
        name=registration.name,
        agent_id=registration.agent_id,
        state=worker.TABLE.initial,
        until=0.0,
        launched_at=recorded.at,
        starts_at=event.until,
        active_at=recorded.at,
        waiting=former.waiting,
        resumes=former.door_place or former.resumes,
    )


def _restarted(state: State, _event: Any, _recorded: Recorded, registration: Registration) -> None:
    state.counters.restarted += 1
    state.workers[registration.session_id].until = 0.0


def _given_up(state: State, _event: Any, recorded: Recorded, _: Any) -> None:
    state.workers[state.registrations[recorded.stream].session_id].sequel = worker.Sequel.NONE


def _agent_leaving(state: State, event: events.AgentLeaving, recorded: Recorded, registration: Registration) -> None:
    if (box := state.mailboxes.get(registration.agent_id)) is not None:
        box.left_by = str(event.reason)
    _abandon_call(state, registration)
    registration.request_id, registration.invocation_id = "", ""
    registration.release_requests, registration.release_invocations, registration.early = [], [], []
    load_changed(state, recorded.at)


def _release_asked(state: State, event: events.ReleaseAsked, recorded: Recorded, _: Any) -> None:
    registration = state.registrations[recorded.stream]
    if event.request_id:
        registration.release_requests.append(event.request_id)
    if event.invocation_id:
        registration.release_invocations.append(event.invocation_id)


def _late_registration(state: State, event: events.LateRegistrationRefused, _recorded: Recorded, _: Any) -> None:
    state.link.abandoned.pop(event.request_id, None)


def _channel_asked(state: State, event: events.ChannelAsked, recorded: Recorded, _: Any) -> None:
    state.calls[event.call_id] = f"{recorded.stream} {event.channel}"
    registration = state.registrations[recorded.stream]
    membership = registration.channels.setdefault(event.channel.lower(), Membership(event.channel))
    membership.call_id, membership.retry_at, membership.refused = event.call_id, 0.0, ""
    membership.tries += 1


def _channel_answered(state: State, event: events.ChannelAnswered, recorded: Recorded, _: Any) -> None:
    for call_id in [known for known, subject in state.calls.items() if subject == f"{recorded.stream} {event.channel}"]:
        del state.calls[call_id]
    registration = state.registrations.get(recorded.stream)
    membership = registration.channels.get(event.channel.lower()) if registration is not None else None
    if membership is None:
        return
    membership.call_id = ""
    if engine_status.is_done(event.status):
        membership.joined = True
    elif event.until or engine_status.is_ill(event.status):  # in older logs no answer has an `until`
        membership.retry_at = event.until or recorded.at
    else:
        membership.refused = event.detail or str(event.status)


def _spawn_answered(state: State, _event: Any, recorded: Recorded, _: Any) -> None:
    registration = state.registrations[recorded.stream]
    registration.request_id, registration.invocation_id, registration.answered_at = "", "", recorded.at


def _act_asked(state: State, event: events.ActAsked, recorded: Recorded, _: Any) -> None:
    channel = event.arguments.get("name" if event.act == "create_channel" else "channel", "")
    registration = state.registrations.get(recorded.stream)
    state.acts[event.call_id] = Act(
        recorded.stream,
        event.request_id,
        event.act,
        channel.removeprefix("#"),
        agent_id=registration.agent_id if registration is not None else "",
        reads=event.arguments.get("message_id", "") if event.act == MARK_READ else "",
        key=event.key,
    )
    if event.key:
        state.remember_acted(event.key, Acted(event.act, event.arguments))


def _act_answered(state: State, event: events.ActAnswered, recorded: Recorded, _: Any) -> None:
    act = state.acts.pop(event.call_id)
    if act.key in state.acted:
        state.acted[act.key].answer = event.answer
    registration = state.registrations.get(recorded.stream)
    if (
        registration is None
        or not act.channel
        or act.act not in MEMBERSHIP_ACTS
        or not engine_status.is_done(event.status)
    ):
        return
    key = act.channel.lower()
    if key not in registration.channels and len(registration.channels) >= MEMBERSHIPS_KEPT:
        return
    membership = registration.channels.setdefault(key, Membership(act.channel))
    membership.joined, membership.left = act.act != "leave_channel", act.act == "leave_channel"
    membership.retry_at, membership.refused, membership.call_id = 0.0, "", ""


def _result_submitted(state: State, event: events.ResultSubmitted, recorded: Recorded, _: Any) -> None:
    if event.final:
        state.registrations[recorded.stream].final_result = f"{event.result_id} {event.fingerprint}"


CHANGES: Changes = {
    events.NameReserved: _name_reserved,
    events.RegistrationAsked: _registration_asked,
    events.RegistrationFellBack: _fell_back,
    events.RegistrationCalled: _called,
    events.RegistrationDelayed: _delayed,
    events.RegistrationPaused: _paused,
    events.RegistrationProven: _proven,
    events.AgentBinding: _binding,
    events.AgentTokenRotated: _token_rotated,
    events.EarlyFrameKept: _early_frame,
    events.ModelSwitched: _model_switched,
    events.RegistrationAccepted: _registration_accepted,
    events.RegistrationFailed: _registration_failed,
    events.AgentLive: _agent_live,
    events.AgentRestartPlanned: _restart_planned,
    events.AgentRestarted: _restarted,
    events.AgentGivenUp: _given_up,
    events.AgentLeaving: _agent_leaving,
    events.ReleaseAsked: _release_asked,
    events.LateRegistrationRefused: _late_registration,
    events.LateRegistrationKept: _late_registration,
    events.ActAsked: _act_asked,
    events.ActAnswered: _act_answered,
    events.ResultSubmitted: _result_submitted,
    events.ChannelAsked: _channel_asked,
    events.ChannelAnswered: _channel_answered,
    events.SpawnAnswered: _spawn_answered,
    events.SpawnRepeated: _spawn_repeated,
    events.SpawnKeyAnswered: _spawn_key_answered,
}
