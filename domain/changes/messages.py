"""How events of outbound messages change the state."""

from __future__ import annotations

from typing import Any

from domain import (
    events,
    outbound_message,
)
from domain.changes.kinds import Changes
from domain.events import Recorded
from domain.state import (
    Message,
    State,
)


def _message_accepted(state: State, event: events.MessageAccepted, at: Recorded, _: Any) -> None:
    state.messages[at.stream] = Message(
        stream=at.stream,
        event_id=event.event_id,
        request_id=event.request_id,
        to=event.to,
        text=event.text,
        sender=event.sender,
        author_id=event.author_id,
        thread_id=event.thread_id,
        mode=event.mode,
        data=event.data,
        attachments=event.attachments,
        state=outbound_message.TABLE.initial,
        accepted_at=at.at,
        answer_by=event.answer_by,
        until=at.at,
    )


def _message_publishing(_state: State, event: events.MessagePublishing, _at: Recorded, found: Message) -> None:
    found.call_id, found.tries, found.until = event.call_id, event.tries, 0.0


def _message_waiting(_state: State, event: events.MessageWaiting, _at: Recorded, found: Message) -> None:
    found.call_id, found.until = "", event.until


def _message_ended(_state: State, _event: Any, _at: Recorded, found: Message) -> None:
    found.call_id, found.until, found.answer_by = "", 0.0, 0.0


def _message_answered(state: State, _event: Any, at: Recorded, _: Any) -> None:
    state.messages[at.stream].answer_by = 0.0


CHANGES: Changes = {
    events.MessageAccepted: _message_accepted,
    events.MessagePublishing: _message_publishing,
    events.MessageWaiting: _message_waiting,
    events.MessagePublished: _message_ended,
    events.MessageRefused: _message_ended,
    events.MessageAnswered: _message_answered,
}
