"""What the PTY host says, as inputs of the core: one input for each report, nothing added and nothing dropped.

Source: design/architecture.md sections 3 and 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from relaybroker.adapters.sessions.host import protocol
from relaybroker.domain import inputs

if TYPE_CHECKING:
    from relaybroker.domain import effects
    from relaybroker.domain.inputs import Input


def attached(welcome: protocol.Welcome) -> inputs.HostAttached:
    """The host's answer to a greeting."""
    return inputs.HostAttached(
        host_id=welcome.host_id,
        host_pid=welcome.host_pid,
        sessions=tuple(
            inputs.HostSession(session_id=session.session_id, pid=session.pid, state=session.state)
            for session in welcome.sessions
        ),
    )


def looked_up(asked: effects.LookUp, answer: protocol.Answer) -> inputs.DeliveryLookedUp:
    """What the host found in a program's records."""
    said = {name: str(answer.data.get(name, "")) for name in ("outcome", "evidence", "pointer", "detail")}
    return inputs.DeliveryLookedUp(delivery_id=asked.delivery_id, attempt=asked.attempt, **said)


def reported(host_id: str, report: protocol.Report) -> Input:
    """One report of the host `host_id`."""
    number, session_id = report.number, report.session_id
    match report.fact:
        case protocol.Started(pid=pid):
            return inputs.ProgramStarted(host_id=host_id, report=number, session_id=session_id, pid=pid)
        case protocol.StartFailed(reason=reason, detail=detail):
            return inputs.ProgramNotStarted(
                host_id=host_id, report=number, session_id=session_id, reason=reason, detail=detail
            )
        case protocol.DoorChosen(door=door, place=place, passed_over=passed_over):
            return inputs.DoorChosen(
                host_id=host_id, report=number, session_id=session_id, door=door, place=place, passed_over=passed_over
            )
        case protocol.Ready(evidence=evidence):
            return inputs.ProgramReady(host_id=host_id, report=number, session_id=session_id, evidence=evidence)
        case protocol.Blocked(pattern=pattern, question=question):
            return inputs.ProgramBlocked(
                host_id=host_id, report=number, session_id=session_id, pattern=pattern, question=question
            )
        case protocol.Answered() as answered:
            return inputs.AnswerGiven(
                host_id=host_id,
                report=number,
                session_id=session_id,
                request_id=answered.request_id,
                question_id=answered.question_id,
                question=answered.question,
                option_id=answered.option_id,
                option=answered.option,
                by=answered.by,
            )
        case protocol.Unblocked():
            return inputs.ProgramUnblocked(host_id=host_id, report=number, session_id=session_id)
        case protocol.Occupied(reason=reason, detail=detail, patience_s=patience_s):
            return inputs.ProgramOccupied(
                host_id=host_id,
                report=number,
                session_id=session_id,
                reason=reason,
                detail=detail,
                patience_s=patience_s,
            )
        case protocol.Freed():
            return inputs.ProgramFreed(host_id=host_id, report=number, session_id=session_id)
        case protocol.Idle(idle_s=idle_s):
            return inputs.ProgramIdle(host_id=host_id, report=number, session_id=session_id, idle_s=idle_s)
        case protocol.Exited() as exited:
            return inputs.ProgramExited(
                host_id=host_id,
                report=number,
                session_id=session_id,
                code=exited.code,
                signal=exited.signal,
                last_output=exited.last_output,
                uptime_s=exited.uptime_s,
                requested=exited.requested,
                cause=exited.cause,
            )
        case protocol.Injected() as injected:
            return inputs.TextTyped(
                host_id=host_id,
                report=number,
                session_id=session_id,
                delivery_id=injected.delivery_id,
                attempt=injected.attempt,
                bytes_written=injected.bytes_written,
                evidence=injected.evidence,
                wait_ms=injected.wait_ms,
                repeated=injected.repeated,
                door=injected.door,
                pointer=injected.pointer,
            )
        case protocol.InjectFailed() as failed:
            return inputs.TextNotTyped(
                host_id=host_id,
                report=number,
                session_id=session_id,
                delivery_id=failed.delivery_id,
                attempt=failed.attempt,
                reason=failed.reason,
                typed=failed.typed,
            )
        case protocol.Verified() as verified:
            return inputs.TextVerified(
                host_id=host_id,
                report=number,
                session_id=session_id,
                delivery_id=verified.delivery_id,
                verification=verified.verification,
            )
        case never:
            assert_never(never)
