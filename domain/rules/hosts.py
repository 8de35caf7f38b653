"""Decisions about the PTY host: attaching, re-attaching, losing it.

Source: design/architecture.md section 5; spec/node-protocol.md section 0.5.
"""

from __future__ import annotations

from relaybroker.domain import couplings, events, inputs
from relaybroker.domain.effects import AttachHost, ForgetProgram, StopProgram
from relaybroker.domain.entities import Worker
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import agent_outcome, agents, deliveries, doubts
from relaybroker.domain.state import State as BrokerState
from relaybroker.domain.turn import Turn
from relaybroker.domain.worker import WorkerState

REATTACH_S = 0.5


def attached(turn: Turn, report: inputs.HostAttached) -> None:
    """The host answered: adopt what it still runs, ask again for what it never got, give up what is gone."""
    same_host = report.host_id == turn.state.host.host_id
    stream = f"host:{report.host_id}"
    turn.record(events.HostAttached(host_id=report.host_id, host_pid=report.host_pid, sessions=report.sessions), stream)
    doubts.ask_all(turn)
    present = {session.session_id: session for session in report.sessions}
    for program in list(turn.state.workers.values()):
        if not couplings.HOST_LOSES_WORKER.concerns(program.state):
            continue
        if program.starts_at:
            continue  # it is started when its pause is over
        if program.session_id in present and same_host:
            _resume(turn, program)
        elif program.state == WorkerState.LAUNCHING and program.pid == 0:
            agent_outcome.start_program(turn, turn.state.registrations[program.registration])
        else:
            agents.lost(turn, program, _why_lost(program, same_host=same_host))
    for session in report.sessions:
        program_here = turn.state.workers.get(session.session_id)
        if program_here is None or program_here.ended:
            if session.state == "exited":
                turn.effect(ForgetProgram(session_id=session.session_id))
            else:
                turn.effect(StopProgram(session_id=session.session_id, grace_s=2.0, reason="orphan"))


def _why_lost(program: Worker, *, same_host: bool) -> str:
    if same_host:
        return "the PTY host does not have it"
    if program.stop_reason is Reason.SHUTDOWN:
        return "the broker's own stop ended it, with the PTY host, before its end was reported"
    return "the PTY host that ran it is gone"


def _resume(turn: Turn, program: Worker) -> None:
    """Ask again for whatever is under way; the host does nothing twice."""
    if program.state == WorkerState.LAUNCHING:
        agent_outcome.start_program(turn, turn.state.registrations[program.registration])
    if program.state == WorkerState.STOPPING and not program.ends_at:
        agents.end_program(turn, program)
    for stream in program.typing:
        deliveries.type_text(turn, turn.state.deliveries[stream])
    deliveries.pump(turn, program)


def lost(turn: Turn, report: inputs.HostLost) -> None:
    """The connection is gone. Whether the host is, the next attach tells."""
    stream = f"host:{turn.state.host.host_id or 'none'}"
    turn.record(events.HostLost(detail=report.detail[:500], until=turn.now + REATTACH_S), stream)


def due(turn: Turn) -> None:
    """Attach again when it is time."""
    host = turn.state.host
    if not host.attached and host.until and host.until <= turn.now and not _leaving(turn.state):
        turn.record(events.HostAttachDue(), f"host:{host.host_id or 'none'}")
        turn.effect(AttachHost())


def _leaving(state: BrokerState) -> bool:
    return bool(state.stopping_until) and not any(not program.ended for program in state.workers.values())


def deadline(state: BrokerState) -> float | None:
    """When to attach again."""
    return state.host.until or None if not state.host.attached and not _leaving(state) else None
