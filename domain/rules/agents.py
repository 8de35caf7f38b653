"""Decisions about agents: one spawn pipeline for every caller, registration, release, and the end of a worker.

Source: spec/node-protocol.md section 3; spec/local-api.md sections 5.1, 5.6, 11.3.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from relaybroker.domain import agent as agent_machine
from relaybroker.domain import couplings, events, frames, permissions, replies, sessions, worker
from relaybroker.domain.agent import PRESENT, UNREGISTERED, AgentState
from relaybroker.domain.command_line import check_variables, command_line, with_model
from relaybroker.domain.doors import is_without_terminal
from relaybroker.domain.effects import ForgetProgram, Reply, StopProgram
from relaybroker.domain.entities import Registration, Worker
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.events import Harness
from relaybroker.domain.inputs import (
    EngineAnswered,
    EngineUnanswered,
    ModelSwitched,
    ProgramExited,
    ProgramNotStarted,
    ReleaseRequested,
    SpawnRequested,
    SpawnSpec,
)
from relaybroker.domain.link import LinkState
from relaybroker.domain.names import is_agent_name
from relaybroker.domain.reasons import SENTENCES, Reason
from relaybroker.domain.rules import (
    action_results,
    agent_outcome,
    channels,
    fallback,
    link,
    restarts,
    settling,
    spawn_keys,
)
from relaybroker.domain.rules.spawn_values import check_values
from relaybroker.domain.state import State as BrokerState
from relaybroker.domain.turn import Turn
from relaybroker.domain.worker import Sequel, WorkerState

RESERVED_NAMES = frozenset({"broker", "dashboard", "relaycast", "system"})
SIDECAR, REMOTE = "sidecar", "relaycast_ws"
CHANNELS_S = 5.0
"""How long the answer to a spawn waits for the channels of an agent that is live."""
SPAWN_ANSWER_S = 24.0
"""From the request to that answer at the latest; the local API answers within 25 s."""

HarnessOf = Callable[[tuple[str, ...], str], Harness]
"""The harness of a command line, or the one of a name; an unknown name raises InvalidRequest."""


def refuse(turn: Turn, request_id: str, request: str, error: InvalidRequest) -> None:
    """Record that a local request was refused, and say so."""
    turn.record(
        events.RequestRefused(
            request_id=request_id, request=request, refusal=error.kind, code=error.code, detail=error.message
        ),
        turn.broker,
    )
    turn.effect(refusal(request_id, error))


def refusal(request_id: str, error: InvalidRequest) -> Reply:
    """The answer to a local request that is refused."""
    return Reply(request_id=request_id, answer=replies.refused(error))


def over(agent_id: str) -> InvalidRequest:
    """The refusal of what an agent asks for that is no longer registered here."""
    return InvalidRequest(Refusal.UNKNOWN_CALLER, "unauthorized", f"the agent {agent_id} is no longer registered here")


# --- spawn --------------------------------------------------------------------------------------------------------------


def spawn_requested(turn: Turn, request: SpawnRequested, harness_of: HarnessOf) -> None:
    """A local caller wants an agent."""
    try:
        if request.key and (known := turn.state.spawn_keys.get(request.key)) is not None:
            spawn_keys.again(turn, request, known)
            return
        spawn_keys.check_room(turn, request.key)
        reserve(
            turn,
            request.spec,
            harness_of,
            source=request.source,
            request_id=request.request_id,
            invocation_id=request.invocation_id,
            key=request.key,
            fingerprint=spawn_keys.fingerprint(request) if request.key else "",
        )
    except InvalidRequest as error:
        error.extra.setdefault("name", request.spec.name)
        refuse(turn, request.request_id, "spawn", error)


def reserve(
    turn: Turn,
    spec: SpawnSpec,
    harness_of: HarnessOf,
    *,
    source: str,
    request_id: str,
    invocation_id: str,
    key: str = "",
    fingerprint: str = "",
) -> Registration:
    """Take the name, before anything remote happens, and start the registration if the link is online.

    Raises:
        InvalidRequest: the name is not allowed or taken, a value is not allowed, the command cannot be read, its harness is unknown, the
            session cannot be resumed, its permissions may not be bypassed, or the broker is stopping. Nothing changed.
    """
    check_name(turn, spec.name)
    check_values(spec)
    argv = command_line(spec.cli, spec.args)
    harness = harness_of(argv, spec.harness)
    if is_without_terminal(harness.doors if spec.doors is None else spec.doors):
        harness = msgspec.structs.replace(harness, session=None)  # its door goes on with its conversation
    check_variables(spec.env_names)
    argv = permissions.permitted(
        argv,
        harness.bypass,
        wanted=spec.permission_mode,
        mode=turn.settings.permission_mode,
        is_remote=source == REMOTE,
        offered=0 if turn.settings.remote_args else len(command_line(spec.cli, ())),
    )
    chosen = sessions.choose(argv, harness.session, wanted=spec.session_ref, fresh=turn.fresh("own_session"))
    argv, spec = chosen.argv, msgspec.structs.replace(spec, session_ref=chosen.ref)
    if spec.model:
        if not harness.model_flag:
            raise InvalidRequest(
                Refusal.INVALID, "invalid_model", f"'{spec.cli}' has no model to select", field="model"
            )
        argv = with_model(argv, harness.model_flag, spec.model, last=bool(spec.harness))
    generation = turn.state.next_generation(spec.name)
    stream = f"agent:{spec.name}:{generation}"
    seconds = agent_machine.REGISTER_S if link.is_online(turn) else agent_machine.HOLD_REQUEST_S
    turn.record(
        events.NameReserved(
            name=spec.name,
            generation=generation,
            session_id=f"ws_{turn.fresh('session')}",
            source=source,
            request_id=request_id,
            invocation_id=invocation_id,
            spec=spec,
            harness=harness,
            argv=argv,
            until=turn.now + seconds,
            key=key,
            fingerprint=fingerprint,
        ),
        stream,
        spec.name,
    )
    registration = turn.state.registrations[stream]
    if link.is_online(turn):
        _register(turn, registration)
    return registration


def check_name(turn: Turn, name: str) -> None:
    """Raise InvalidRequest unless the name may be spawned now."""
    if turn.state.stopping_until:
        raise InvalidRequest(Refusal.UNAVAILABLE, "shutting_down", "the broker is stopping")
    if not name:
        raise InvalidRequest(Refusal.INVALID, "missing_field", "Missing required field: name", field="name")
    own = {turn.settings.broker_name.lower(), turn.state.own.name.lower()}
    if not is_agent_name(name) or name.lower() in RESERVED_NAMES | own:
        raise InvalidRequest(Refusal.INVALID, "invalid_name", f"'{name[:140]}' is not an allowed agent name")
    holder = turn.state.registration_of(name)
    if holder is not None and holder.state != AgentState.DEREGISTERING:
        raise InvalidRequest(Refusal.CONFLICT, "agent_exists", f"agent '{name}' already exists")
    if turn.state.link.state == LinkState.REFUSED:
        refusal = turn.state.link
        why = SENTENCES[refusal.reason] if refusal.reason else ""
        raise InvalidRequest(
            Refusal.UNAVAILABLE, "engine_unavailable", f"the engine refused this node: {why} {refusal.detail}".strip()
        )


def _register(turn: Turn, registration: Registration) -> None:
    """Ask the engine: with a frame, or over HTTP if the caller brought a token, which a registration would rotate."""
    if registration.spec.supplied_token:
        fallback.bind_supplied(turn, registration, registration.spec.supplied_token)
        return
    request_id = f"agent_register_{turn.fresh('agent')}"
    until = min(registration.reserved_at + agent_machine.REGISTER_S, turn.now + agent_machine.REPLY_S)
    turn.record(events.RegistrationAsked(request_id=request_id, until=until), registration.stream, registration.name)
    link.send(
        turn,
        frames.agent_register(
            request_id,
            name=registration.name,
            invocation_id=registration.invocation_id,
            session_ref=registration.spec.session_ref,
        ),
    )


def link_online(turn: Turn) -> None:
    """The link takes frames again: what is owed for agents goes out, deregistrations before registrations."""
    for registration in list(turn.state.registrations.values()):
        if registration.state == AgentState.DEREGISTERING:
            agent_outcome.deregister(turn, registration)
    for registration in list(turn.state.registrations.values()):
        if registration.waits_for_link:
            _register(turn, registration)


def link_lost(turn: Turn) -> None:
    """Registrations that waited for an answer on the lost socket go on over HTTP, unless nobody but a sidecar waits."""
    for registration in list(turn.state.registrations.values()):
        if couplings.LINK_DROPS_REGISTRATION.concerns(registration.state):
            _unanswered(turn, registration, "node_control_disconnected", "the link to the engine was lost")


def _unanswered(turn: Turn, registration: Registration, code: str, detail: str) -> None:
    if registration.source == SIDECAR or turn.state.stopping_until:
        reason = Reason.REGISTRATION_TIMEOUT if code == "agent_register_timeout" else Reason.ENGINE_UNAVAILABLE
        agent_outcome.fail(turn, registration, reason, code, detail)
    else:
        fallback.begin(turn, registration, Reason.NO_ANSWER, f"{code}: {detail}")


def accepted(turn: Turn, registration: Registration, data: dict[str, object], request_id: str) -> None:
    """The engine registered the agent: start its program."""
    agent_id, token = data.get("agent_id"), data.get("token")
    if not isinstance(agent_id, str) or not agent_id or not isinstance(token, str) or not token:
        if isinstance(agent_id, str) and agent_id and agent_id not in turn.state.agents:
            link.send(turn, frames.agent_deregister(f"undo_{request_id}", agent_id=agent_id, name=registration.name))
        code = "invalid_agent_register_reply_data"
        agent_outcome.fail(turn, registration, Reason.REGISTRATION_REFUSED, code, "no usable agent id or token")
        return
    agent_outcome.registered(turn, registration, agent_id=agent_id, fingerprint=token, data=data)


def refused(turn: Turn, registration: Registration, code: str, message: str) -> None:
    """The engine refused the registration: final, unless it only creates names and this one may be ours."""
    if code == "agent_already_exists":
        fallback.begin(turn, registration, Reason.REGISTRATION_REFUSED, f"{code}: {message}", exists=True)
    else:
        agent_outcome.fail(turn, registration, Reason.REGISTRATION_REFUSED, code, message)


def late_reply(turn: Turn, stream: str, request_id: str, data: dict[str, object]) -> None:
    """A registration that nobody waits for any more was accepted after all: undo it, unless that would end a living agent."""
    agent_id = data.get("agent_id") or data.get("id")
    if not isinstance(agent_id, str) or not agent_id:
        return
    name = stream.split(":")[1]
    holder = turn.state.registration_of(name)
    if agent_id in turn.state.agents:
        _token_replaced(turn, turn.state.registrations[turn.state.agents[agent_id]], request_id, data)
    elif holder is not None and holder.state in UNREGISTERED:
        turn.record(events.LateRegistrationKept(agent_id=agent_id, request_id=request_id), holder.stream, name)
        if holder.state == AgentState.FALLING_BACK and not holder.agent_id:
            proof = events.RegistrationProven(agent_id=agent_id, evidence="late_register")
            turn.record(proof, holder.stream, name)
    else:
        turn.record(events.LateRegistrationRefused(agent_id=agent_id, request_id=request_id), stream, name)
        if link.is_online(turn):  # else the inventory that begins the next session says it
            link.send(turn, frames.agent_deregister(f"undo_{request_id}", agent_id=agent_id, name=name))


def _token_replaced(turn: Turn, registration: Registration, request_id: str, data: dict[str, object]) -> None:
    fingerprint = str(data.get("token") or "")
    if fingerprint and fingerprint != registration.fingerprint:
        event = events.AgentTokenRotated(cause="late_register", request_id=request_id, fingerprint=fingerprint)
        turn.record(event, registration.stream, registration.name)
    else:
        turn.record(
            events.LateRegistrationKept(agent_id=registration.agent_id, request_id=request_id), registration.stream
        )


# --- the program ----------------------------------------------------------------------------------------------------------


def survived(turn: Turn, registration: Registration, program: Worker) -> None:
    """The program outlived its first moments: the spawn succeeded, and everybody who waits is told once its channels have answered."""
    request_id, invocation_id = registration.request_id, registration.invocation_id
    turn.record(events.AgentLive(pid=program.pid), registration.stream, registration.name)
    if not registration.is_joining:
        _answer_spawn(turn, registration, request_id, invocation_id)


def _answer_spawn(turn: Turn, registration: Registration, request_id: str, invocation_id: str) -> None:
    spawn_keys.tell(turn, registration, request_id, _spawned(turn, registration))
    if invocation_id:
        action_results.spawn_ended(turn, invocation_id, registration.name, None, "")


def _answer_late(turn: Turn, registration: Registration) -> None:
    """The agent is live: tell whoever still waits for it, now that its channels have answered or took too long."""
    request_id, invocation_id = registration.request_id, registration.invocation_id
    turn.record(events.SpawnAnswered(), registration.stream, registration.name)
    _answer_spawn(turn, registration, request_id, invocation_id)


def _waits_for_channels(registration: Registration) -> bool:
    waits = bool(registration.request_id or registration.invocation_id)
    return registration.state in (AgentState.LIVE, AgentState.RESTARTING) and waits


def _answer_by(registration: Registration) -> float:
    """When whoever waits for a live agent is answered, whatever its channels have answered by then."""
    return max(registration.live_at, min(registration.live_at + CHANNELS_S, registration.reserved_at + SPAWN_ANSWER_S))


def _spawned(turn: Turn, registration: Registration) -> replies.Spawned:
    pending = channels.pending(registration, turn.settings)
    return replies.Spawned(
        name=registration.name,
        model=registration.spec.model,
        session=registration.session,
        pid=turn.state.workers[registration.session_id].pid,
        agent_id=registration.agent_id,
        channels=tuple(channels.joined(registration, turn.settings)),
        channels_pending=tuple(pending),
        warning=_spawn_warning(turn, registration, pending),
        has_terminal=registration.has_terminal,
    )


def _spawn_warning(turn: Turn, registration: Registration, pending: list[str]) -> str:
    """What of the spawn is otherwise than the caller may think."""
    said = []
    if turn.state.is_flushed_by_hand(registration.name):
        said.append(f"messages for '{registration.name}' are held until they are flushed (manual_flush)")
    said += [f"not in #{channel}: {why}" for channel, why in channels.refused(registration, turn.settings).items()]
    said += [f"not in #{channel} yet: the engine has not answered; it is asked again" for channel in pending]
    return "; ".join(said)


def channel_answered(turn: Turn, subject: str, answer: EngineAnswered | EngineUnanswered) -> None:
    """The engine answered for a channel. The last answer for an agent that is live is also that of its spawn."""
    stream, _, channel = subject.partition(" ")
    registration = turn.state.registrations.get(stream)
    if registration is None or registration.state not in PRESENT:
        channels.answered(turn, stream, None, channel, answer)
        return
    channels.answered(turn, stream, registration, channel, answer)
    if _waits_for_channels(registration) and not registration.is_joining:
        _answer_late(turn, registration)


def not_started(turn: Turn, program: Worker, report: ProgramNotStarted) -> None:
    """The host could not start the program."""
    reason = Reason(report.reason) if report.reason in list(Reason) else Reason.SPAWN_FAILED
    _never_ran(turn, program, reason, report.detail, report=report.report)


def withheld(turn: Turn, program: Worker, reason: Reason, detail: str) -> None:
    """The host was not asked to start the program."""
    _never_ran(turn, program, reason, detail)


def _never_ran(turn: Turn, program: Worker, reason: Reason, detail: str, *, report: int = 0) -> None:
    turn.record(
        events.WorkerExited(
            report=report,
            code=None,
            signal=None,
            last_output="",
            uptime_s=0.0,
            reason=reason,
            sequel=restarts.sequel(turn, program),
        ),
        program.stream,
        program.name,
    )
    ended(turn, program, reason, detail)


def exited(turn: Turn, program: Worker, report: ProgramExited) -> None:
    """The program ended, by itself or because it was told to."""
    reason = program.stop_reason or Reason.WORKER_EXITED
    failed = bool(report.code or report.signal) and not report.requested
    turn.record(
        events.WorkerExited(
            report=report.report,
            code=report.code,
            signal=report.signal,
            last_output=report.last_output,
            uptime_s=report.uptime_s,
            reason=reason,
            sequel=restarts.sequel(turn, program) if failed else Sequel.NONE,
        ),
        program.stream,
        program.name,
    )
    how = f"signal {report.signal}" if report.signal else f"exit status {report.code}"
    if report.cause == "terminal_closed":
        how = "it closed its terminal before it was ready, and was ended"
    elif report.cause == "no_way_in":
        how = "it has no terminal, and its door did not open or closed; it was ended"
    ended(turn, program, reason, f"{how}; last output: {report.last_output[-400:]}")


def lost(turn: Turn, program: Worker, detail: str, *, may_live: bool = False) -> None:
    """Nobody can say any more what became of the program. If it was being stopped, that is why it is gone.

    `may_live`: its host did not answer. As soon as it does, what it still runs of us is ended.
    """
    reason = program.stop_reason or Reason.WORKER_LOST
    lost_now = events.WorkerLost(reason=reason, detail=detail, sequel=restarts.sequel(turn, program))
    turn.record(lost_now, program.stream, program.name)
    ended(turn, program, reason, detail, may_live=may_live)


def ended(turn: Turn, program: Worker, reason: Reason, detail: str, *, may_live: bool = False) -> None:
    """One clean-up for every way in which a worker ends: deliveries, waiting callers, the engine, the host; unless it is started again."""
    if program.sequel == Sequel.RESTART:
        restarts.plan(turn, program, reason, detail)
        return
    if program.sequel == Sequel.GIVEN_UP:
        restarts.give_up(turn, program)
    settling.worker_ended(turn, program, reason)
    turn.effect(ForgetProgram(session_id=program.session_id))
    registration = turn.state.registrations.get(program.registration)
    if registration is None or not couplings.WORKER_ENDS_REGISTRATION.concerns(registration.state):
        return
    request_id, invocation_id = registration.request_id, registration.invocation_id
    releases = (list(registration.release_requests), list(registration.release_invocations))
    turn.record(events.AgentLeaving(reason=reason, detail=detail[:500]), registration.stream, registration.name)
    agent_outcome.answer_failure(
        turn, registration, request_id, invocation_id, agent_outcome.spawn_reason(reason), detail
    )
    request_ids, invocation_ids = releases
    agent_outcome.answer_releases(
        turn, registration.name, [], invocation_ids
    )  # node-protocol.md section 3.7: the result goes first
    if link.is_online(turn):
        agent_outcome.deregister(turn, registration)
    agent_outcome.answer_releases(turn, registration.name, request_ids, [], may_live=may_live)


# --- release ------------------------------------------------------------------------------------------------------------------


def release_requested(turn: Turn, request: ReleaseRequested) -> None:
    """A local caller wants an agent gone; an unknown one is gone already."""
    if not release(turn, request.name, request_id=request.request_id, reason=request.reason):
        turn.record(
            events.ReleaseIgnored(request_id=request.request_id, name=request.name, reason=request.reason), turn.broker
        )
        leaving = turn.state.registration_of(request.name)
        answer = replies.Released(name=request.name, existed=False, engine_unaware=leaving is not None)
        turn.effect(Reply(request_id=request.request_id, answer=answer))


def release(turn: Turn, name: str, *, request_id: str = "", invocation_id: str = "", reason: str = "") -> bool:
    """End the agent of this name; False if there is none."""
    registration = turn.state.registration_of(name)
    if registration is None or registration.state == AgentState.DEREGISTERING:
        return False
    turn.record(
        events.ReleaseAsked(request_id=request_id, invocation_id=invocation_id, reason=reason[:500]),
        registration.stream,
        registration.name,
    )
    program = turn.state.workers.get(registration.session_id)
    if (
        registration.state in UNREGISTERED or program is None
    ):  # none: the log was cut off in front of the program's first record
        agent_outcome.fail(turn, registration, Reason.AGENT_RELEASED, "", "released while it was being registered")
    else:
        stop(turn, program, Reason.AGENT_RELEASED, worker.RELEASE_GRACE_S)
    return True


def idle(turn: Turn, program: Worker) -> None:
    """The program is idle: release the agent if it was spawned for one task, has got it, and nothing waits for it."""
    registration = turn.state.registrations.get(program.registration)
    if registration is None or not registration.spec.exit_after_task or not registration.task_typed:
        return
    if program.state != WorkerState.READY or program.waiting or program.typing:
        return
    if _waits_for_channels(registration):
        _answer_late(turn, registration)
    stop(turn, program, Reason.TASK_DONE, worker.RELEASE_GRACE_S)


def stop(turn: Turn, program: Worker, reason: Reason, grace_s: float) -> None:
    """Take the worker out of dispatch, hand its queue back, and end its process group as soon as nothing is being typed."""
    if program.ended or program.state == WorkerState.STOPPING:
        return
    read_at = program.last_typed_at + worker.READ_S
    runs_not = program.starts_at > 0
    ends_at = turn.now + worker.LAST_WORDS_S if program.typing else read_at if read_at > turn.now else 0.0
    turn.record(
        events.WorkerStopping(
            reason=reason, grace_s=grace_s, until=max(turn.now, ends_at) + grace_s + 5.0, ends_at=ends_at
        ),
        program.stream,
        program.name,
    )
    for stream in list(program.waiting):
        settling.give_up(turn, turn.state.deliveries[stream], reason)
    if runs_not:
        _never_ran(turn, program, reason, "it was not started again")
    elif not ends_at:
        end_program(turn, program)


def end_program(turn: Turn, program: Worker) -> None:
    """The host is asked (again) to end a program that is being stopped."""
    turn.effect(StopProgram(session_id=program.session_id, grace_s=program.grace_s, reason=str(program.stop_reason)))


def fail_unregistered(turn: Turn, reason: Reason, detail: str = "") -> None:
    """Spawns that are not registered yet end now."""
    for registration in list(turn.state.registrations.values()):
        if couplings.BROKER_DROPS_REGISTRATION.concerns(registration.state):
            agent_outcome.fail(turn, registration, reason, "", detail)


def broker_started(turn: Turn) -> None:
    """Callers of the former process are gone; registrations that were under way in it fail."""
    fail_unregistered(turn, Reason.ENGINE_UNAVAILABLE, "the broker was restarted during the registration")


def model_switched(turn: Turn, request: ModelSwitched) -> None:
    """Keep which model an agent uses."""
    registration = turn.state.registration_of(request.name)
    if registration is None:
        error = InvalidRequest(Refusal.ABSENT, "agent_not_found", f"unknown worker '{request.name}'", name=request.name)
        refuse(turn, request.request_id, "model", error)
        return
    turn.record(
        events.ModelSwitched(request_id=request.request_id, model=request.model), registration.stream, registration.name
    )
    turn.effect(Reply(request_id=request.request_id, answer=replies.Done(data={"model": request.model})))


# --- time ------------------------------------------------------------------------------------------------------------------------


def due(turn: Turn) -> None:
    """Registrations and workers whose time is up."""
    for registration in list(turn.state.registrations.values()):
        if registration.state in UNREGISTERED:
            _registration_due(turn, registration)
        elif registration.state in PRESENT:
            channels.due(turn, registration)
            if _waits_for_channels(registration) and _answer_by(registration) <= turn.now:
                _answer_late(turn, registration)
    for program in list(turn.state.workers.values()):
        if program.ends_at and program.end_due <= turn.now:
            turn.record(events.WorkerEndAsked(), program.stream, program.name)
            end_program(turn, program)
        if program.until and program.until <= turn.now and not program.ended:
            _worker_due(turn, program)


def _registration_due(turn: Turn, registration: Registration) -> None:
    if registration.until <= turn.now:
        if registration.state == AgentState.RESERVED:
            agent_outcome.fail(
                turn, registration, Reason.ENGINE_UNAVAILABLE, "node_control_disconnected", "the link is not online"
            )
        else:
            detail = "the engine did not answer in time"
            agent_outcome.fail(turn, registration, Reason.REGISTRATION_TIMEOUT, "agent_register_timeout", detail)
    elif registration.state == AgentState.REGISTERING and _reply_due(turn.state, registration) <= turn.now:
        _unanswered(turn, registration, "agent_register_timeout", "the frame was not answered")
    elif fallback.is_open(registration):
        fallback.due(turn, registration)


def _reply_due(state: BrokerState, registration: Registration) -> float:
    return next(
        (pending.until for pending in state.link.pending.values() if pending.subject == registration.stream),
        registration.until,
    )


def _worker_due(turn: Turn, program: Worker) -> None:
    registration = turn.state.registrations[program.registration]
    if program.state == WorkerState.LAUNCHING:
        turn.effect(StopProgram(session_id=program.session_id, grace_s=0.0, reason="start_timeout"))
        lost(turn, program, "the PTY host did not start the program in time")
    elif program.state == WorkerState.STOPPING:
        turn.effect(StopProgram(session_id=program.session_id, grace_s=0.0, reason="stop_timeout"))
        lost(turn, program, "the PTY host did not report the end of the program in time", may_live=True)
    elif registration.state == AgentState.REGISTERED:
        survived(turn, registration, program)
    elif registration.state == AgentState.RESTARTING:
        restarts.survived(turn, registration, program)


def deadline(state: BrokerState) -> float | None:
    """When a registration or worker needs attention next."""
    times = []
    for registration in state.registrations.values():
        if registration.state in UNREGISTERED:
            times += [registration.until, _reply_due(state, registration)] + (
                [registration.retry_at] if registration.retry_at else []
            )
        elif registration.channels and registration.state in PRESENT:
            times += [membership.retry_at for membership in registration.channels.values() if membership.retry_at]
            times += [_answer_by(registration)] if _waits_for_channels(registration) else []
    for program in state.workers.values():
        times += [program.until] if program.until and not program.ended else []
        times += [program.end_due] if program.ends_at else []
    return min(times) if times else None
