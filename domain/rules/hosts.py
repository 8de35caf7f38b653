"""Decisions about the PTY host: attaching, re-attaching, losing it, and what it reports.

Source: design/architecture.md section 5; spec/node-protocol.md section 0.5.
"""

from __future__ import annotations

from relaybroker.domain import couplings, events, inputs
from relaybroker.domain.effects import AttachHost, ConfirmReports, ForgetProgram, StopProgram
from relaybroker.domain.entities import Worker
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import agents, deliveries, outcome, readiness
from relaybroker.domain.state import State as BrokerState
from relaybroker.domain.turn import Turn
from relaybroker.domain.worker import SURVIVAL_S, WorkerState

REATTACH_S = 0.5

HostReport = (
    inputs.ProgramStarted
    | inputs.ProgramNotStarted
    | inputs.ProgramReady
    | inputs.ProgramBlocked
    | inputs.ProgramUnblocked
    | inputs.ProgramOccupied
    | inputs.ProgramFreed
    | inputs.ProgramIdle
    | inputs.ProgramExited
    | inputs.TextTyped
    | inputs.TextNotTyped
    | inputs.TextVerified
)


def attached(turn: Turn, report: inputs.HostAttached) -> None:
    """The host answered: adopt what it still runs, ask again for what it never got, give up what is gone."""
    same_host = report.host_id == turn.state.host.host_id
    stream = f"host:{report.host_id}"
    turn.record(events.HostAttached(host_id=report.host_id, host_pid=report.host_pid, sessions=report.sessions), stream)
    present = {session.session_id: session for session in report.sessions}
    for program in list(turn.state.workers.values()):
        if not couplings.HOST_LOSES_WORKER.concerns(program.state):
            continue
        if program.session_id in present and same_host:
            _resume(turn, program)
        elif program.state == WorkerState.LAUNCHING and program.pid == 0:
            outcome.start_program(turn, turn.state.registrations[program.registration])
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
        outcome.start_program(turn, turn.state.registrations[program.registration])
    if program.state == WorkerState.STOPPING and not program.ends_at:
        agents.end_program(turn, program)
    for stream in program.typing:
        deliveries.type_text(turn, turn.state.deliveries[stream])
    deliveries.pump(turn, program)


def lost(turn: Turn, report: inputs.HostLost) -> None:
    """The connection is gone. Whether the host is, the next attach tells."""
    stream = f"host:{turn.state.host.host_id or 'none'}"
    turn.record(events.HostLost(detail=report.detail[:500], until=turn.now + REATTACH_S), stream)


def reported(turn: Turn, report: HostReport) -> None:
    """A numbered report about one session: confirmed, and applied once.

    The host hears first that the report is known: what follows from it relies on that.
    """
    turn.effect(ConfirmReports(host_id=report.host_id, report=report.report))
    stream = f"host:{report.host_id}"
    fresh = report.host_id == turn.state.host.host_id and report.report > turn.state.host.last_report
    program = turn.state.workers.get(report.session_id)
    if not fresh or program is None or program.ended or not _apply(turn, program, report):
        turn.record(
            events.HostReportIgnored(
                report=report.report if report.host_id == turn.state.host.host_id else 0,
                session_id=report.session_id,
                what=type(report).__name__,
            ),
            stream,
        )
        if isinstance(report, inputs.ProgramExited | inputs.ProgramNotStarted):
            turn.effect(ForgetProgram(session_id=report.session_id))
        elif isinstance(report, inputs.ProgramStarted) and (program is None or program.ended):
            turn.effect(StopProgram(session_id=report.session_id, grace_s=2.0, reason="orphan"))


def _apply(turn: Turn, program: Worker, report: HostReport) -> bool:
    """Carry out the report; False if it does not fit what is known (then it is recorded as ignored)."""
    match report:
        case inputs.TextTyped():
            return deliveries.typed(turn, report)
        case inputs.TextNotTyped():
            return deliveries.not_typed(turn, report)
        case inputs.TextVerified():
            return deliveries.verified(turn, report)
        case inputs.ProgramStarted():
            return _started(turn, program, report)
        case inputs.ProgramReady():
            return _ready(turn, program, report)
        case inputs.ProgramBlocked():
            return _blocked(turn, program, report)
        case inputs.ProgramUnblocked():
            return _unblocked(turn, program, report)
        case inputs.ProgramOccupied():
            return _occupied(turn, program, report)
        case inputs.ProgramFreed():
            return _freed(turn, program, report)
        case inputs.ProgramIdle():
            turn.record(events.WorkerIdle(report=report.report, idle_s=report.idle_s), program.stream, program.name)
        case inputs.ProgramNotStarted():
            agents.not_started(turn, program, report)
        case inputs.ProgramExited():
            agents.exited(turn, program, report)
    return True


def withheld(turn: Turn, report: inputs.ProgramWithheld) -> None:
    """A program that this broker did not start has ended before it began."""
    program = turn.state.workers.get(report.session_id)
    if program is None or program.state != WorkerState.LAUNCHING:
        ignored = events.HostReportIgnored(report=0, session_id=report.session_id, what=type(report).__name__)
        turn.record(ignored, turn.broker)
        return
    agents.withheld(turn, program, Reason(report.reason), report.detail)


def _started(turn: Turn, program: Worker, report: inputs.ProgramStarted) -> bool:
    if program.state != WorkerState.LAUNCHING:
        return False
    turn.record(
        events.WorkerStarted(report=report.report, pid=report.pid, until=turn.now + SURVIVAL_S),
        program.stream,
        program.name,
    )
    deliveries.reconsider(turn, program)
    return True


def _ready(turn: Turn, program: Worker, report: inputs.ProgramReady) -> bool:
    if program.state != WorkerState.BOOTING:
        return False
    turn.record(events.WorkerReady(report=report.report, evidence=report.evidence), program.stream, program.name)
    readiness.reconsider(turn, program)
    deliveries.reconsider(turn, program)
    return True


def _blocked(turn: Turn, program: Worker, report: inputs.ProgramBlocked) -> bool:
    if program.state not in (WorkerState.BOOTING, WorkerState.READY, WorkerState.BUSY):
        return False
    turn.record(events.WorkerBlocked(report=report.report, pattern=report.pattern), program.stream, program.name)
    deliveries.reconsider(turn, program)
    return True


def _unblocked(turn: Turn, program: Worker, report: inputs.ProgramUnblocked) -> bool:
    if program.state != WorkerState.BLOCKED:
        return False
    was_ready = program.ready_at > 0
    turn.record(events.WorkerUnblocked(report=report.report), program.stream, program.name)
    if was_ready:
        turn.record(events.WorkerReady(report=0, evidence="unblocked"), program.stream, program.name)
    deliveries.reconsider(turn, program)
    return True


def _occupied(turn: Turn, program: Worker, report: inputs.ProgramOccupied) -> bool:
    if program.state != WorkerState.READY:
        return False
    occupied = events.WorkerOccupied(
        report=report.report, reason=Reason(report.reason), detail=report.detail, patience_s=report.patience_s
    )
    turn.record(occupied, program.stream, program.name)
    deliveries.reconsider(turn, program)
    return True


def _freed(turn: Turn, program: Worker, report: inputs.ProgramFreed) -> bool:
    if program.state != WorkerState.BUSY:
        return False
    turn.record(events.WorkerFreed(report=report.report), program.stream, program.name)
    deliveries.reconsider(turn, program)
    return True


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
