"""Decisions about messages that people and agents send through the local API, and about the broker's own identity.

Every message goes to the engine as its true sender, once, with an idempotency key; local recipients get it back from there like everybody
else (ADR-0011).

Source: spec/local-api.md section 6.1; scenarios F034, F061.
"""

from __future__ import annotations

from typing import Any

from domain import events, outbound_message
from domain.effects import EngineCall, Reply, path_segment
from domain.errors import InvalidRequest, error_body
from domain.inputs import EngineAnswered, EngineUnanswered, SendRequested
from domain.notifications import target_type
from domain.outbound_message import State
from domain.reasons import Reason
from domain.rules import agents
from domain.state import Message
from domain.state import State as BrokerState
from domain.turn import Turn

OWN_RETRY_S = 5.0
_OWN_SENDERS = ("", "dashboard", "human:dashboard", "human:orchestrator")


# --- the broker's own identity ----------------------------------------------------------------------------------------------


def ask_own_identity(turn: Turn, name: str) -> None:
    """Register the broker itself, so that it can publish what people send."""
    call_id = f"own_{turn.fresh('own')}"
    turn.record(events.OwnIdentityRequested(call_id=call_id, name=name), turn.broker)
    turn.effect(
        EngineCall(
            call_id=call_id,
            method="POST",
            path="/v1/agents",
            auth="workspace",
            capture="own",
            body={"name": name, "type": "human"},
        )
    )


def own_answered(turn: Turn, answer: EngineAnswered | EngineUnanswered) -> None:
    """The engine answered. A taken name belongs to somebody else: the broker takes another, it never takes over."""
    own = turn.state.own
    if isinstance(answer, EngineUnanswered):
        _own_refused(turn, 0, "", answer.detail, turn.now + OWN_RETRY_S)
        return
    data = answer.data if isinstance(answer.data, dict) else {}
    if answer.status in (200, 201) and data.get("id"):
        turn.record(events.OwnIdentityGranted(agent_id=str(data["id"]), name=own.name), turn.broker)
        for waiting in list(turn.state.messages.values()):
            if waiting.waits and waiting.until <= turn.now:
                publish(turn, waiting)
    elif answer.status == 409:
        name = f"{turn.settings.broker_name}-{turn.fresh('own-name')[:6]}"
        _own_refused(turn, answer.status, answer.code, f"the name {own.name} is taken", turn.now + OWN_RETRY_S)
        ask_own_identity(turn, name)
    else:
        again = turn.now + OWN_RETRY_S if answer.status >= 500 or answer.status == 429 else 0.0
        _own_refused(turn, answer.status, answer.code, answer.message, again)


def _own_refused(turn: Turn, status: int, code: str, detail: str, until: float) -> None:
    turn.record(events.OwnIdentityRefused(status=status, code=code, detail=detail[:500], until=until), turn.broker)


# --- messages -------------------------------------------------------------------------------------------------------------------


def send_requested(turn: Turn, request: SendRequested) -> None:
    """Take a message on, durably, and start to publish it."""
    try:
        _check(turn, request)
    except InvalidRequest as error:
        error.extra.setdefault("to", request.to)
        agents.refuse(turn, request.request_id, "send", error)
        return
    event_id = f"http_{turn.fresh('message')}"
    stream = f"message:{event_id}"
    author = turn.state.registration_of(request.sender)
    turn.record(
        events.MessageAccepted(
            event_id=event_id,
            request_id=request.request_id,
            to=request.to.removeprefix("@"),
            text=request.text,
            sender=request.sender,
            author_id=author.agent_id if author is not None else "",
            answer_by=turn.now + outbound_message.ANSWER_S,
            thread_id=request.thread_id,
            mode=request.mode,
            data=request.data,
            attachments=request.attachments,
        ),
        stream,
        event_id,
    )
    publish(turn, turn.state.messages[stream])


def _check(turn: Turn, request: SendRequested) -> None:
    if turn.state.stopping_until:
        raise InvalidRequest(503, "shutting_down", "the broker is stopping")
    if not request.to.strip() or not request.text.strip():
        raise InvalidRequest(400, "missing_field", "Missing required fields: to, message")
    if request.attachments and request.thread_id.isdigit():
        raise InvalidRequest(
            501, "not_implemented", "the engine takes no attachments with replies", field="attachments"
        )
    if request.data and target_type(request.to.removeprefix("@")) != "channel" and not request.thread_id.isdigit():
        raise InvalidRequest(501, "not_implemented", "the engine takes no data with direct messages", field="data")
    if len(turn.state.messages) >= outbound_message.MAX_OPEN:
        raise InvalidRequest(429, "queue_full", "too many messages wait to be published; send again later")


def publish(turn: Turn, message: Message) -> None:
    """Give the message to the engine, if there is an identity to send it as."""
    author_id = message.author_id or turn.state.own.agent_id
    if not author_id:
        return  # waits: own_answered or due publishes it
    call_id = f"publish_{message.event_id}_{message.tries + 1}"
    turn.record(events.MessagePublishing(call_id=call_id, tries=message.tries + 1), message.stream, message.event_id)
    path, body = _request(message)
    turn.effect(
        EngineCall(
            call_id=call_id,
            method="POST",
            path=path,
            auth=f"agent:{author_id}" if message.author_id else "own",
            body=body,
            idempotency_key=message.event_id,
        )
    )


