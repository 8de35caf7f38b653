"""Decisions about workers: what the PTY host reports of their programs and of the texts that are typed into them.

Source: design/architecture.md section 5; spec/node-protocol.md section 0.5.
"""

from __future__ import annotations

from relaybroker.domain import events, inputs, replies
from relaybroker.domain.doors import MAX_DOORS, MAX_PLACE
from relaybroker.domain.effects import ConfirmReports, ForgetProgram, Reply, StopProgram
from relaybroker.domain.entities import Worker
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import agents, deliveries, readiness
from relaybroker.domain.turn import Turn
from relaybroker.domain.worker import SURVIVAL_S, WorkerState

HostReport = (
    inputs.ProgramStarted
    | inputs.ProgramNotStarted
    | inputs.ProgramReady
    | inputs.ProgramBlocked
    | inputs.ProgramUnblocked
    | inputs.AnswerGiven
    | inputs.ProgramOccupied
    | inputs.ProgramFreed
    | inputs.ProgramIdle
    | inputs.ProgramExited
    | inputs.TextTyped
    | inputs.TextNotTyped
    | inputs.TextVerified
    | inputs.DoorChosen
)


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
        case inputs.DoorChosen():
            turn.record(_door_chosen(report), program.stream, program.name)
        case inputs.ProgramStarted():
            return _started(turn, program, report)
        case inputs.ProgramReady():
            return _ready(turn, program, report)
        case inputs.ProgramBlocked():
            return _blocked(turn, program, report)
        case inputs.ProgramUnblocked():
            return _unblocked(turn, program, report)
        case inputs.AnswerGiven():
            turn.record(_answer_given(program, report), program.stream, program.name)
        case inputs.ProgramOccupied():
            return _occupied(turn, program, report)
        case inputs.ProgramFreed():
            return _freed(turn, program, report)
        case inputs.ProgramIdle():
            turn.record(events.WorkerIdle(report=report.report, idle_s=report.idle_s), program.stream, program.name)
            agents.idle(turn, program)
        case inputs.ProgramNotStarted():
            agents.not_started(turn, program, report)
        case inputs.ProgramExited():
            agents.exited(turn, program, report)
    return True


def _door_chosen(report: inputs.DoorChosen) -> events.DoorChosen:
    passed_over = dict(list(report.passed_over.items())[:MAX_DOORS])
    return events.DoorChosen(
        report=report.report,
        door=report.door,
        place=report.place[:MAX_PLACE],
        passed_over={name: reason[:500] for name, reason in passed_over.items()},
    )


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
    blocked = events.WorkerBlocked(report=report.report, pattern=report.pattern, question=report.question)
    turn.record(blocked, program.stream, program.name)
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


def _answer_given(program: Worker, report: inputs.AnswerGiven) -> events.QuestionAnswered:
    return events.QuestionAnswered(
        report=report.report,
        request_id=report.request_id,
        name=program.name,
        question=report.question,
        question_id=report.question_id,
        option=report.option,
        option_id=report.option_id,
        by=report.by,
    )


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


def touched(turn: Turn, touch: inputs.TerminalTyped | inputs.TerminalSized) -> None:
    """Keep that people did something to a terminal, also to one that is gone by now."""
    program = turn.state.workers.get(touch.session_id)
    event: events.Event = (
        events.TerminalTyped(frames=touch.frames, size=touch.size, digest=touch.digest)
        if isinstance(touch, inputs.TerminalTyped)
        else events.TerminalSized(rows=touch.rows, cols=touch.cols, owner=touch.owner)
    )
    turn.record(event, f"worker:{touch.session_id}", program.name if program is not None else "")


def question_answered(turn: Turn, answer: inputs.QuestionAnswered) -> None:
    """Keep what a person chose, also for a program that has ended by now: perhaps because of it."""
    event = events.QuestionAnswered(
        request_id=answer.request_id, name=answer.name, question=answer.question, option=answer.option, by=answer.by
    )
    turn.record(event, f"worker:{answer.session_id}", answer.name)
    turn.effect(Reply(request_id=answer.request_id, answer=replies.Done(data={"option": answer.option})))


def withheld(turn: Turn, report: inputs.ProgramWithheld) -> None:
    """A program that this broker did not start has ended before it began."""
    program = turn.state.workers.get(report.session_id)
    if program is None or program.state != WorkerState.LAUNCHING:
        ignored = events.HostReportIgnored(report=0, session_id=report.session_id, what=type(report).__name__)
        turn.record(ignored, turn.broker)
        return
    agents.withheld(turn, program, Reason(report.reason), report.detail)
