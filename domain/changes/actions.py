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
from relaybroker.domain.events import Recorded
from relaybroker.domain.state import (
    Action,
    State,
)


def _action_received(state: State, event: events.ActionReceived, at: Recorded, _: Any) -> None:
    state.link.heard_at = at.at
    state.actions[at.stream] = Action(
        stream=at.stream,
        invocation_id=event.invocation_id,
        action=event.action,
        state=action_machine.TABLE.initial,
        received_at=at.at,
        input=event.input,
        agent_name=event.agent_name,
        agent_id=event.agent_id,
    )
    state.unfinished[at.stream] = None
    _prune(state, at.at - action_machine.LEDGER_S)


def _prune(state: State, oldest_kept: float) -> None:
    """Forget reported invocations, oldest first, that are too old or too many. Unfinished ones stay."""
    for stream in list(itertools.islice(state.actions, 64)):
        known = state.actions[stream]
        if known.reported and (known.reported_at < oldest_kept or len(state.actions) > action_machine.LEDGER_LIMIT):
            del state.actions[stream]


def _action_held(state: State, event: events.ActionHeld, at: Recorded, _: Any) -> None:
    state.actions[at.stream].until = event.until


def _action_running(_state: State, event: events.ActionRunning, _at: Recorded, found: Action) -> None:
    found.name, found.until, found.handler, found.input = event.name, event.until, event.handler, None


def _action_done(_state: State, event: events.ActionDone, _at: Recorded, found: Action) -> None:
    found.output, found.error, found.until, found.input = event.output, event.error, 0.0, None


def _action_reported(state: State, _event: Any, at: Recorded, found: Action) -> None:
    found.reported_at = at.at
    del state.unfinished[found.stream]
    if found.error == "handler_unavailable":
        del state.actions[found.stream]


def _action_resent(state: State, _event: Any, at: Recorded, _: Any) -> None:
    state.actions[at.stream].reported_at = at.at


CHANGES: Changes = {
    events.ActionReceived: _action_received,
    events.ActionHeld: _action_held,
    events.ActionRunning: _action_running,
    events.ActionDone: _action_done,
    events.ActionReported: _action_reported,
    events.ActionResent: _action_resent,
}
