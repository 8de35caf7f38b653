"""How events of the node link change the state."""

from __future__ import annotations

from typing import Any

from relaybroker.domain import (
    events,
)
from relaybroker.domain import (
    link as link_machine,
)
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.entities import EngineError, Link, Pending
from relaybroker.domain.events import Recorded
from relaybroker.domain.reasons import Reason
from relaybroker.domain.state import State

REJECTED_KINDS = 256
"""Unknown kinds of frames that are counted one by one; more are counted together, and not announced."""
ABANDONED_KEPT = 1024
"""Requests that nobody waits for any more, remembered for late replies."""


def _enrol_asked(state: State, event: events.EnrolAsked, _recorded: Recorded, _: Any) -> None:
    if event.begins:
        state.link.remints, state.link.remint_times = 0, []


def _link_begun(state: State, event: events.LinkBegun, recorded: Recorded, _: Any) -> None:
    old = state.link
    wanted = state.settings.node_name if state.settings is not None else ""
    renamed = old.node_name if old.name_wanted == wanted else wanted
    state.link = Link(
        incarnation=event.incarnation,
        probing=event.probe,
        dial=old.dial,
        name_wanted=wanted,
        node_name=renamed,
        has_token=old.has_token,
        since=recorded.at,
        since_begun=recorded.at,
        inventory_changed_at=recorded.at,
        abandoned=old.abandoned,
        remint_times=old.remint_times,
        knows_cursor=old.knows_cursor,
        register_pause_until=old.register_pause_until,
        down_at=old.down_at,
        last_error=old.last_error,
    )


def _link_step(state: State, event: Any, recorded: Recorded, link: Link) -> None:
    del state, event
    link.since = recorded.at
    link.until = 0.0
    link.reason, link.detail, link.mint_call = None, "", ""


def _token_asked(state: State, event: events.TokenAsked, recorded: Recorded, link: Link) -> None:
    _link_step(state, event, recorded, link)
    link.mint_call = event.call_id
    link.token_dead = False


def _name_settled(state: State, event: events.NodeNameSettled, recorded: Recorded, _: Any) -> None:
    link = state.link
    link.node_name, link.name_probed = event.node_name, True
    link.mint_call = event.call_id
    if event.request_id:
        link.until = recorded.at + link_machine.REGISTER_REPLY_S
        link.pending = {event.request_id: Pending("node.register", "", link.until)}
        link.manifest_stale = False


def _reregistering(state: State, event: events.NodeReregistering, _recorded: Recorded, _: Any) -> None:
    state.link.pending[event.request_id] = Pending("node.register", "", event.until)
    state.link.manifest_stale = False


def _token_granted(state: State, _event: events.TokenGranted, recorded: Recorded, _: Any) -> None:
    link = state.link
    if link.has_token and link.remint_times:
        link.remint_times = [*link.remint_times[:-1], recorded.at]
    link.has_token, link.mint_call, link.mint_failures = True, "", 0


def _link_dialled(state: State, event: events.LinkDialled, recorded: Recorded, link: Link) -> None:
    _link_step(state, event, recorded, link)
    link.dial = event.dial


def _link_opened(state: State, event: events.LinkOpened, recorded: Recorded, link: Link) -> None:
    _link_step(state, event, recorded, link)
    link.until = event.until
    link.manifest_stale = False
    link.pending[event.request_id] = Pending("node.register", "", event.until)


def _link_online(state: State, event: events.LinkOnline, recorded: Recorded, link: Link) -> None:
    _link_step(state, event, recorded, link)
    link.pending = {key: pending for key, pending in link.pending.items() if pending.kind != "node.register"}
    link.online_at = link.heard_at = recorded.at
    link.base_delay = link_machine.BACKOFF_FIRST_S
    link.remints, link.probing = 0, False
    link.knows_cursor = link.knows_cursor or event.knows_cursor
    link.not_accepted = event.not_accepted
    for agent_id in state.agents:
        if (box := state.mailboxes.get(agent_id)) is not None:
            box.wait_anew(recorded.at)
    link.next_heartbeat = link.beaten_at + link_machine.HEARTBEAT_S
    link.next_inventory = recorded.at + link_machine.INVENTORY_S


