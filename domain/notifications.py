"""What local clients see of each event on `/ws`: flat JSON objects with `kind`, in the published vocabulary.

A projection: a pure function of the event and the state after it. Sequence numbers are given by the fold, so they go on over restarts.

Source: spec/local-api.md section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from relaybroker.domain import events, outbound_message
from relaybroker.domain.changes.link import rejected_kind
from relaybroker.domain.events import Recorded
from relaybroker.domain.reasons import Reason
from relaybroker.domain.state import Delivery, Registration, State, Worker


def project(state: State, recorded: Recorded) -> list[dict[str, Any]]:
    """The local events of one recorded event, without `seq`."""
    make = _PROJECTIONS.get(type(recorded.event))
    if make is None:
        return []
    common = {"epoch": state.epoch, "timestamp": int(recorded.at * 1000)}
    return [body | common for body in make(state, recorded.event, recorded)]


_Bodies = Iterable[dict[str, Any]]


def _agent_fields(found: Registration) -> dict[str, Any]:
    session = found.spec.session_ref or found.session_id
    return {
        "name": found.name,
        "runtime": "pty",
        "provider": None,
        "cli": found.spec.cli,
        "model": found.spec.model or None,
        "sessionId": session,
        "session_id": session,
    }


def _spawned(state: State, event: events.AgentLive, at: Recorded) -> _Bodies:
    found = state.registrations[at.stream]
    yield _agent_fields(found) | {
        "kind": "agent_spawned",
        "pid": event.pid,
        "source": "http_api" if found.source == "sidecar" else found.source,
        "parent": parent_label(found.source),
        "pre_registered": True,
        "registration_warning": None,
    }


def parent_label(source: str) -> str:
    """Who spawned it, in the words that clients know."""
    if source.startswith("agent:"):
        return source.removeprefix("agent:")
    return "Relaycast" if source == "relaycast_ws" else "Dashboard"


def _ready(state: State, event: events.WorkerReady, at: Recorded) -> _Bodies:
    found = state.workers[_session(at)]
    if event.report and found.ready_at == at.at:
        registration = state.registrations[found.registration]
        body = _agent_fields(registration) | {"kind": "worker_ready", "pid": found.pid, "evidence": event.evidence}
        if event.evidence in ("unverified", "startup_timeout"):
            body["reason"] = "startup_timeout"
        yield body


def _session(at: Recorded) -> str:
    return at.stream.partition(":")[2]


def _blocked(state: State, event: events.WorkerBlocked, at: Recorded) -> _Bodies:
    yield {"kind": "agent_blocked", "name": state.workers[_session(at)].name, "pattern": event.pattern}


def _idle(state: State, event: events.WorkerIdle, at: Recorded) -> _Bodies:
    yield {"kind": "agent_idle", "name": state.workers[_session(at)].name, "idle_secs": round(event.idle_s)}


def _stopping(state: State, event: events.WorkerStopping, at: Recorded) -> _Bodies:
    found = state.workers[_session(at)]
    return _cleared(state, found, found.waiting, event.reason)


def _cleared(state: State, found: Worker, streams: list[str], reason: Reason) -> _Bodies:
    """What was on its way to a program that ends; each message gets an end of its own besides."""
    if streams:
        ids = [state.deliveries[stream].msg_id for stream in streams]
        yield {
            "kind": "delivery_dropped",
            "name": found.name,
            "count": len(ids),
            "reason": str(reason),
            "event_ids": ids,
        }


def _exited(state: State, event: events.WorkerExited, at: Recorded) -> _Bodies:
    found = state.workers[_session(at)]
    yield from _cleared(state, found, [*found.typing, *found.waiting], event.reason)
    yield from _exit_bodies(state, found, event.reason, event.last_output)


def _lost(state: State, event: events.WorkerLost, at: Recorded) -> _Bodies:
    found = state.workers[_session(at)]
    yield from _cleared(state, found, [*found.typing, *found.waiting], event.reason)
    yield from _exit_bodies(state, found, event.reason, "")


def _exit_bodies(state: State, found: Worker, reason: Reason, last_output: str) -> _Bodies:
    registration = state.registrations.get(found.registration)
    if registration is None or not registration.live_at:
        return
    if found.stop_reason is Reason.AGENT_RELEASED or found.stop_reason is Reason.SHUTDOWN:
        yield {"kind": "agent_released", "name": found.name}
        return
    yield {
        "kind": "agent_exited",
        "name": found.name,
        "code": found.code,
        "signal": None if found.signal is None else str(found.signal),
        "reason": str(reason),
        "uptime_secs": int(found.uptime_s),
        "last_output": last_output,
    }
    announced = "child_exited" if reason is Reason.WORKER_EXITED else "unknown"
    yield {"kind": "agent_exit", "name": found.name, "reason": announced, "last_output": last_output}


def _delivery(state: State, at: Recorded) -> Delivery:
    return state.deliveries[at.stream]


def _about(found: Delivery) -> dict[str, Any]:
    return {"name": found.name, "delivery_id": found.delivery_id, "event_id": found.msg_id}


def _offered(state: State, event: events.DeliveryOffered, at: Recorded) -> _Bodies:
    found = _delivery(state, at)
    if event.source == "engine" and state.announced.get(event.msg_id) == at.stream:
        yield {
            "kind": "relay_inbound",
            "event_id": event.msg_id,
            "from": event.sender,
            "target": event.target,
            "body": event.body,
            "thread_id": event.thread_id or None,
            "workspace_id": event.workspace_id,
            "workspace_alias": None,
            "mode": event.mode,
            "injection_mode": event.mode,
            "names": [event.name],
        }
    body = _about(found) | {"kind": "delivery_queued", "from": event.sender, "target": event.target}
    if found.attempt > 1:
        body["attempt"] = found.attempt
    if state.is_flushed_by_hand(found.name) and (event.source != "task" or found.attempt > 1):
        body["reason"] = "inbound_delivery_manual_flush"
    yield body


def _held(state: State, event: events.DeliveryHeld, at: Recorded) -> _Bodies:
    found = _delivery(state, at)
    yield {
        "kind": "delivery_held",
        "agent": found.name,
        "name": found.name,
        "delivery_id": found.delivery_id,
        "event_id": found.msg_id,
        "seq_no": found.seq,
        "reason": str(event.reason),
        "deadline": int(event.until * 1000),
    }


def _taken_over(state: State, _event: events.DeliveryTakenOver, at: Recorded) -> _Bodies:
    found = _delivery(state, at)
    yield _about(found) | {"kind": "delivery_taken_over", "agent": found.name, "seq_no": found.seq}


def _injected(state: State, event: events.DeliveryInjected, at: Recorded) -> _Bodies:
    yield _about(_delivery(state, at)) | {"kind": "delivery_injected", "evidence": event.evidence}


def _fetched(state: State, _event: events.DeliveryFetched, at: Recorded) -> _Bodies:
    found = _delivery(state, at)
    about = _about(found)
    yield about | {"kind": "delivery_injected", "evidence": "fetched"}
    yield about | {"kind": "delivery_ack"}
    yield about | {"kind": "message_delivery_confirmed", "from": found.sender, "to": found.name}


def _verified(state: State, event: events.DeliveryVerified, at: Recorded) -> _Bodies:
    found = _delivery(state, at)
    about = _about(found)
    yield about | {"kind": "delivery_ack"}
    yield about | {"kind": "message_delivery_confirmed", "from": found.sender, "to": found.name}
    yield about | {"kind": "delivery_verified", "verification": event.verification}


def _dropped(state: State, event: events.DeliveryDropped, at: Recorded) -> _Bodies:
    found = _delivery(state, at)
    if event.reason is Reason.EXPIRED:
        yield from _expired(state, event, at)
    elif not event.settled and found.seq:
        yield _about(found) | {"kind": "delivery_returned", "agent": found.name, "reason": str(event.reason)}
    elif event.reason is Reason.AMBIGUOUS:
        yield from _failed(found, event.reason)
    elif event.reason is Reason.POISON:
        yield {
            "kind": "delivery_undeliverable",
            "agent": found.name,
            "name": found.name,
            "agent_id": found.agent_id,
            "seq_no": found.seq,
            "msg_id": found.msg_id,
            "reason": str(event.reason),
        }
    if event.reason is Reason.AMBIGUOUS:
        yield _ambiguous(state, found)


def _expired(state: State, event: events.DeliveryDropped, at: Recorded) -> _Bodies:
    found = _delivery(state, at)
    yield {
        "kind": "delivery_dropped",
        "name": found.name,
        "count": 1,
        "reason": str(event.reason),
        "event_ids": [found.msg_id],
    }


def _failed(found: Delivery, reason: Reason) -> _Bodies:
    """The end of a delivery that was not typed, as far as is known: its sender is told."""
    yield _about(found) | {"kind": "delivery_failed", "reason": str(reason)}
    yield _about(found) | {
        "kind": "message_delivery_failed",
        "from": found.sender,
        "to": found.name,
        "attempts": found.tries,
        "lastError": str(reason),
    }


def _ambiguous(state: State, found: Delivery) -> dict[str, Any]:
    """Whether it was typed is not known; which policy settled it is."""
    assert state.settings is not None
    return _about(found) | {
        "kind": "delivery_ambiguous",
        "agent": found.name,
        "seq_no": found.seq,
        "policy": state.settings.in_doubt,
    }


def _dead_lettered(state: State, event: events.DeliveryDeadLettered, at: Recorded) -> _Bodies:
    found = _delivery(state, at)
    yield from _failed(found, event.reason)
    if event.reason is Reason.AMBIGUOUS:
        yield _ambiguous(state, found)


def _mode_changed(_state: State, event: events.DeliveryModeChanged, at: Recorded) -> _Bodies:
    yield {
        "kind": "agent_inbound_delivery_mode_changed",
        "name": event.name,
        "previous_mode": event.previous,
        "mode": event.mode,
        "revision": at.version,
        "reason": event.reason or None,
    }


def _drained(_state: State, event: events.PendingDrained, _at: Recorded) -> _Bodies:
    yield {"kind": "agent_pending_drained", "name": event.name, "count": event.count, "reason": event.cause}


def _letter_removed(_state: State, event: events.DeadLetterRemoved, at: Recorded) -> _Bodies:
    yield {
        "kind": "dead_letter_removed",
        "id": event.letter_id,
        "event_id": at.correlation,
        "reason": str(event.reason),
    }


def _lost_range(state: State, event: events.RangeLost, at: Recorded) -> _Bodies:
    box = state.mailboxes[_session(at)]
    yield {"kind": "delivery_lost", "agent": box.name, "name": box.name, "from": event.first, "to": event.last}


def _resync(state: State, event: events.ResyncAsked, at: Recorded) -> _Bodies:
    box = state.mailboxes[_session(at)]
    last = min(box.buffer, default=event.first) - 1
    yield {"kind": "delivery_gap", "agent": box.name, "name": box.name, "from": event.first, "to": last}


def _ignored(state: State, event: events.FrameIgnored, at: Recorded) -> _Bodies:
    if event.reason in (
        Reason.SEQ_CONFLICT,
        Reason.DELIVERY_ID_REUSED,
        Reason.HOLD_FULL,
        Reason.RETIRED,
        Reason.UNKNOWN,
    ):
        agent_id = _session(at)
        box = state.mailboxes.get(agent_id)
        name = box.name if box is not None else ""
        yield {
            "kind": "delivery_undeliverable",
            "agent": name,
            "name": name,
            "agent_id": agent_id,
            "seq_no": event.seq,
            "msg_id": event.msg_id,
            "reason": str(event.reason),
        }


def _link(label: str) -> Callable[[State, Any, Recorded], _Bodies]:
    def bodies(_state: State, event: Any, _at: Recorded) -> _Bodies:
        yield {"kind": "node_link_state", "state": label, "reason": str(getattr(event, "reason", "") or "")}

    return bodies


def _rejected(state: State, event: events.FrameRejected, _at: Recorded) -> _Bodies:
    kind = rejected_kind(event)
    if kind and state.link.rejected.get(kind) != 1:
        return  # one that a newer engine sends is announced once and counted every time
    yield {"kind": "node_frame_rejected", "frame_type": event.frame_type, "reason": str(event.reason)}


def _engine_error(_state: State, event: events.EngineErrorReceived, _at: Recorded) -> _Bodies:
    yield {
        "kind": "node_engine_error",
        "code": event.code,
        "message": event.message,
        "request_id": event.request_id or None,
    }


def _published(state: State, event: events.MessagePublished, at: Recorded) -> _Bodies:
    found = state.messages[at.stream]
    message_id = event.message_id or found.event_id
    if state.announced.get(message_id) == at.stream:
        local = state.registration_of(found.to) if target_type(found.to) == "agent" else None
        yield {
            "kind": "relay_inbound",
            "event_id": message_id,
            "from": found.sender or "human:orchestrator",
            "target": found.to,
            "body": found.text,
            "thread_id": found.thread_id or None,
            "workspace_id": state.settings.workspace_id if state.settings is not None else "",
            "workspace_alias": None,
            "mode": found.mode,
            "injection_mode": found.mode,
            "names": [local.name] if local is not None else [],
        }
    yield {
        "kind": "relaycast_published",
        "event_id": found.event_id,
        "message_id": event.message_id,
        "to": found.to,
        "target_type": target_type(found.to),
    }


def target_type(to: str) -> str:
    """`channel`, `conversation`, `thread` or `agent`."""
    if to.startswith("#"):
        return "channel"
    if to.startswith(outbound_message.THREAD):
        return "thread"
    return "conversation" if to.startswith(("dm_", "conv_")) or to.isdigit() else "agent"


def _message_failed(state: State, event: Any, at: Recorded) -> _Bodies:
    found = state.messages[at.stream]
    yield {"kind": "relaycast_publish_failed", "event_id": found.event_id, "to": found.to, "reason": event.detail}


def _token_rotated(state: State, event: events.AgentTokenRotated, at: Recorded) -> _Bodies:
    yield {"kind": "agent_token_rotated", "name": state.registrations[at.stream].name, "cause": event.cause}


def _undelivered(state: State, event: events.DeliveryFailureHeard, _at: Recorded) -> _Bodies:
    """The engine could not deliver what an agent of this node, or the broker, had sent."""
    names = {state.own.agent_id: state.own.name}
    names |= {agent_id: state.registrations[stream].name for agent_id, stream in state.agents.items()}
    yield {
        "kind": "message_delivery_failed",
        "name": event.target,
        "delivery_id": event.delivery_id or None,
        "event_id": event.message_id,
        "from": next((names[agent_id] for agent_id in event.sender_ids if agent_id in names), None),
        "to": event.target,
        "attempts": 0,
        "lastError": event.failure,
    }


def _action(label: str) -> Callable[[State, Any, Recorded], _Bodies]:
    def bodies(_state: State, event: Any, at: Recorded) -> _Bodies:
        body = {"kind": "action_state", "invocation_id": _session(at), "state": label}
        if reason := getattr(event, "reason", None):
            body["reason"] = str(reason)
        yield body

    return bodies


def _channel(state: State, event: events.ChannelAnswered, at: Recorded) -> _Bodies:
    if event.status < 300 and at.stream in state.registrations:
        yield {"kind": "channel_subscribed", "name": state.registrations[at.stream].name, "channels": [event.channel]}


def _result(state: State, event: events.ResultSubmitted, at: Recorded) -> _Bodies:
    yield {
        "kind": "agent_result",
        "name": state.registrations[at.stream].name,
        "result_id": event.result_id,
        "data": event.data,
        "final": event.final,
        "metadata": event.metadata,
    }


_PROJECTIONS: dict[type, Callable[[State, Any, Recorded], _Bodies]] = {
    events.AgentLive: _spawned,
    events.WorkerReady: _ready,
    events.WorkerBlocked: _blocked,
    events.WorkerIdle: _idle,
    events.WorkerStopping: _stopping,
    events.WorkerExited: _exited,
    events.WorkerLost: _lost,
    events.DeliveryOffered: _offered,
    events.DeliveryHeld: _held,
    events.DeliveryTakenOver: _taken_over,
    events.DeliveryInjected: _injected,
    events.DeliveryFetched: _fetched,
    events.DeliveryVerified: _verified,
    events.DeliveryDropped: _dropped,
    events.DeliveryDeadLettered: _dead_lettered,
    events.DeadLetterRemoved: _letter_removed,
    events.DeliveryModeChanged: _mode_changed,
    events.PendingDrained: _drained,
    events.RangeLost: _lost_range,
    events.ResyncAsked: _resync,
    events.FrameIgnored: _ignored,
    events.LinkOnline: _link("online"),
    events.LinkBackedOff: _link("backing_off"),
    events.LinkRefused: _link("refused"),
    events.LinkShut: _link("closed"),
    events.FrameRejected: _rejected,
    events.EngineErrorReceived: _engine_error,
    events.AgentTokenRotated: _token_rotated,
    events.DeliveryFailureHeard: _undelivered,
    events.MessagePublished: _published,
    events.MessageWaiting: _message_failed,
    events.MessageRefused: _message_failed,
    events.ActionRunning: _action("running"),
    events.ActionDone: _action("done"),
    events.ActionReported: _action("reported"),
    events.ChannelAnswered: _channel,
    events.ResultSubmitted: _result,
}