def _request(message: Message) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = {"text": message.text, "mode": message.mode}
    data = dict(message.data or {})
    if not message.author_id and message.sender.lower() not in _OWN_SENDERS:
        data.setdefault("from", message.sender)
    if message.thread_id and message.thread_id.isdigit():
        return f"/v1/messages/{message.thread_id}/replies", {"text": message.text} | ({"data": data} if data else {})
    if message.attachments:
        body["attachments"] = list(message.attachments)
    match target_type(message.to):
        case "channel":
            if data:
                body["data"] = data
            return f"/v1/channels/{path_segment(message.to.removeprefix('#'))}/messages", body
        case "conversation":
            return f"/v1/dm/{path_segment(message.to)}/messages", body
        case _:
            return "/v1/dm", body | {"to": message.to}


def answered(turn: Turn, message: Message, answer: EngineAnswered | EngineUnanswered) -> None:
    """The engine answered, or did not: published, refused, or tried again."""
    request_id = message.request_id if message.answer_by else ""
    if isinstance(answer, EngineUnanswered):
        _wait(turn, message, 0, answer.detail)
        return
    data = answer.data if isinstance(answer.data, dict) else {}
    if answer.status in (200, 201):
        message_id = str(data.get("id") or (data.get("message") or {}).get("id") or "")
        body = _body(turn, message, published=True, message_id=message_id)
        turn.record(events.MessagePublished(message_id=message_id), message.stream, message.event_id)
        if request_id:
            turn.effect(Reply(request_id=request_id, status=200, body=body))
    elif answer.status >= 500 or answer.status in (408, 425, 429) or answer.code == "idempotency_in_progress":
        _wait(turn, message, answer.status, f"{answer.code} {answer.message}".strip())
    else:
        _refuse(turn, message, answer.status, answer.code, answer.message)


def _wait(turn: Turn, message: Message, status: int, detail: str) -> None:
    if turn.now - message.accepted_at >= outbound_message.KEEP_S:
        _refuse(turn, message, status, "expired", detail)
        return
    doublings = min(message.tries - 1, 16)
    delay = min(outbound_message.RETRY_MAX_S, outbound_message.RETRY_FIRST_S * 2**doublings)
    turn.record(
        events.MessageWaiting(status=status, detail=detail[:500], until=turn.now + delay),
        message.stream,
        message.event_id,
    )


def _refuse(turn: Turn, message: Message, status: int, code: str, detail: str) -> None:
    request_id = message.request_id if message.answer_by else ""
    reason = Reason.RECIPIENT_NOT_FOUND if status == 404 else Reason.ENGINE_ERROR
    if code == "expired":
        reason = Reason.EXPIRED
    turn.record(
        events.MessageRefused(reason=reason, status=status, code=code, detail=detail[:500]),
        message.stream,
        message.event_id,
    )
    if not request_id:
        return
    if reason is Reason.RECIPIENT_NOT_FOUND:
        text = f'Agent "{message.to}" not found' if target_type(message.to) == "agent" else f"{message.to} not found"
        error = InvalidRequest(404, "recipient_not_found", text, to=message.to)
    else:
        error = InvalidRequest(502, "engine_error", f"the engine refused the message: {code} {detail}", to=message.to)
    turn.effect(Reply(request_id=request_id, status=error.status, body=error_body(error)))


def _body(turn: Turn, message: Message, *, published: bool, message_id: str) -> dict[str, Any]:
    target = turn.state.registration_of(message.to) if target_type(message.to) == "agent" else None
    program = turn.state.workers.get(target.session_id) if target is not None else None
    body: dict[str, Any] = {
        "success": True,
        "event_id": message.event_id,
        "local": target is not None,
        "relaycast_published": published,
        "message_id": message_id or None,
        "recipient_live": None if target is None else program is not None and not program.ended,
        "targets": [target.name] if target is not None else [],
        "queued": 0,
        "rejected": [],
        "workspace_id": turn.settings.workspace_id,
        "workspace_alias": None,
        "thread_used": bool(message.thread_id and message.thread_id.isdigit()),
    }
    if target is not None:
        body["delivered"] = 1
        body["stage"] = "published" if published else "stored"
    if not published:
        body["publish_pending"] = True
    return body


def broker_started(turn: Turn) -> None:
    """Calls that were under way when the broker died are made again, with the same key."""
    for message in list(turn.state.messages.values()):
        if message.state == State.PUBLISHING:
            turn.record(
                events.MessageWaiting(status=0, detail="the broker was restarted", until=turn.now),
                message.stream,
                message.event_id,
            )


def due(turn: Turn) -> None:
    """Messages to try again, callers to answer, an identity to ask for again."""
    own = turn.state.own
    if own.until and own.until <= turn.now and not own.agent_id and not own.call_id:
        ask_own_identity(turn, own.name)
    for message in list(turn.state.messages.values()):
        if message.waits and message.until <= turn.now:
            publish(turn, message)
        if message.answer_by and message.answer_by <= turn.now:
            request_id = message.request_id
            body = _body(turn, message, published=False, message_id="")
            turn.record(events.MessageAnswered(), message.stream, message.event_id)
            turn.effect(Reply(request_id=request_id, status=200, body=body))


def deadline(state: BrokerState) -> float | None:
    """When a message or the identity needs attention next."""
    times = [message.answer_by for message in state.messages.values() if message.answer_by]
    if state.own.agent_id:
        times += [message.until for message in state.messages.values() if message.waits]
    else:
        times += [message.until for message in state.messages.values() if message.waits and message.author_id]
        if state.own.until and not state.own.call_id:
            times.append(state.own.until)
    return min(times) if times else None
