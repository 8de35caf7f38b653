"""How events of the broker process and its own identity change the state."""

from __future__ import annotations

from typing import Any

from relaybroker.domain import (
    events,
)
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.delivery import CLOCKS_DIFFER_S, LOOK_UP_S
from relaybroker.domain.entities import OwnIdentity
from relaybroker.domain.entropy import derive
from relaybroker.domain.events import Recorded
from relaybroker.domain.state import State


def _broker_started(state: State, event: events.BrokerStarted, recorded: Recorded, _: Any) -> None:
    if state.link.online_at > state.link.down_at:
        state.link.down_at = state.now  # the former process's last word: nothing it wrote later than that left it
    if event.machine_boot and state.machine_boot not in ("", event.machine_boot) and not state.left:
        _doubt_what_is_open(state, recorded.at)
    state.machine_boot = event.machine_boot
    state.boot_id = event.boot_id
    state.entropy = event.entropy
    state.epoch = state.epoch or f"ep_{derive(event.entropy, 0, 'epoch')[:12]}"
    state.settings = event.settings
    state.started_at = recorded.at
    state.stopping_until, state.stop_reason, state.agents_too, state.left = 0.0, "", True, False
    state.host.attached, state.host.until = False, 0.0
    state.own = OwnIdentity(
        agent_id=event.own_agent_id if event.has_own_token else "",
        name=state.own.name or event.settings.broker_name,
    )
    state.link.has_token = event.has_node_token
    for stream in state.doubts:  # nobody looked anything up meanwhile
        doubted = state.deliveries[stream]
        doubted.until, doubted.asked_again = recorded.at + LOOK_UP_S, False
    state.calls.clear()
    for registration in state.registrations.values():
        for membership in registration.channels.values():
            if membership.call_id:
                membership.call_id, membership.retry_at = "", recorded.at


def _doubt_what_is_open(state: State, now: float) -> None:
    """The machine crashed: whatever was on its way may have been typed without a record (ADR-0082)."""
    state.doubt_before = now + CLOCKS_DIFFER_S
    for delivery in state.deliveries.values():
        delivery.doubtful = delivery.doubtful or not delivery.ended


def _broker_stopping(state: State, event: events.BrokerStopping, _recorded: Recorded, _: Any) -> None:
    state.stopping_until = event.until
    state.stop_reason = event.reason
    state.agents_too = event.agents_too


def _clock_leapt(state: State, event: events.ClockLeapt, _recorded: Recorded, _: Any) -> None:
    state.leapt_s += event.by_s


def _broker_left(state: State, _event: Any, _recorded: Recorded, _: Any) -> None:
    state.left = True


def _own_requested(state: State, event: events.OwnIdentityRequested, _recorded: Recorded, _: Any) -> None:
    state.own = OwnIdentity(name=event.name, call_id=event.call_id)


def _own_granted(state: State, event: events.OwnIdentityGranted, _recorded: Recorded, _: Any) -> None:
    state.own = OwnIdentity(agent_id=event.agent_id, name=event.name)


def _own_refused(state: State, event: events.OwnIdentityRefused, _recorded: Recorded, _: Any) -> None:
    state.own.call_id, state.own.until, state.own.refused = "", event.until, event.code or event.detail


CHANGES: Changes = {
    events.BrokerStarted: _broker_started,
    events.BrokerStopping: _broker_stopping,
    events.BrokerLeft: _broker_left,
    events.ClockLeapt: _clock_leapt,
    events.OwnIdentityRequested: _own_requested,
    events.OwnIdentityGranted: _own_granted,
    events.OwnIdentityRefused: _own_refused,
}
