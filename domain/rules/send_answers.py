"""What callers of a send are told: once each, the truth at that moment, and the same again for the same key.

Source: spec/local-api.md sections 1.1 (idempotency) and 1.3 route 17; scenarios F037, U10, U14.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from relaybroker.domain import events, outbound_message
from relaybroker.domain.effects import Reply
from relaybroker.domain.errors import InvalidRequest, error_body
from relaybroker.domain.inputs import SendRequested
from relaybroker.domain.notifications import target_type
from relaybroker.domain.reasons import Reason
from relaybroker.domain.state import Message, Send
from relaybroker.domain.turn import Turn


def fingerprint(request: SendRequested) -> str:
    """Of everything that is asked for; two requests with one key must have the same."""
    asked = msgspec.structs.replace(request, request_id="", key="")
    return hashlib.blake2b(msgspec.json.encode(asked, order="deterministic"), digest_size=16).hexdigest()


def check_room(turn: Turn, key: str) -> None:
    """Raise InvalidRequest if one more key could only be remembered at the cost of one that must not be forgotten yet."""
    state = turn.state
    if key and len(state.sends) >= outbound_message.KEYS_KEPT and next(state.spent_keys(turn.now), None) is None:
        raise InvalidRequest(429, "queue_full", "too many idempotency keys are in use; send again later")


def again(turn: Turn, request: SendRequested, known: Send) -> None:
    """A key came again: its caller gets the answer of the first one, or waits for it too.

    Raises:
        InvalidRequest: 409 `idempotency_conflict`, it came with something else.
    """
    if known.fingerprint != fingerprint(request):
        raise InvalidRequest(409, "idempotency_conflict", "this idempotency key was used for another message")
    message = turn.state.messages.get(known.stream)
    if message is not None and message.answer_by:
        turn.record(events.MessageJoined(request_id=request.request_id), message.stream, message.event_id)
        return
    turn.record(events.SendRepeated(key=request.key, request_id=request.request_id), turn.broker)
    turn.effect(Reply(request_id=request.request_id, status=known.status, body=known.body | {"replayed": True}))


def published(turn: Turn, message: Message, message_id: str) -> None:
    """The engine has it. Call this before the event that ends the message."""
    _tell(turn, message, 200, _body(turn, message, published=True) | {"message_id": message_id or None})


def pending(turn: Turn, message: Message) -> None:
    """The engine does not have it yet; the callers are answered all the same (ADR-0014)."""
    _tell(turn, message, 200, _body(turn, message, published=False) | {"publish_pending": True})
    turn.record(events.MessageAnswered(), message.stream, message.event_id)


def refused(turn: Turn, message: Message, reason: Reason, code: str, detail: str) -> None:
    """It will not be published. Call this before the event that ends the message."""
    is_reply = message.strict and outbound_message.is_engine_id(message.thread_id)
    if reason is Reason.RECIPIENT_NOT_FOUND and (is_reply or target_type(message.to) == "thread"):
        error = InvalidRequest(404, "message_not_found", f"there is no message {message.thread_id} to reply to")
    elif reason is Reason.RECIPIENT_NOT_FOUND:
        text = f'Agent "{message.to}" not found' if target_type(message.to) == "agent" else f"{message.to} not found"
        error = InvalidRequest(404, "recipient_not_found", text, to=message.to)
    else:
        error = InvalidRequest(502, "engine_error", f"the engine refused the message: {code} {detail}", to=message.to)
    _tell(turn, message, error.status, error_body(error))


def _tell(turn: Turn, message: Message, status: int, body: dict[str, Any]) -> None:
    """Answer everybody who waits, and keep the answer for those who ask again with the same key."""
    waiting = [message.request_id, *message.joined] if message.answer_by else []
    if message.key:
        turn.record(events.MessageReplyKept(status=status, body=body), message.stream, message.event_id)
    for number, request_id in enumerate(waiting):
        turn.effect(
            Reply(request_id=request_id, status=status, body=body | ({"replayed": True} if number else {})),
        )


def _body(turn: Turn, message: Message, *, published: bool) -> dict[str, Any]:
    threaded = outbound_message.is_engine_id(message.thread_id)
    target = turn.state.registration_of(message.to) if target_type(message.to) == "agent" else None
    program = turn.state.workers.get(target.session_id) if target is not None else None
    body: dict[str, Any] = {
        "success": True,
        "event_id": message.event_id,
        "local": target is not None,
        "relaycast_published": published,
        "message_id": None,
        "recipient_live": None if target is None else program is not None and not program.ended,
        "targets": [target.name] if target is not None else [],
        "queued": 0,
        "rejected": [],
        "workspace_id": turn.settings.workspace_id,
        "workspace_alias": None,
        "sent_as": message.sender if message.author_id else turn.state.own.name,
        "thread_used": threaded,
        "mode_used": "wait" if threaded else message.mode,
    }
    if target is not None:
        body["delivered"] = 1
        body["stage"] = "published" if published else "stored"
    return body
