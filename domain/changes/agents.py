"""How events of agent registrations change the state."""

from __future__ import annotations

import itertools
from typing import Any

from relaybroker.domain import (
    agent as agent_machine,
)
from relaybroker.domain import (
    engine_status,
    events,
)
from relaybroker.domain.changes.link import abandon, load_changed
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.events import Recorded
from relaybroker.domain.state import (
    GENERATIONS_KEPT,
    MARK_READ,
    Act,
    Acted,
    Membership,
    Pending,
    Registration,
    State,
)


def _name_reserved(state: State, event: events.NameReserved, at: Recorded, _: Any) -> None:
    state.registrations[at.stream] = Registration(
        stream=at.stream,
        name=event.name,
        generation=event.generation,
        state=agent_machine.TABLE.initial,
        session_id=event.session_id,
        source=event.source,
        spec=event.spec,
        harness=event.harness,
        argv=event.argv,
        until=event.until,
        reserved_at=at.at,
        invocation_id=event.invocation_id,
        request_id=event.request_id,
    )
    name = event.name.lower()
    state.names[name] = at.stream
    state.generations.pop(name, None)
    state.generations[name] = event.generation
    _forget_generations(state)


def _forget_generations(state: State) -> None:
    """Forget names of former agents, least recently spawned first. What goes is the number, never that it was given."""
    excess = len(state.generations) - len(state.names) - GENERATIONS_KEPT
    if excess > 0:
        former = (name for name in state.generations if name not in state.names)
        for name in list(itertools.islice(former, excess)):
            state.generation_floor = max(state.generation_floor, state.generations.pop(name))


def _registration_asked(state: State, event: events.RegistrationAsked, _at: Recorded, found: Registration) -> None:
    found.until = found.reserved_at + agent_machine.REGISTER_S
    state.link.pending[event.request_id] = Pending("agent.register", found.stream, event.until or found.until)


def _fell_back(state: State, event: events.RegistrationFellBack, _at: Recorded, found: Registration) -> None:
    for request_id in _close_requests(state, found.stream):
        abandon(state, request_id, found.stream)
    found.step = event.step


def _called(state: State, event: events.RegistrationCalled, at: Recorded, _: Any) -> None:
    found = state.registrations[at.stream]
    found.step, found.call_id, found.tries, found.retry_at = event.step, event.call_id, event.tries, 0.0


def _delayed(state: State, event: events.RegistrationDelayed, at: Recorded, _: Any) -> None:
    found = state.registrations[at.stream]
    found.call_id, found.retry_at = "", event.until


def _binding(_state: State, event: events.AgentBinding, _at: Recorded, found: Registration) -> None:
    found.until = found.reserved_at + agent_machine.REGISTER_S
    found.agent_id, found.fingerprint = event.agent_id, event.fingerprint


def _proven(state: State, event: events.RegistrationProven, at: Recorded, _: Any) -> None:
    state.registrations[at.stream].agent_id = event.agent_id


def _paused(state: State, event: events.RegistrationPaused, _at: Recorded, _: Any) -> None:
    state.link.register_pause_until = event.until


def _registration_accepted(state: State, event: events.RegistrationAccepted, at: Recorded, found: Registration) -> None:
    found.agent_id, found.fingerprint = event.agent_id, event.fingerprint
    found.call_id, found.retry_at = "", 0.0
    state.agents[event.agent_id] = found.stream
    state.link.heard_at = at.at
    load_changed(state, at.at)
    _close_requests(state, found.stream)


def _registration_failed(state: State, _event: Any, at: Recorded, found: Registration) -> None:
    unanswered = _close_requests(state, found.stream)
    for request_id in unanswered:
        abandon(state, request_id, found.stream)
    _abandon_call(state, found)
    if unanswered or found.step:  # the engine may have done it: the next inventory says that nobody is here
        state.link.inventory_changed_at = state.link.inventory_changed_at or at.at


