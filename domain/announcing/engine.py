"""What is told of the link, of messages from here to the engine, and of actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relaybroker.domain import announcements, events
from relaybroker.domain.announcing.signature import Announcements, Announcing, subject
from relaybroker.domain.changes.link import rejected_kind
from relaybroker.domain.events import Recorded
from relaybroker.domain.message import target_type
from relaybroker.domain.state import State


def _link(label: str) -> Callable[[State, Any, Recorded], Announcements]:
    def tell(_state: State, event: Any, _recorded: Recorded) -> Announcements:
        yield announcements.LinkMoved(state=label, reason=str(getattr(event, "reason", "") or ""))

    return tell


def _rejected(state: State, event: events.FrameRejected, _recorded: Recorded) -> Announcements:
    kind = rejected_kind(event)
    if kind and state.link.rejected.get(kind) != 1:
        return  # one that a newer engine sends is announced once and counted every time
    yield announcements.FrameRejected(frame_type=event.frame_type, reason=event.reason)


def _engine_error(_state: State, event: events.EngineErrorReceived, _recorded: Recorded) -> Announcements:
    yield announcements.EngineErrorHeard(code=event.code, message=event.message, request_id=event.request_id)


def _published(state: State, event: events.MessagePublished, recorded: Recorded) -> Announcements:
    message = state.messages[recorded.stream]
    message_id = event.message_id or message.event_id
    if state.announced.get(message_id) == recorded.stream:
        local = state.registration_of(message.to) if target_type(message.to) == "agent" else None
        yield announcements.MessageSeen(
            event_id=message.event_id,
            msg_id=message_id,
            sender=message.sender or "human:orchestrator",
            target=message.to,
            body=message.text,
            thread_id=message.thread_id,
            workspace_id=state.settings.workspace_id if state.settings is not None else "",
            mode=message.mode,
            names=(local.name,) if local is not None else (),
        )
    yield announcements.MessagePublished(event_id=message.event_id, message_id=event.message_id, to=message.to)


def _publish_failed(
    state: State, event: events.MessageWaiting | events.MessageRefused, recorded: Recorded
) -> Announcements:
    message = state.messages[recorded.stream]
    yield announcements.PublishFailed(event_id=message.event_id, to=message.to, detail=event.detail)


def _undelivered(state: State, event: events.DeliveryFailureHeard, _recorded: Recorded) -> Announcements:
    """The engine could not deliver what an agent of this node, or the broker, had sent."""
    names = {state.own.agent_id: state.own.name}
    names |= {agent_id: state.registrations[stream].name for agent_id, stream in state.agents.items()}
    yield announcements.SenderTold(
        name=event.target,
        delivery_id=event.delivery_id,
        event_id=state.sent[event.message_id].event_id if event.message_id in state.sent else event.message_id,
        msg_id=event.message_id,
        sender=next((names[agent_id] for agent_id in event.sender_ids if agent_id in names), ""),
        attempts=0,
        failure=event.failure,
    )


def _action(label: str) -> Callable[[State, Any, Recorded], Announcements]:
    def tell(_state: State, event: Any, recorded: Recorded) -> Announcements:
        yield announcements.ActionMoved(
            invocation_id=subject(recorded), state=label, reason=getattr(event, "reason", None) or None
        )

    return tell


ANNOUNCED: Announcing = {
    events.LinkOnline: _link("online"),
    events.LinkBackedOff: _link("backing_off"),
    events.LinkRefused: _link("refused"),
    events.LinkShut: _link("closed"),
    events.FrameRejected: _rejected,
    events.EngineErrorReceived: _engine_error,
    events.DeliveryFailureHeard: _undelivered,
    events.MessagePublished: _published,
    events.MessageWaiting: _publish_failed,
    events.MessageRefused: _publish_failed,
    events.ActionRunning: _action("running"),
    events.ActionDone: _action("done"),
    events.ActionReported: _action("reported"),
}
