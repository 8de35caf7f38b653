"""How events of the PTY host and its workers change the state."""

from __future__ import annotations

from typing import Any

from relaybroker.domain import (
    delivery,
    events,
    worker,
)
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.events import Recorded
from relaybroker.domain.state import (
    State,
    Worker,
)


def _host_attached(state: State, event: events.HostAttached, _at: Recorded, _: Any) -> None:
    if event.host_id != state.host.host_id:
        state.host.last_report = 0
    state.host.host_id, state.host.pid = event.host_id, event.host_pid
    state.host.attached, state.host.until = True, 0.0


def _host_lost(state: State, event: events.HostLost, _at: Recorded, _: Any) -> None:
    state.host.attached, state.host.until = False, event.until


def _attach_due(state: State, _event: Any, _at: Recorded, _: Any) -> None:
    state.host.until = 0.0


def reported(state: State, report: int) -> None:
    """The host's reports up to this number are in the log."""
    state.host.last_report = max(state.host.last_report, report)


def _report_ignored(state: State, event: events.HostReportIgnored, _at: Recorded, _: Any) -> None:
    reported(state, event.report)


def _worker_launched(state: State, event: events.WorkerLaunched, at: Recorded, _: Any) -> None:
    session_id = at.stream.partition(":")[2]
    state.workers[session_id] = Worker(
        stream=at.stream,
        session_id=session_id,
        registration=state.agents[event.agent_id],
        name=event.name,
        agent_id=event.agent_id,
        state=worker.TABLE.initial,
        until=event.until,
        launched_at=at.at,
        active_at=at.at,
    )


def _worker_started(state: State, event: events.WorkerStarted, at: Recorded, found: Worker) -> None:
    reported(state, event.report)
    found.pid, found.until, found.active_at = event.pid, event.until, at.at


def _worker_ready(state: State, event: events.WorkerReady, at: Recorded, found: Worker) -> None:
    reported(state, event.report)
    found.evidence, found.ready_at, found.active_at = event.evidence, found.ready_at or at.at, at.at


def _worker_blocked(state: State, event: events.WorkerBlocked, at: Recorded, found: Worker) -> None:
    reported(state, event.report)
    found.blocked_by, found.active_at = event.pattern, at.at
    found.occupied_by, found.patience_s = None, 0.0


def _worker_unblocked(state: State, event: events.WorkerUnblocked, at: Recorded, found: Worker) -> None:
    reported(state, event.report)
    found.blocked_by, found.active_at = "", at.at


def _worker_occupied(state: State, event: events.WorkerOccupied, at: Recorded, found: Worker) -> None:
    reported(state, event.report)
    found.occupied_by, found.patience_s, found.active_at = event.reason, event.patience_s, at.at


def _worker_freed(state: State, event: events.WorkerFreed, at: Recorded, found: Worker) -> None:
    reported(state, event.report)
    found.occupied_by, found.patience_s, found.active_at = None, 0.0, at.at


def _worker_idle(state: State, event: events.WorkerIdle, at: Recorded, _: Any) -> None:
    reported(state, event.report)
    state.workers[at.stream.partition(":")[2]].idle = True


def _worker_stopping(_state: State, event: events.WorkerStopping, _at: Recorded, found: Worker) -> None:
    found.stop_reason, found.until = event.reason, event.until
    found.ends_at, found.grace_s = event.ends_at, event.grace_s


def _worker_end_asked(state: State, _event: Any, at: Recorded, _: Any) -> None:
    state.workers[at.stream.partition(":")[2]].ends_at = 0.0


def _worker_exited(state: State, event: events.WorkerExited, _at: Recorded, found: Worker) -> None:
    reported(state, event.report)
    found.exit_reason, found.code, found.signal = event.reason, event.code, event.signal
    found.last_output, found.uptime_s, found.until, found.ends_at = event.last_output, event.uptime_s, 0.0, 0.0
    if found.stop_reason is None and (event.code or event.signal):
        state.counters.crashed += 1
    _stop_verifying(state, found)


def _worker_lost(state: State, event: events.WorkerLost, at: Recorded, found: Worker) -> None:
    found.exit_reason, found.until, found.ends_at = event.reason, 0.0, 0.0
    found.uptime_s = at.at - found.launched_at
    state.counters.crashed += 1
    _stop_verifying(state, found)


def _stop_verifying(state: State, gone: Worker) -> None:
    """No verification comes any more from this worker: what was acked is done."""
    for stream in [
        found.stream
        for found in state.deliveries.values()
        if found.session_id == gone.session_id
        and found.state in (delivery.DeliveryState.INJECTED, delivery.DeliveryState.ACKED)
    ]:
        state.deliveries[stream].verified = True
        if state.deliveries[stream].ended:
            del state.deliveries[stream]


CHANGES: Changes = {
    events.HostAttached: _host_attached,
    events.HostLost: _host_lost,
    events.HostAttachDue: _attach_due,
    events.HostReportIgnored: _report_ignored,
    events.WorkerLaunched: _worker_launched,
    events.WorkerStarted: _worker_started,
    events.WorkerReady: _worker_ready,
    events.WorkerBlocked: _worker_blocked,
    events.WorkerUnblocked: _worker_unblocked,
    events.WorkerOccupied: _worker_occupied,
    events.WorkerFreed: _worker_freed,
    events.WorkerIdle: _worker_idle,
    events.WorkerStopping: _worker_stopping,
    events.WorkerEndAsked: _worker_end_asked,
    events.WorkerExited: _worker_exited,
    events.WorkerLost: _worker_lost,
}
