"""How events of workers change the state."""

from __future__ import annotations

from typing import Any

from relaybroker.domain import (
    events,
    worker,
)
from relaybroker.domain.changes.hosts import reported
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.delivery import DeliveryState
from relaybroker.domain.entities import Crash, Worker
from relaybroker.domain.events import Recorded
from relaybroker.domain.state import State


def _worker_launched(state: State, event: events.WorkerLaunched, recorded: Recorded, _: Any) -> None:
    session_id = recorded.stream.partition(":")[2]
    if (planned := state.workers.get(session_id)) is not None:
        planned.until, planned.launched_at, planned.starts_at = event.until, recorded.at, 0.0
        return
    state.workers[session_id] = Worker(
        stream=recorded.stream,
        session_id=session_id,
        registration=state.agents[event.agent_id],
        name=event.name,
        agent_id=event.agent_id,
        state=worker.TABLE.initial,
        until=event.until,
        launched_at=recorded.at,
        active_at=recorded.at,
    )


def _worker_started(state: State, event: events.WorkerStarted, recorded: Recorded, program: Worker) -> None:
    reported(state, event.report)
    program.pid, program.until, program.active_at = event.pid, event.until, recorded.at


def _worker_ready(state: State, event: events.WorkerReady, recorded: Recorded, program: Worker) -> None:
    reported(state, event.report)
    program.evidence, program.ready_at, program.active_at = event.evidence, program.ready_at or recorded.at, recorded.at
    if state.settings is not None and not state.settings.ready_after_s:
        program.announced = True  # older logs: with the report


def _door_chosen(state: State, event: events.DoorChosen, recorded: Recorded, _: Any) -> None:
    reported(state, event.report)
    program = state.workers[recorded.stream.partition(":")[2]]
    program.door, program.door_place = event.door, event.place


def _worker_announced(state: State, _event: Any, recorded: Recorded, _: Any) -> None:
    state.workers[recorded.stream.partition(":")[2]].announced = True


def _worker_blocked(state: State, event: events.WorkerBlocked, recorded: Recorded, program: Worker) -> None:
    reported(state, event.report)
    program.blocked_by, program.blocked_since, program.active_at = event.pattern, recorded.at, recorded.at
    program.question = event.question
    program.occupied_by, program.patience_s = None, 0.0


def _worker_unblocked(state: State, event: events.WorkerUnblocked, recorded: Recorded, program: Worker) -> None:
    reported(state, event.report)
    program.blocked_by, program.blocked_since, program.active_at = "", 0.0, recorded.at
    program.question = None


def _question_answered(state: State, event: events.QuestionAnswered, _recorded: Recorded, _: Any) -> None:
    reported(state, event.report)


def _worker_occupied(state: State, event: events.WorkerOccupied, recorded: Recorded, program: Worker) -> None:
    reported(state, event.report)
    program.occupied_by, program.patience_s, program.active_at = event.reason, event.patience_s, recorded.at


def _worker_freed(state: State, event: events.WorkerFreed, recorded: Recorded, program: Worker) -> None:
    reported(state, event.report)
    program.occupied_by, program.patience_s, program.active_at = None, 0.0, recorded.at


def _worker_idle(state: State, event: events.WorkerIdle, recorded: Recorded, _: Any) -> None:
    reported(state, event.report)
    state.workers[recorded.stream.partition(":")[2]].idle = True


def _worker_stopping(_state: State, event: events.WorkerStopping, _recorded: Recorded, program: Worker) -> None:
    program.stop_reason, program.until = event.reason, event.until
    program.ends_at, program.grace_s, program.starts_at = event.ends_at, event.grace_s, 0.0


def _worker_end_asked(state: State, _event: Any, recorded: Recorded, _: Any) -> None:
    state.workers[recorded.stream.partition(":")[2]].ends_at = 0.0


def _worker_exited(state: State, event: events.WorkerExited, recorded: Recorded, program: Worker) -> None:
    reported(state, event.report)
    program.exit_reason, program.code, program.signal = event.reason, event.code, event.signal
    program.sequel, program.starts_at = event.sequel, 0.0
    program.last_output, program.uptime_s, program.until, program.ends_at = event.last_output, event.uptime_s, 0.0, 0.0
    if program.stop_reason is None and (event.code or event.signal):
        state.crashed(Crash(program.name, recorded.at, event.code, event.signal, event.uptime_s))
    _stop_verifying(state, program)


def _worker_lost(state: State, event: events.WorkerLost, recorded: Recorded, program: Worker) -> None:
    program.exit_reason, program.until, program.ends_at = event.reason, 0.0, 0.0
    program.sequel = event.sequel
    program.uptime_s = recorded.at - program.launched_at
    state.crashed(Crash(program.name, recorded.at, None, None, program.uptime_s))
    _stop_verifying(state, program)


def _stop_verifying(state: State, gone: Worker) -> None:
    """No verification comes any more from this worker: what was acked is done."""
    for delivery in state.deliveries.values():
        is_typed = delivery.state in (DeliveryState.INJECTED, DeliveryState.ACKED)
        if delivery.session_id == gone.session_id and is_typed and not delivery.verified:
            delivery.verified = True
            gone.unseen.append(delivery.stream)


CHANGES: Changes = {
    events.WorkerLaunched: _worker_launched,
    events.WorkerStarted: _worker_started,
    events.DoorChosen: _door_chosen,
    events.WorkerReady: _worker_ready,
    events.WorkerAnnounced: _worker_announced,
    events.WorkerBlocked: _worker_blocked,
    events.QuestionAnswered: _question_answered,
    events.WorkerUnblocked: _worker_unblocked,
    events.WorkerOccupied: _worker_occupied,
    events.WorkerFreed: _worker_freed,
    events.WorkerIdle: _worker_idle,
    events.WorkerStopping: _worker_stopping,
    events.WorkerEndAsked: _worker_end_asked,
    events.WorkerExited: _worker_exited,
    events.WorkerLost: _worker_lost,
}
