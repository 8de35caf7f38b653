"""How events of engine invocations change the state."""

from __future__ import annotations

from typing import Any

from domain import (
    action_invocation,
    events,
)
from domain.changes.kinds import Changes
from domain.events import Recorded
from domain.state import (
    Action,
    State,
)


def _action_received(state: State, event: events.ActionReceived, at: Recorded, _: Any) -> None:
    state.link.heard_at = at.at
    state.actions[at.stream] = Action(
        stream=at.stream,
        invocation_id=event.invocation_id,
        action=event.action,
        state=action_invocation.TABLE.initial,
        received_at=at.at,
        input=event.input,
        agent_name=event.agent_name,
    )
    oldest_kept = at.at - action_invocation.LEDGER_S
    while state.actions and (first := next(iter(state.actions.values()))).reported and first.reported_at < oldest_kept:
        del state.actions[first.stream]
    while len(state.actions) > action_invocation.LEDGER_LIMIT:
        oldest = next((key for key, known in state.actions.items() if known.reported), None)
        if oldest is None:
            break
        del state.actions[oldest]


def _action_running(_state: State, event: events.ActionRunning, _at: Recorded, found: Action) -> None:
    found.name, found.until, found.input = event.name, event.until, None


def _action_done(_state: State, event: events.ActionDone, _at: Recorded, found: Action) -> None:
    found.output, found.error, found.until, found.input = event.output, event.error, 0.0, None


def _action_reported(state: State, _event: Any, at: Recorded, found: Action) -> None:
    found.reported_at = at.at
    if found.error == "handler_unavailable":
        del state.actions[found.stream]


CHANGES: Changes = {
    events.ActionReceived: _action_received,
    events.ActionRunning: _action_running,
    events.ActionDone: _action_done,
    events.ActionReported: _action_reported,
}
