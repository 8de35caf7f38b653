"""How events of engine invocations change the state."""

from __future__ import annotations

import itertools
from typing import Any

from relaybroker.domain import (
    action as action_machine,
)
from relaybroker.domain import (
    events,
)
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.entities import Action
from relaybroker.domain.events import Recorded
from relaybroker.domain.state import State


def _action_received(state: State, event: events.ActionReceived, recorded: Recorded, _: Any) -> None:
    state.link.heard_at = recorded.at
    state.actions[recorded.stream] = Action(
        stream=recorded.stream,
        invocation_id=event.invocation_id,
        action=event.action,
        state=action_machine.TABLE.initial,
        received_at=recorded.at,
        input=event.input,
        agent_name=event.agent_name,
        agent_id=event.agent_id,
    )
    state.unfinished[recorded.stream] = None
    _prune(state, recorded.at - action_machine.LEDGER_S)


def _prune(state: State, oldest_kept: float) -> None:
    """Forget reported invocations, oldest first, that are too old or too many. Unfinished ones stay."""
    for stream in list(itertools.islice(state.actions, 64)):
        known = state.actions[stream]
        if known.reported and (known.reported_at < oldest_kept or len(state.actions) > action_machine.LEDGER_LIMIT):
            del state.actions[stream]


def _action_held(state: State, event: events.ActionHeld, recorded: Recorded, _: Any) -> None:
    state.actions[recorded.stream].until = event.until


def _action_running(_state: State, event: events.ActionRunning, _recorded: Recorded, action: Action) -> None:
    action.name, action.until, action.handler, action.input = event.name, event.until, event.handler, None


def _action_done(_state: State, event: events.ActionDone, _recorded: Recorded, action: Action) -> None:
    action.output, action.error, action.until, action.input = event.output, event.error, 0.0, None


def _action_reported(state: State, _event: Any, recorded: Recorded, action: Action) -> None:
    action.reported_at = recorded.at
    del state.unfinished[action.stream]
    if action.error == "handler_unavailable":
        del state.actions[action.stream]


def _action_resent(state: State, _event: Any, recorded: Recorded, _: Any) -> None:
    state.actions[recorded.stream].reported_at = recorded.at


CHANGES: Changes = {
    events.ActionReceived: _action_received,
    events.ActionHeld: _action_held,
    events.ActionRunning: _action_running,
    events.ActionDone: _action_done,
    events.ActionReported: _action_reported,
    events.ActionResent: _action_resent,
}
