"""How a registration ends: the agent is registered and its program starts, or everybody who waits is told why not.

Both routes, the frame and HTTP, come here; so do the clean-up after a failure and the word to the engine that an agent is gone.

Source: spec/node-protocol.md sections 3.3, 3.5 and 3.7; spec/local-api.md section 11.3.
"""

from __future__ import annotations

from relaybroker.domain import events, frames, replies, worker
from relaybroker.domain.agent import AgentState
from relaybroker.domain.composition import compose_task
from relaybroker.domain.effects import Reply, StartProgram
from relaybroker.domain.entities import Registration
from relaybroker.domain.errors import Refusal
from relaybroker.domain.reasons import SENTENCES, Reason
from relaybroker.domain.rules import action_results, channels, deliveries, link, mailboxes, settling, spawn_keys
from relaybroker.domain.turn import Turn

_FAILURES = {
    Reason.ENGINE_UNAVAILABLE: (Refusal.UNAVAILABLE, "engine_unavailable"),
    Reason.REGISTRATION_TIMEOUT: (Refusal.NO_ANSWER, "registration_timeout"),
    Reason.REGISTRATION_REFUSED: (Refusal.CONFLICT, "registration_refused"),
    Reason.AGENT_RELEASED: (Refusal.CONFLICT, "agent_released"),
    Reason.SHUTDOWN: (Refusal.UNAVAILABLE, "shutting_down"),
    Reason.CLI_NOT_FOUND: (Refusal.INVALID, "cli_not_found"),
    Reason.INVALID_CWD: (Refusal.INVALID, "invalid_cwd"),
    Reason.MCP_INJECTION_FAILED: (Refusal.FAILED, "mcp_injection_failed"),
}


# --- success ------------------------------------------------------------------------------------------------------------


def registered(
    turn: Turn, registration: Registration, *, agent_id: str, fingerprint: str, data: dict[str, object]
) -> None:
    """The agent is registered on this node: it gets its mailbox, its program and its task."""
    cursor = data.get("delivery_ack_seq")
    ack_seq = cursor if isinstance(cursor, int) and not isinstance(cursor, bool) and 0 <= cursor < 2**64 else None
    if (other := _living_holder(turn, registration, agent_id)) is not None:
        detail = f"the engine gave it the agent id {agent_id}, which '{other.name}' has"
        fail(turn, registration, Reason.REGISTRATION_REFUSED, "agent_id_reused", detail)
        return
    _forget_former(turn, registration, agent_id)
    kept = list(registration.early)
    turn.record(
        events.RegistrationAccepted(agent_id=agent_id, fingerprint=fingerprint, ack_seq=ack_seq),
        registration.stream,
        registration.name,
    )
    open_agent(turn, registration, ack_seq=ack_seq)
    mailboxes.early(turn, kept)


def open_agent(turn: Turn, registration: Registration, *, ack_seq: int | None) -> None:
    """Give a registered agent its mailbox, its channels, its program and its task."""
    _open_mailbox(turn, registration, ack_seq)
    channels.join(turn, registration)
    turn.record(
        events.WorkerLaunched(name=registration.name, agent_id=registration.agent_id, until=turn.now + worker.START_S),
        f"worker:{registration.session_id}",
        registration.name,
    )
    start_program(turn, registration)
    if compose_task(registration.spec.opening).text:
        deliveries.task_offered(turn, registration)


def _living_holder(turn: Turn, registration: Registration, agent_id: str) -> Registration | None:
    """Another agent of this node that lives under this id."""
    stream = turn.state.agents.get(agent_id)
    other = turn.state.registrations[stream] if stream else None
    return (
        other if other is not None and other is not registration and other.state != AgentState.DEREGISTERING else None
    )


def _forget_former(turn: Turn, registration: Registration, agent_id: str) -> None:
    """A deregistration of the same agent id that still waits for the link would now end the new agent: it is dropped."""
    for former in list(turn.state.registrations.values()):
        if former.state == AgentState.DEREGISTERING and former.agent_id == agent_id and former is not registration:
            turn.record(events.AgentRetired(superseded=True), former.stream, former.name)


