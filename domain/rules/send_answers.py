"""What callers of a send are told: once each, the truth at that moment, and the same again for the same key.

Source: spec/local-api.md sections 1.1 (idempotency) and 1.3 route 17; scenarios F037, U10, U14.
"""

from __future__ import annotations

import msgspec

from relaybroker.domain import events, replies
from relaybroker.domain import message as message_machine
from relaybroker.domain.effects import Reply
from relaybroker.domain.entities import Message, Send
from relaybroker.domain.errors import Refusal
from relaybroker.domain.inputs import SendRequested
from relaybroker.domain.message import target_type
from relaybroker.domain.reasons import Reason
from relaybroker.domain.replies import SendAnswer
from relaybroker.domain.rules import keys
from relaybroker.domain.turn import Turn


def fingerprint(request: SendRequested) -> str:
    """Of everything that is asked for."""
    return keys.fingerprint(msgspec.structs.replace(request, request_id="", key=""))


def check_room(turn: Turn, key: str) -> None:
    """Raise InvalidRequest if there is no room for one more key."""
    if key:
        keys.check_room(turn.state.sends, turn.state.spent_keys(turn.now), "send")


def again(turn: Turn, request: SendRequested, known: Send) -> None:
    """A key came again: its caller gets the answer of the first one, or waits for it too.

    Raises:
        InvalidRequest: `idempotency_conflict`, it came with something else.
    """
    keys.check_same(known.fingerprint, fingerprint(request), "another message")
    message = turn.state.messages.get(known.stream)
    if message is not None and message.answer_by:
        turn.record(events.MessageJoined(request_id=request.request_id), message.stream, message.event_id)
        return
    turn.record(events.SendRepeated(key=request.key, request_id=request.request_id), turn.broker)
    if known.answer is not None:
        turn.effect(Reply(request_id=request.request_id, answer=keys.repeated(known.answer)))


def published(turn: Turn, message: Message, message_id: str) -> None:
    """The engine has the message. Call this before the event that ends the message."""
    _tell(turn, message, _sent(turn, message, published=True, message_id=message_id))


def pending(turn: Turn, message: Message) -> None:
    """The engine does not have it yet; the callers are answered all the same (ADR-0014)."""
    _tell(turn, message, _sent(turn, message, published=False))
    turn.record(events.MessageAnswered(), message.stream, message.event_id)


def refused(turn: Turn, message: Message, reason: Reason, code: str, detail: str) -> None:
    """It will not be published. Call this before the event that ends the message."""
    kind, about = Refusal.ABSENT, {"to": message.to}
    is_reply = message.strict and message_machine.is_message_id(message.thread_id)
    if reason is Reason.RECIPIENT_NOT_FOUND and (is_reply or target_type(message.to) == "thread"):
        code, text, about = "message_not_found", f"there is no message {message.thread_id} to reply to", {}
    elif reason is Reason.RECIPIENT_NOT_FOUND:
        text = f'Agent "{message.to}" not found' if target_type(message.to) == "agent" else f"{message.to} not found"
        code = "recipient_not_found"
    else:
        kind, text = Refusal.ENGINE, f"the engine refused the message: {code} {detail}"
        code = "engine_error"
    _tell(turn, message, replies.Refused(kind=kind, code=code, message=text, about=about))


def _tell(turn: Turn, message: Message, answer: SendAnswer) -> None:
    """Answer everybody who waits, and keep the answer for those who ask again with the same key."""
    waiting = [message.request_id, *message.joined] if message.answer_by else []
    if message.key:
        turn.record(events.MessageReplyKept(answer=answer), message.stream, message.event_id)
    for number, request_id in enumerate(waiting):
        turn.effect(Reply(request_id=request_id, answer=keys.repeated(answer) if number else answer))


def _sent(turn: Turn, message: Message, *, published: bool, message_id: str = "") -> replies.Sent:
    threaded = message_machine.is_message_id(message.thread_id)
    target = turn.state.registration_of(message.to) if target_type(message.to) == "agent" else None
    program = turn.state.workers.get(target.session_id) if target is not None else None
    return replies.Sent(
        event_id=message.event_id,
        published=published,
        message_id=message_id,
        target=target.name if target is not None else "",
        target_lives=program is not None and not program.ended,
        held=target is not None and turn.state.is_flushed_by_hand(target.name),
        workspace_id=turn.settings.workspace_id,
        sent_as=message.sender if message.author_id else turn.state.own.name,
        threaded=threaded,
        mode="wait" if threaded else message.mode,
    )