def _link_down(state: State, event: Any, recorded: Recorded, link: Link) -> None:
    if link.online_at > link.down_at:
        link.down_at = recorded.at
    link.since = recorded.at
    link.reason, link.detail = event.reason, event.detail
    link.until = event.until
    link.mint_call = ""
    for request_id, pending in link.pending.items():
        if pending.kind == "agent.register":
            abandon(state, request_id, pending.subject)
    link.pending.clear()


def abandon(state: State, request_id: str, stream: str) -> None:
    """Nobody waits for this request any more; its late answer is still recognised."""
    abandoned = state.link.abandoned
    abandoned[request_id] = stream
    while len(abandoned) > ABANDONED_KEPT:
        del abandoned[next(iter(abandoned))]


def _link_backed_off(state: State, event: events.LinkBackedOff, recorded: Recorded, link: Link) -> None:
    _link_down(state, event, recorded, link)
    link.token_dead = event.token_dead
    if event.reason is Reason.MINT_FAILED:
        link.mint_failures += 1
        return
    link.base_delay = min(link_machine.BACKOFF_MAX_S, link.base_delay * 2)
    if event.reason is Reason.TOKEN_REJECTED:
        link.remints += 1
        link.remint_times = [*link.remint_times[1 - link_machine.MAX_REMINTS_PER_HOUR :], recorded.at]


def _heartbeat(state: State, event: events.HeartbeatDue, recorded: Recorded, _: Any) -> None:
    link = state.link
    link.heartbeat_id, link.beaten_at = event.request_id, recorded.at
    link.next_heartbeat = recorded.at + link_machine.HEARTBEAT_S


def load_changed(state: State, at: float) -> None:
    """Agents came or went, or handlers: the engine is told with the next heartbeat, which comes at once, and the next sync."""
    link = state.link
    link.next_heartbeat = min(link.next_heartbeat, max(at, link.beaten_at + link_machine.HEARTBEAT_GAP_S))
    link.inventory_changed_at = link.inventory_changed_at or at


def _inventory(state: State, event: events.InventoryPublished, recorded: Recorded, _: Any) -> None:
    state.link.inventory_changed_at = 0.0
    state.link.next_inventory = recorded.at + link_machine.INVENTORY_S
    state.link.pending[event.request_id] = Pending("inventory.sync", "", recorded.at + link_machine.REGISTER_REPLY_S)


def _frame_noted(state: State, event: events.FrameNoted, recorded: Recorded, _: Any) -> None:
    state.link.heard_at = recorded.at
    if event.frame_type == "reply":
        request = state.link.pending.pop(event.detail, None)
        if request is not None and request.kind == "inventory.sync":
            state.link.synced_at, state.link.sync_retry_s = recorded.at, 0.0


def _engine_error(state: State, event: events.EngineErrorReceived, recorded: Recorded, _: Any) -> None:
    link = state.link
    link.heard_at = recorded.at
    link.last_error = EngineError(event.code, event.message, recorded.at)
    link.pending.pop(event.request_id, None)
    if event.request in ("inventory.sync", "agent.deregister"):
        link.sync_retry_s = min(
            link_machine.SYNC_RETRY_MAX_S, max(link_machine.SYNC_RETRY_FIRST_S, 2 * link.sync_retry_s)
        )
        link.inventory_changed_at = 0.0
        link.next_inventory = recorded.at + link.sync_retry_s


def _frame_rejected(state: State, event: events.FrameRejected, _recorded: Recorded, _: Any) -> None:
    state.counters.frames_rejected += 1
    kind, known = rejected_kind(event), state.link.rejected
    if kind in known or (kind and len(known) < REJECTED_KINDS):
        known[kind] = known.get(kind, 0) + 1


def rejected_kind(event: events.FrameRejected) -> str:
    """Under what frames are counted that a newer engine sends; "" for a frame that is bad by itself."""
    drifted = event.reason in (Reason.UNKNOWN_FRAME, Reason.BAD_VERSION)
    return f"{event.reason} {event.frame_type}" if drifted else ""


CHANGES: Changes = {
    events.EnrolAsked: _enrol_asked,
    events.LinkBegun: _link_begun,
    events.TokenAsked: _token_asked,
    events.TokenGranted: _token_granted,
    events.NodeNameSettled: _name_settled,
    events.NodeReregistering: _reregistering,
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
