"""How events of the node link change the state."""

from __future__ import annotations

from typing import Any

from domain import (
    events,
    node_connection,
)
from domain.changes.kinds import Changes
from domain.events import Recorded
from domain.state import (
    Link,
    Pending,
    State,
)

ABANDONED_KEPT = 1024
"""Requests that nobody waits for any more, remembered for late replies."""


def _link_begun(state: State, event: events.LinkBegun, at: Recorded, _: Any) -> None:
    old = state.link
    state.link = Link(
        incarnation=event.incarnation,
        dial=old.dial,
        node_name=old.node_name,
        has_token=old.has_token,
        since=at.at,
        inventory_changed=True,
        abandoned=old.abandoned,
    )


def _link_step(state: State, event: Any, at: Recorded, link: Link) -> None:
    del state, event
    link.since = at.at
    link.until = 0.0
    link.reason, link.detail = None, ""


def _token_asked(state: State, event: events.TokenAsked, at: Recorded, link: Link) -> None:
    _link_step(state, event, at, link)
    link.mint_call, link.node_name = event.call_id, event.node_name
    link.mints += 1
    link.token_dead = False


def _token_granted(state: State, _event: events.TokenGranted, _at: Recorded, _: Any) -> None:
    state.link.has_token, state.link.mint_call = True, ""


def _link_dialled(state: State, event: events.LinkDialled, at: Recorded, link: Link) -> None:
    _link_step(state, event, at, link)
    link.dial = event.dial


def _link_opened(state: State, event: events.LinkOpened, at: Recorded, link: Link) -> None:
    _link_step(state, event, at, link)
    link.until = event.until
    link.pending[event.request_id] = Pending("node.register", "", event.until)


def _link_online(state: State, event: events.LinkOnline, at: Recorded, link: Link) -> None:
    _link_step(state, event, at, link)
    link.online_at = link.heard_at = at.at
    link.base_delay = node_connection.BACKOFF_FIRST_S
    link.mints = 0
    link.next_heartbeat = at.at + node_connection.HEARTBEAT_S
    link.next_inventory = at.at + node_connection.INVENTORY_S


def _link_down(state: State, event: Any, at: Recorded, link: Link) -> None:
    del state
    link.since = at.at
    link.reason, link.detail = event.reason, event.detail
    link.until = event.until
    link.mint_call = ""
    for request_id, pending in link.pending.items():
        if pending.subject:
            link.abandoned[request_id] = pending.subject
    link.pending.clear()
    while len(link.abandoned) > ABANDONED_KEPT:
        del link.abandoned[next(iter(link.abandoned))]


def _link_backed_off(state: State, event: events.LinkBackedOff, at: Recorded, link: Link) -> None:
    _link_down(state, event, at, link)
    link.token_dead = event.token_dead
    link.base_delay = min(node_connection.BACKOFF_MAX_S, link.base_delay * 2)


def _heartbeat(state: State, _event: Any, at: Recorded, _: Any) -> None:
    state.link.next_heartbeat = at.at + node_connection.HEARTBEAT_S


def _inventory(state: State, event: events.InventoryPublished, at: Recorded, _: Any) -> None:
    state.link.inventory_changed = False
    state.link.next_inventory = at.at + node_connection.INVENTORY_S
    state.link.pending[event.request_id] = Pending("inventory.sync", "", at.at + node_connection.REGISTER_REPLY_S)


def _frame_noted(state: State, event: events.FrameNoted, at: Recorded, _: Any) -> None:
    state.link.heard_at = at.at
    if event.frame_type == "reply":
        found = state.link.pending.pop(event.detail, None)
        if found is not None and found.kind == "inventory.sync":
            state.link.synced_at = at.at


def _engine_error(state: State, event: events.EngineErrorReceived, at: Recorded, _: Any) -> None:
    state.link.heard_at = at.at
    found = state.link.pending.pop(event.request_id, None)
    if found is not None and found.kind == "inventory.sync":
        state.link.inventory_changed = True


def _frame_rejected(state: State, _event: Any, _at: Recorded, _: Any) -> None:
    state.counters.frames_rejected += 1


CHANGES: Changes = {
    events.LinkBegun: _link_begun,
    events.TokenAsked: _token_asked,
    events.TokenGranted: _token_granted,
    events.LinkDialled: _link_dialled,
    events.LinkOpened: _link_opened,
    events.LinkOnline: _link_online,
    events.LinkBackedOff: _link_backed_off,
    events.LinkRefused: _link_down,
    events.LinkDraining: _link_step,
    events.LinkShut: _link_step,
    events.HeartbeatDue: _heartbeat,
    events.InventoryPublished: _inventory,
    events.FrameNoted: _frame_noted,
    events.EngineErrorReceived: _engine_error,
    events.FrameRejected: _frame_rejected,
}