def _open_mailbox(turn: Turn, registration: Registration, ack_seq: int | None) -> None:
    stream = f"mailbox:{registration.agent_id}"
    turn.record(
        events.MailboxOpened(name=registration.name, generation=registration.generation), stream, registration.name
    )
    box = turn.state.mailboxes[registration.agent_id]
    if ack_seq is not None and (box.base is None or ack_seq > box.floor):
        turn.record(events.MailboxBased(base=ack_seq, source="engine"), stream, registration.name)


def start_program(turn: Turn, registration: Registration) -> None:
    """Ask the host for the program of a registration; asking again for the same session starts nothing more."""
    spec = registration.spec
    turn.effect(
        StartProgram(
            session_id=registration.session_id,
            name=registration.name,
            argv=registration.argv,
            cwd=spec.cwd,
            env=spec.env,
            env_ref=spec.env_ref,
            profile=registration.harness.profile,
            agent_id="" if spec.skip_relay_prompt else registration.agent_id,
            rows=spec.rows,
            cols=spec.cols,
            idle_threshold_s=spec.idle_threshold_s,
            doors=registration.doors,
            resumes=turn.state.workers[registration.session_id].resumes,
        )
    )


# --- failure ------------------------------------------------------------------------------------------------------------


def fail(turn: Turn, registration: Registration, reason: Reason, code: str, detail: str) -> None:
    """The spawn ends before its program was started. What the engine may know of it by then is undone."""
    request_id, invocation_id, name, kept = (
        registration.request_id,
        registration.invocation_id,
        registration.name,
        list(registration.early),
    )
    releases = (list(registration.release_requests), list(registration.release_invocations))
    said = f"{code}: {detail}" if code else detail
    is_known = (
        registration.state == AgentState.BINDING
        and registration.agent_id
        and _living_holder(turn, registration, registration.agent_id) is None
    )
    if registration.state == AgentState.REGISTERED or is_known:
        turn.record(events.AgentLeaving(reason=reason, detail=said[:500]), registration.stream, name)
        if link.is_online(turn):
            deregister(turn, registration)
    else:
        turn.record(events.RegistrationFailed(reason=reason, code=code, detail=detail[:500]), registration.stream, name)
    answer_failure(turn, registration, request_id, invocation_id, reason, said)
    answer_releases(turn, name, *releases)
    mailboxes.early(turn, kept)


def answer_failure(
    turn: Turn, registration: Registration, request_id: str, invocation_id: str, reason: Reason, detail: str
) -> None:
    """Tell whoever waits for the spawn why it failed."""
    kind, code = _FAILURES.get(reason, (Refusal.FAILED, "spawn_failed"))
    name = registration.name
    message = f"agent '{name}' was not started: {SENTENCES[reason]} {detail}".strip()
    refused = replies.Refused(kind=kind, code=code, message=message, about={"name": name})
    spawn_keys.tell(turn, registration, request_id, refused)
    if invocation_id:
        action_results.spawn_ended(turn, invocation_id, name, reason, detail)


def spawn_reason(reason: Reason) -> Reason:
    """The reason that a failed spawn is answered with when its program ended for this one."""
    return reason if reason in _FAILURES else Reason.SPAWN_FAILED


def answer_releases(
    turn: Turn, name: str, request_ids: list[str], invocation_ids: list[str], *, may_live: bool = False
) -> None:
    """Tell whoever waits for the release. Whether the engine knows it yet is said too, and whether the program's end is known."""
    answer = replies.Released(
        name=name, existed=True, engine_unaware=not link.is_online(turn), end_unconfirmed=may_live
    )
    for request_id in request_ids:
        turn.effect(Reply(request_id=request_id, answer=answer))
    for invocation_id in invocation_ids:
        action_results.release_ended(turn, invocation_id, name)


# --- the engine's side of an end ------------------------------------------------------------------------------------------


def deregister(turn: Turn, registration: Registration) -> None:
    """Tell the engine that the agent is gone; acknowledgements that are owed go first."""
    if (box := turn.state.mailboxes.get(registration.agent_id)) is not None:
        settling.acknowledge(turn, box)
    request_id = f"dereg_{turn.state.position}"
    agent_id, name = registration.agent_id, registration.name
    turn.record(events.AgentRetired(), registration.stream, name)
    link.send(turn, frames.agent_deregister(request_id, agent_id=agent_id, name=name))
