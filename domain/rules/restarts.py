"""Decisions about programs that fail and whose spawn has a restart policy: whether, when and how they are started again.

The agent stays registered, under its name and id. What waits for it waits on, in order, for the next program; what may have been in the
terminal of the one that failed is settled as at every end. A failure is an exit with a status other than 0, a signal that nobody asked
for, the loss of the PTY host, or a start again that did not succeed. A spawn that fails in its first moments fails: it is not repeated.
A program with sessions of its own goes on with the one that it had (domain/sessions.py).

Source: spec/local-api.md sections 5.6 and 5.7; F108, F111.
"""

from __future__ import annotations

from relaybroker.domain import agent, couplings, events, sessions, worker
from relaybroker.domain.agent import AgentState
from relaybroker.domain.effects import ForgetProgram
from relaybroker.domain.entities import Registration, Worker
from relaybroker.domain.inputs import RestartPolicy
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import agent_outcome, deliveries, link, settling
from relaybroker.domain.state import State as BrokerState
from relaybroker.domain.turn import Turn
from relaybroker.domain.worker import Sequel


def sequel(turn: Turn, program: Worker) -> Sequel:
    """What follows the failure of a program."""
    registration = turn.state.registrations.get(program.registration)
    policy = registration.spec.restart if registration is not None else None
    if registration is None or policy is None or not policy.enabled or program.stop_reason is not None:
        return Sequel.NONE
    if not couplings.WORKER_RESTARTS_AGENT.concerns(registration.state):
        return Sequel.NONE
    return Sequel.RESTART if _is_allowed(turn, policy, registration, program) else Sequel.GIVEN_UP


def _is_allowed(turn: Turn, policy: RestartPolicy, registration: Registration, program: Worker) -> bool:
    in_a_row = _failures(turn, registration, program)
    return registration.restarts < policy.max_restarts and in_a_row <= policy.max_consecutive_failures


def _failures(turn: Turn, registration: Registration, program: Worker) -> int:
    """Failures in a row, this one included."""
    was_stable = program.ready_at > 0 and turn.now - program.ready_at >= agent.STABLE_S
    return 1 if was_stable else registration.failures + 1


def plan(turn: Turn, program: Worker, reason: Reason, detail: str) -> None:
    """The program has failed and is started again: settle what it may have seen, and let the rest wait for the next one."""
    registration = turn.state.registrations[program.registration]
    policy = registration.spec.restart
    assert policy is not None, "only a policy asks for a restart"
    seen = [one for one in program.waiting if turn.state.deliveries[one].may_be_seen]
    settled = [*program.typing, *seen]
    for stream in settled:
        settling.give_up(turn, turn.state.deliveries[stream], reason)
    failures = _failures(turn, registration, program)
    turn.record(
        events.AgentRestartPlanned(
            session_id=f"ws_{turn.fresh('session')}",
            restarts=registration.restarts + 1,
            failures=failures,
            until=turn.now + _pause_s(turn, policy, failures),
            code=program.code,
            signal=program.signal,
            reason=reason,
            detail=detail[:500],
            argv=_argv(registration, program),
        ),
        registration.stream,
        registration.name,
    )
    turn.effect(ForgetProgram(session_id=program.session_id))
    deliveries.reconsider(turn, turn.state.workers[registration.session_id])
    box = turn.state.mailboxes.get(registration.agent_id)
    if settled and box is not None and box.returned and link.is_online(turn):
        settling.ask_resync(turn, box, box.resyncs)  # what the in-doubt policy gave back is offered to the next program


def _argv(registration: Registration, program: Worker) -> tuple[str, ...]:
    """With what it is started again; () = with the same."""
    options, ref = registration.harness.session, registration.spec.session_ref
    if options is None or not registration.begins_session:
        return ()
    was_new = sessions.is_new(registration.argv, options, ref)
    resume = program.last_typed_at > 0 or not was_new if program.ready_at else was_new
    argv = sessions.again(registration.argv, options, ref, resume=resume)
    return () if argv == registration.argv else argv


def _pause_s(turn: Turn, policy: RestartPolicy, failures: int) -> float:
    spread = 1 + agent.RESTART_JITTER * (2 * turn.fraction("restart") - 1)
    return float(min(agent.RESTART_MAX_S, policy.cooldown_s * 2 ** (failures - 1) * spread))


def give_up(turn: Turn, program: Worker) -> None:
    """The policy allows no more restarts."""
    registration = turn.state.registrations[program.registration]
    given_up = events.AgentGivenUp(
        restarts=registration.restarts,
        failures=_failures(turn, registration, program),
        reason=Reason.RESTART_LIMIT,
    )
    turn.record(given_up, registration.stream, registration.name)


def survived(turn: Turn, registration: Registration, program: Worker) -> None:
    """The program that was started again outlived its first moments."""
    restarted = events.AgentRestarted(pid=program.pid, restarts=registration.restarts)
    turn.record(restarted, registration.stream, registration.name)


def due(turn: Turn) -> None:
    """Start every program whose pause is over."""
    for program in list(turn.state.workers.values()):
        if program.starts_at and program.starts_at <= turn.now:
            registration = turn.state.registrations[program.registration]
            launched = events.WorkerLaunched(
                name=registration.name, agent_id=registration.agent_id, until=turn.now + worker.START_S
            )
            turn.record(launched, program.stream, program.name)
            agent_outcome.start_program(turn, registration)
            deliveries.reconsider(turn, program)


def deadline(state: BrokerState) -> float | None:
    """When the next program is started again."""
    times = [
        state.workers[registration.session_id].starts_at
        for registration in state.registrations.values()
        if registration.state == AgentState.RESTARTING
    ]
    return min(filter(None, times), default=None)
