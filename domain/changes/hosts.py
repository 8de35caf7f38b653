"""How events of the PTY host change the state."""

from __future__ import annotations

from typing import Any

from relaybroker.domain import (
    events,
)
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.events import Recorded
from relaybroker.domain.state import State


def _host_attached(state: State, event: events.HostAttached, _recorded: Recorded, _: Any) -> None:
    if event.host_id != state.host.host_id:
        state.host.last_report = 0
    state.host.host_id, state.host.pid = event.host_id, event.host_pid
    state.host.attached, state.host.until = True, 0.0


def _host_lost(state: State, event: events.HostLost, _recorded: Recorded, _: Any) -> None:
    state.host.attached, state.host.until = False, event.until


def _attach_due(state: State, _event: Any, _recorded: Recorded, _: Any) -> None:
    state.host.until = 0.0


def reported(state: State, report: int) -> None:
    """The host's reports up to this number are in the log."""
    state.host.last_report = max(state.host.last_report, report)


def _report_ignored(state: State, event: events.HostReportIgnored, _recorded: Recorded, _: Any) -> None:
    reported(state, event.report)


CHANGES: Changes = {
    events.HostAttached: _host_attached,
    events.HostLost: _host_lost,
    events.HostAttachDue: _attach_due,
    events.HostReportIgnored: _report_ignored,
}
