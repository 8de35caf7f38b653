"""How a person's hold on an agent's messages changes the state."""

from __future__ import annotations

from typing import Any

from relaybroker.domain import events
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.delivery import MANUAL_FLUSH
from relaybroker.domain.entities import FlushHold
from relaybroker.domain.events import Recorded
from relaybroker.domain.state import MODE_CHANGES_KEPT, State


def _mode_changed(state: State, event: events.DeliveryModeChanged, recorded: Recorded, _: Any) -> None:
    key = event.name.lower()
    state.mode_changes.pop(key, None)
    state.mode_changes[key] = recorded.version
    if len(state.mode_changes) > MODE_CHANGES_KEPT:
        state.mode_changes_floor = state.mode_changes.pop(next(iter(state.mode_changes)))
    if event.mode != MANUAL_FLUSH:
        del state.flush_holds[key]
        return
    state.flush_holds[key] = FlushHold(
        since=recorded.at, revision=recorded.version, name=event.name, reason=event.reason
    )
    for program in state.workers.values():
        if program.name.lower() == key:
            for stream in (*program.waiting, *program.typing):
                state.deliveries[stream].flushed = False


CHANGES: Changes = {events.DeliveryModeChanged: _mode_changed}