def _abandon_call(state: State, found: Registration) -> None:
    if found.call_id:
        abandon(state, found.call_id, found.stream)
        found.call_id, found.retry_at = "", 0.0


def _token_rotated(state: State, event: events.AgentTokenRotated, at: Recorded, _: Any) -> None:
    found = state.registrations[at.stream]
    found.fingerprint, found.stale_token = event.fingerprint, True
    state.link.abandoned.pop(event.request_id, None)


def _close_requests(state: State, stream: str) -> list[str]:
    closed = [request_id for request_id, pending in state.link.pending.items() if pending.subject == stream]
    for request_id in closed:
        del state.link.pending[request_id]
    return closed


def _agent_live(state: State, _event: Any, at: Recorded, found: Registration) -> None:
    found.live_at = at.at
    if not found.is_joining:
        found.request_id, found.invocation_id = "", ""
    load_changed(state, at.at)
    state.counters.spawned += 1
    state.workers[found.session_id].until = 0.0


def _agent_leaving(state: State, _event: Any, at: Recorded, found: Registration) -> None:
    _abandon_call(state, found)
    found.request_id, found.invocation_id = "", ""
    found.release_requests, found.release_invocations = [], []
    load_changed(state, at.at)


def _release_asked(state: State, event: events.ReleaseAsked, at: Recorded, _: Any) -> None:
    found = state.registrations[at.stream]
    if event.request_id:
        found.release_requests.append(event.request_id)
    if event.invocation_id:
        found.release_invocations.append(event.invocation_id)


def _late_registration(state: State, event: events.LateRegistrationRefused, _at: Recorded, _: Any) -> None:
    state.link.abandoned.pop(event.request_id, None)


def _channel_asked(state: State, event: events.ChannelAsked, at: Recorded, _: Any) -> None:
    state.calls[event.call_id] = f"{at.stream} {event.channel}"
    found = state.registrations[at.stream]
    membership = found.channels.setdefault(event.channel.lower(), Membership(event.channel))
    membership.call_id, membership.retry_at, membership.refused = event.call_id, 0.0, ""
    membership.tries += 1


def _channel_answered(state: State, event: events.ChannelAnswered, at: Recorded, _: Any) -> None:
    for call_id in [known for known, subject in state.calls.items() if subject == f"{at.stream} {event.channel}"]:
        del state.calls[call_id]
    found = state.registrations.get(at.stream)
    membership = found.channels.get(event.channel.lower()) if found is not None else None
    if membership is None:
        return
    membership.call_id = ""
    if engine_status.is_done(event.status):
        membership.joined = True
    elif event.until or engine_status.is_ill(event.status):  # in older logs no answer has an `until`
        membership.retry_at = event.until or at.at
    else:
        membership.refused = event.detail or str(event.status)


def _spawn_answered(state: State, _event: Any, at: Recorded, _: Any) -> None:
    found = state.registrations[at.stream]
    found.request_id, found.invocation_id = "", ""


def _act_asked(state: State, event: events.ActAsked, at: Recorded, _: Any) -> None:
    reads = event.arguments.get("message_id", "") if event.act == MARK_READ else ""
    found = state.registrations.get(at.stream)
    agent_id = found.agent_id if found is not None else ""
    state.acts[event.call_id] = Act(at.stream, event.request_id, agent_id=agent_id, reads=reads, key=event.key)
    if event.key:
        state.remember_acted(event.key, Acted(event.act, event.arguments))


def _act_answered(state: State, event: events.ActAnswered, _at: Recorded, _: Any) -> None:
    act = state.acts.pop(event.call_id)
    if act.key in state.acted:
        state.acted[act.key].answer = event.answer


def _result_submitted(state: State, event: events.ResultSubmitted, at: Recorded, _: Any) -> None:
    if event.final:
        state.registrations[at.stream].final_result = f"{event.result_id} {event.fingerprint}"


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
    events.RegistrationAccepted: _registration_accepted,
    events.RegistrationFailed: _registration_failed,
    events.AgentLive: _agent_live,
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
}
