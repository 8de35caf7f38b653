"""How events of outbound messages change the state."""

from __future__ import annotations

from typing import Any

from relaybroker.domain import (
    engine_status,
    events,
)
from relaybroker.domain import (
    message as message_machine,
)
from relaybroker.domain.changes.early import given_and_tried, has_id, no_longer_undecided
from relaybroker.domain.changes.own_messages import remember
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.entities import Message, Send
from relaybroker.domain.events import Recorded
from relaybroker.domain.message import target_type
from relaybroker.domain.state import State


def _message_accepted(state: State, event: events.MessageAccepted, recorded: Recorded, _: Any) -> None:
    state.messages[recorded.stream] = Message(
        stream=recorded.stream,
        event_id=event.event_id,
        request_id=event.request_id,
        to=event.to,
        text=event.text,
        sender=event.sender,
        author_id=event.author_id,
        thread_id=event.thread_id,
        mode=event.mode,
        strict=event.strict,
        recipient_id=event.recipient_id,
        recipient=state.registrations[state.agents[event.recipient_id]].name.lower() if event.recipient_id else "",
        data=event.data,
        attachments=event.attachments,
        priority=message_machine.priority_of(event.to, event.priority),
        state=message_machine.TABLE.initial,
        accepted_at=recorded.at,
        answer_by=event.answer_by,
        until=recorded.at,
        key=event.key,
    )
    _take_place(state, state.messages[recorded.stream])
    if event.key:
        _forget_keys(state, recorded.at)
        state.sends[event.key] = Send(event.fingerprint, recorded.stream, recorded.at)


def _take_place(state: State, new: Message) -> None:
    """In its line: behind whatever was given to the engine, and behind what is as urgent."""
    line = state.lines.setdefault(new.line, [])
    place = len(line)
    while place and _may_be_overtaken(state.messages[line[place - 1]], new):
        place -= 1
    line.insert(place, new.stream)


def _may_be_overtaken(other: Message, new: Message) -> bool:
    return other.may_be_overtaken and not new.waits_for_thread and new.priority < other.priority


def _forget_keys(state: State, now: float) -> None:
    """Make room for one more, and forget what is too old."""
    for key in list(state.spent_keys(now)):
        if len(state.sends) < message_machine.KEYS_KEPT and state.sends[key].at > now - message_machine.KEY_MAX_S:
            return
        del state.sends[key]


def _message_publishing(state: State, event: events.MessagePublishing, recorded: Recorded, message: Message) -> None:
    message.call_id, message.tries, message.until, message.tried_at = event.call_id, event.tries, 0.0, recorded.at
    if message.early:
        given_and_tried(state, message)


def _message_waiting(_state: State, event: events.MessageWaiting, _recorded: Recorded, message: Message) -> None:
    message.call_id, message.until = "", event.until
    message.turned_away, message.unanswered = (
        event.status != engine_status.UNANSWERED,
        event.status == engine_status.UNANSWERED,
    )


def _message_unthreaded(_state: State, _event: Any, recorded: Recorded, message: Message) -> None:
    message.call_id, message.until, message.thread_id, message.unthreaded = "", recorded.at, "", True
    message.unanswered = False


def _message_published(state: State, event: events.MessagePublished, recorded: Recorded, message: Message) -> None:
    _message_ended(state, event, recorded, message)
    if message.author_id and event.message_id and target_type(message.to) in ("agent", "conversation"):
        state.remember_posted(event.message_id, message.author_id)
    for other in state.firsts():  # the engine is there
        if other.waits and other.unanswered:
            other.until = min(other.until, recorded.at)
    told_with = state.announced.get(message.event_id, recorded.stream)
    state.announce(event.message_id or message.event_id, told_with)
    if event.message_id:
        remember(state, event.message_id, message)
        has_id(state, event.message_id, recorded.at, message)


def _message_ended(state: State, _event: Any, _recorded: Recorded, message: Message) -> None:
    no_longer_undecided(state, message)
    message.call_id, message.until, message.answer_by = "", 0.0, 0.0
    line = state.lines[message.line]
    line.remove(message.stream)
    if not line:
        del state.lines[message.line]


def _message_answered(state: State, _event: Any, recorded: Recorded, _: Any) -> None:
    message = state.messages[recorded.stream]
    message.answer_by = 0.0
    message.joined.clear()


def _message_joined(state: State, event: events.MessageJoined, recorded: Recorded, _: Any) -> None:
    state.messages[recorded.stream].joined.append(event.request_id)


def _reply_kept(state: State, event: events.MessageReplyKept, recorded: Recorded, _: Any) -> None:
    known = state.sends[state.messages[recorded.stream].key]
    known.answer = event.answer


CHANGES: Changes = {
    events.MessageAccepted: _message_accepted,
    events.MessagePublishing: _message_publishing,
    events.MessageWaiting: _message_waiting,
    events.MessageUnthreaded: _message_unthreaded,
    events.MessagePublished: _message_published,
    events.MessageRefused: _message_ended,
    events.MessageAnswered: _message_answered,
    events.MessageJoined: _message_joined,
    events.MessageReplyKept: _reply_kept,
}
