"""How events of sidecars change the state."""

from __future__ import annotations

from typing import Any

from relaybroker.domain import events
from relaybroker.domain.changes.link import load_changed
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.entities import Sidecar, Supervised
from relaybroker.domain.events import Recorded
from relaybroker.domain.link import LinkState
from relaybroker.domain.manifest import PLACEMENT
from relaybroker.domain.state import State


def _connected(state: State, event: events.SidecarConnected, recorded: Recorded, _: Any) -> None:
    state.sidecar = Sidecar(stream=recorded.stream, connection=event.connection, since=recorded.at)
    if state.supervised is not None:
        state.supervised.until = 0.0
    load_changed(state, recorded.at)


def _serving(state: State, event: events.SidecarServing, recorded: Recorded, sidecar: Sidecar) -> None:
    sidecar.handlers = event.names
    for name in event.names:
        state.handler_grace.pop(name, None)
    load_changed(state, recorded.at)


def _paused(state: State, _event: Any, recorded: Recorded, sidecar: Sidecar) -> None:
    sidecar.handlers = ()
    load_changed(state, recorded.at)


def _gone(state: State, event: events.SidecarGone, recorded: Recorded, sidecar: Sidecar) -> None:
    dropped = {name: event.grace_until for name in sidecar.handlers if name.startswith(PLACEMENT)}
    former = {name: until for name, until in state.handler_grace.items() if until > recorded.at}
    state.handler_grace = former | dropped if event.grace_until else {}
    if state.supervised is not None and sidecar.proven(recorded.at):
        state.supervised.failures = 0
    state.sidecar = None
    load_changed(state, recorded.at)


def _manifest(state: State, event: events.ManifestChanged, recorded: Recorded, _: Any) -> None:
    state.sidecar_manifest = event.manifest
    if state.sidecar is not None:
        state.sidecar.manifest_request, state.sidecar.register_id = event.request_id, event.register_id
    state.link.manifest_stale = state.link.state == LinkState.REGISTERING
    load_changed(state, recorded.at)


def _settled(state: State, event: events.ManifestSettled, _recorded: Recorded, _: Any) -> None:
    if state.sidecar is not None:
        state.sidecar.manifest_request, state.sidecar.register_id = "", ""
    if event.code:
        state.sidecar_manifest = None


def _supervision(state: State, event: events.SupervisionChanged, _recorded: Recorded, _: Any) -> None:
    former = state.supervised
    if event.supervision is None:
        state.supervised = None
    elif former is not None and former.how.argv == event.supervision.argv:
        former.how = event.supervision
    else:
        state.supervised = Supervised(event.supervision)


def _planned(state: State, event: events.SidecarRestartPlanned, _recorded: Recorded, _: Any) -> None:
    assert state.supervised is not None
    state.supervised.until, state.supervised.failures = event.until, event.failures


def _starting(state: State, event: events.SidecarStarting, _recorded: Recorded, _: Any) -> None:
    assert state.supervised is not None
    state.supervised.until, state.supervised.restarts = 0.0, event.restarts


def _given_up(state: State, _event: Any, _recorded: Recorded, _: Any) -> None:
    state.supervised = None


CHANGES: Changes = {
    events.SidecarConnected: _connected,
    events.SidecarServing: _serving,
    events.SidecarPaused: _paused,
    events.SidecarGone: _gone,
    events.ManifestChanged: _manifest,
    events.ManifestSettled: _settled,
    events.SupervisionChanged: _supervision,
    events.SidecarRestartPlanned: _planned,
    events.SidecarStarting: _starting,
    events.SupervisionEnded: _given_up,
}
