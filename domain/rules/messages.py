"""Decisions about messages that people and agents send through the local API, and about the broker's own identity.

Every message goes to the engine as its true sender, once, with an idempotency key; local recipients get it back from there like everybody
else, unless the engine cannot be reached (ADR-0090, domain/rules/local_first.py).

Source: spec/local-api.md section 6.1; scenarios F034, F037, F039, F061; ADR-0031.
"""

from __future__ import annotations

import msgspec

from relaybroker.domain import couplings, engine_status, events
from relaybroker.domain import message as message_machine
from relaybroker.domain.delivery import MAX_BODY_BYTES, MAX_FLUSHABLE, MAX_WAITING
from relaybroker.domain.effects import EngineCall
from relaybroker.domain.engine_requests import (
    PostToChannel,
    PostToConversation,
    RegisterSelf,
    ReplyInThread,
    SendDirect,
)
from relaybroker.domain.entities import Message
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import EngineAnswered, EngineUnanswered, SendRequested
from relaybroker.domain.message import target_type
from relaybroker.domain.names import nearest_names
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import agents, holds, local_first, message_order, send_answers, undelivered
from relaybroker.domain.state import State as BrokerState
from relaybroker.domain.turn import Turn

OWN_RETRY_S = 5.0
_LABELS = {0: "urgent", 1: "high"}
"""What the readers of a message are told of its priority, in the engine's words (its numbers run the other way)."""
_NO_THREAD = "message_not_found"
_OWN_SENDERS = ("", "dashboard", "human:dashboard", "human:orchestrator")


# --- the broker's own identity ----------------------------------------------------------------------------------------------


def ask_own_identity(turn: Turn, name: str) -> None:
    """Register the broker itself, so that it can publish what people send."""
    call_id = f"own_{turn.fresh('own')}"
    turn.record(events.OwnIdentityRequested(call_id=call_id, name=name), turn.broker)
    turn.effect(
        EngineCall(
            call_id=call_id,
            request=RegisterSelf(name=name),
            auth="workspace",
            capture="own",
        )
    )


def own_answered(turn: Turn, answer: EngineAnswered | EngineUnanswered) -> None:
    """The engine answered. A taken name belongs to somebody else: the broker takes another, it never takes over."""
    own = turn.state.own
    if isinstance(answer, EngineUnanswered):
        _own_refused(turn, engine_status.UNANSWERED, "", answer.detail, turn.now + OWN_RETRY_S)
        return
    data = answer.data if isinstance(answer.data, dict) else {}
    if engine_status.is_done(answer.status) and data.get("id"):
        turn.record(events.OwnIdentityGranted(agent_id=str(data["id"]), name=own.name), turn.broker)
        _go_on(turn)
    elif engine_status.is_taken(answer.status):
        name = f"{turn.settings.broker_name}-{turn.fresh('own-name')[:6]}"
        _own_refused(turn, answer.status, answer.code, f"the name {own.name} is taken", turn.now + OWN_RETRY_S)
        ask_own_identity(turn, name)
    else:
        again = turn.now + OWN_RETRY_S if engine_status.may_pass(answer.status) else 0.0
        _own_refused(turn, answer.status, answer.code, answer.message, again)


def _own_refused(turn: Turn, status: int, code: str, detail: str, until: float) -> None:
    turn.record(events.OwnIdentityRefused(status=status, code=code, detail=detail[:500], until=until), turn.broker)


# --- messages -------------------------------------------------------------------------------------------------------------------


def send_requested(turn: Turn, request: SendRequested) -> None:
    """Take a message on, durably, and start to publish it."""
    try:
        request = _as_agent(turn, request)
        if request.key and (known := turn.state.sends.get(request.key)) is not None:
            send_answers.again(turn, request, known)
            return
        _check(turn, request)
    except InvalidRequest as error:
        error.extra.setdefault("to", request.to)
        agents.refuse(turn, request.request_id, "send", error)
        return
    event_id = f"http_{turn.fresh('message')}"
    stream = f"message:{event_id}"
    author = turn.state.registration_of(request.sender)
    thread_id = _thread_of(turn, request)
    to = local_first.place_of(request.to.removeprefix("@"), thread_id)
    turn.record(
        events.MessageAccepted(
            event_id=event_id,
            request_id=request.request_id,
            to=to,
            text=request.text,
            sender=request.sender,
            author_id=author.agent_id if author is not None else "",
            answer_by=turn.now + message_machine.ANSWER_S,
            thread_id=thread_id,
            mode=request.mode,
            data=request.data,
            attachments=request.attachments,
            key=request.key,
            fingerprint=send_answers.fingerprint(request) if request.key else "",
            priority=request.priority if isinstance(request.priority, int) else None,
            strict=request.strict is True,
            recipient_id=local_first.recipient_of(turn, author, to, thread_id),
        ),
        stream,
        event_id,
    )
    _go_on(turn)


def _thread_of(turn: Turn, request: SendRequested) -> str:
    """The thread of an answer, by the id that the engine knows if it knows one."""
    if not turn.settings.local_first:
        return request.thread_id
    thread_id = local_first.thread_at_engine(turn.state, request.thread_id)
    assert thread_id is not None, "it was checked"
    return thread_id


def _as_agent(turn: Turn, request: SendRequested) -> SendRequested:
    """The request of an agent as that agent's: under its name, with keys that only it has; any other request as it is."""
    if not isinstance(request.agent_id, str):
        return request
    registration = turn.state.acting(request.agent_id)
    if registration is None:
        raise agents.over(request.agent_id)
    key = f"agent:{request.agent_id}:{request.key}" if request.key else ""
    return msgspec.structs.replace(request, sender=registration.name, key=key)


def _check(turn: Turn, request: SendRequested) -> None:
    if turn.state.stopping_until:
        raise InvalidRequest(Refusal.UNAVAILABLE, "shutting_down", "the broker is stopping")
    if not request.to.strip() or not request.text.strip():
        raise InvalidRequest(Refusal.INVALID, "missing_field", "Missing required fields: to, message")
    if len(request.text.encode()) > MAX_BODY_BYTES:
        text = f"a message has at most {MAX_BODY_BYTES // 1024} KiB; nothing was sent"
        raise InvalidRequest(Refusal.TOO_LARGE, "body_too_large", text, field="text")
    if request.strict is True:
        _check_names(turn, request)
    threaded = message_machine.is_message_id(request.thread_id)
    if request.attachments and threaded:
        raise InvalidRequest(
            Refusal.NOT_BUILT, "not_implemented", "the engine takes no attachments with replies", field="attachments"
        )
    if request.data and target_type(request.to.removeprefix("@")) != "channel" and not threaded:
        raise InvalidRequest(
            Refusal.NOT_BUILT, "not_implemented", "the engine takes no data with direct messages", field="data"
        )
    if len(turn.state.messages) >= message_machine.MAX_OPEN:
        raise InvalidRequest(Refusal.FULL, "queue_full", "too many messages wait to be published; send again later")
    _check_thread(turn, request)
    _check_quota(turn, request)
    _check_place(turn, request.to.removeprefix("@"))
    send_answers.check_room(turn, request.key)


def _check_quota(turn: Turn, request: SendRequested) -> None:
    """Raise InvalidRequest if an agent has as many messages open as one may: the others must have room, too."""
    if len(turn.state.messages) < message_machine.MAX_OPEN_OF_AGENT or not isinstance(request.agent_id, str):
        return
    mine = sum(1 for one in turn.state.messages.values() if one.author_id == request.agent_id)
    if mine >= message_machine.MAX_OPEN_OF_AGENT:
        text = f"{mine} messages of yours wait to be published, and one agent may have no more; send again later"
        raise InvalidRequest(Refusal.FULL, "sender_quota", text)


def _check_names(turn: Turn, request: SendRequested) -> None:
    """A sender that does not live here, and a thread that is none, are refused: nothing goes out as somebody else's or elsewhere."""
    sender = request.sender
    is_own = sender.lower() in (*_OWN_SENDERS, turn.state.own.name.lower())
    if not is_own and turn.state.registration_of(sender) is None:
        here = [registration.name for registration in turn.state.live_registrations()]
        nearest = nearest_names(sender, here)
        hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
        text = f"no agent '{sender[:140]}' lives here{hint}. Nothing was sent."
        raise InvalidRequest(Refusal.ABSENT, "sender_not_found", text, field="from", nearest=nearest)
    if request.thread_id and not message_machine.is_message_id(request.thread_id):
        text = f"'{request.thread_id[:140]}' is no id of a message. Nothing was sent."
        raise InvalidRequest(Refusal.ABSENT, "message_not_found", text, field="thread")


def _check_thread(turn: Turn, request: SendRequested) -> None:
    """Raise InvalidRequest if a message is to be answered that is not kept here and was never published from here."""
    if turn.settings.local_first and local_first.thread_at_engine(turn.state, request.thread_id) is None:
        text = f"there is no message {request.thread_id[:140]} to reply to. Nothing was sent."
        raise InvalidRequest(Refusal.ABSENT, "message_not_found", text, field="thread")


def _check_place(turn: Turn, to: str) -> None:
    """Raise InvalidRequest if the message is for a local agent alone that has no place for one more, with those on their way to it."""
    registration = turn.state.registration_of(to) if target_type(to) == "agent" else None
    program = turn.state.workers.get(registration.session_id) if registration is not None else None
    if not turn.settings.checks_places or program is None or program.ended:
        return
    coming = sum(1 for one in turn.state.messages.values() if one.to.lower() == to.lower() and not one.early)
    held = turn.state.is_flushed_by_hand(program.name)
    waiting = len(holds.held(turn.state, program)) if held else len(program.waiting)
    if waiting + coming >= (MAX_FLUSHABLE if held else MAX_WAITING):
        text = f"'{program.name}' has {waiting} messages waiting and takes no more; send again later"
        rejected = [{"name": program.name, "code": "queue_full"}]
        raise InvalidRequest(Refusal.FULL, "queue_full", text, to=to, rejected=rejected)


def _go_on(turn: Turn) -> None:
    """Give the engine whatever may go to it now."""
    for message in message_order.next_ones(turn.state, turn.now):
        _publish(turn, message)


def _publish(turn: Turn, message: Message) -> None:
    call_id = f"publish_{message.event_id}_{message.tries + 1}"
    turn.record(events.MessagePublishing(call_id=call_id, tries=message.tries + 1), message.stream, message.event_id)
    auth = f"agent:{message.author_id}" if message.author_id else "own"
    turn.effect(EngineCall(call_id=call_id, request=_request(message), auth=auth))


def _request(message: Message) -> PostToChannel | PostToConversation | ReplyInThread | SendDirect:
    data = dict(message.data or {})
    if message.priority in _LABELS:
        data.setdefault("priority", _LABELS[message.priority])
    if not message.author_id and message.sender.lower() not in _OWN_SENDERS:
        data.setdefault("from", message.sender)
    text, mode, attachments = message.text, message.mode, message.attachments
    key = f"{message.event_id}_plain" if message.unthreaded else message.event_id
    if message_machine.is_engine_id(message.thread_id):
        return ReplyInThread(message_id=message.thread_id, text=text, data=data, key=key)
    match target_type(message.to):
        case "channel":
            channel = message.to.removeprefix("#")
            return PostToChannel(channel=channel, text=text, mode=mode, data=data, attachments=attachments, key=key)
        case "conversation":
            return PostToConversation(conversation=message.to, text=text, mode=mode, attachments=attachments, key=key)
        case _:
            return SendDirect(to=message.to, text=text, mode=mode, attachments=attachments, key=key)


def answered(turn: Turn, message: Message, answer: EngineAnswered | EngineUnanswered) -> None:
    """The engine answered, or did not: published, refused, or tried again. Then those behind it go on."""
    if isinstance(answer, EngineUnanswered):
        _wait(turn, message, engine_status.UNANSWERED, answer.detail)
    else:
        _settle(turn, message, answer)
    _go_on(turn)


def _settle(turn: Turn, message: Message, answer: EngineAnswered) -> None:
    data = answer.data if isinstance(answer.data, dict) else {}
    if engine_status.is_done(answer.status):
        message_id = str(data.get("id") or (data.get("message") or {}).get("id") or "")
        send_answers.published(turn, message, message_id)
        turn.record(events.MessagePublished(message_id=message_id), message.stream, message.event_id)
        local_first.published(turn, message, message_id)
    elif engine_status.may_pass(answer.status) or answer.code == "idempotency_in_progress":
        _wait(turn, message, answer.status, f"{answer.code} {answer.message}".strip())
    elif (
        engine_status.is_absent(answer.status)
        and message_machine.is_engine_id(message.thread_id)
        and target_type(message.to) != "thread"
        and not message.strict
    ):
        turn.record(
            events.MessageUnthreaded(
                thread_id=message.thread_id, detail=f"{answer.code} {answer.message}".strip()[:500]
            ),
            message.stream,
            message.event_id,
        )
    else:
        _refuse(turn, message, answer.status, answer.code, answer.message)


def _wait(turn: Turn, message: Message, status: int, detail: str) -> None:
    if turn.now - message.accepted_at >= message_machine.KEEP_S:
        _refuse(turn, message, status, "expired", detail)
        return
    doublings = min(message.tries - 1, 16)
    delay = min(message_machine.RETRY_MAX_S, message_machine.RETRY_FIRST_S * 2**doublings)
    turn.record(
        events.MessageWaiting(status=status, detail=detail[:500], until=turn.now + delay),
        message.stream,
        message.event_id,
    )


def _refuse(turn: Turn, message: Message, status: int, code: str, detail: str) -> None:
    is_absent = engine_status.is_absent(status) or code == _NO_THREAD
    reason = Reason.RECIPIENT_NOT_FOUND if is_absent else Reason.ENGINE_ERROR
    if code == "expired":
        reason = Reason.EXPIRED
    undelivered.refused_late(turn, message, reason)
    send_answers.refused(turn, message, reason, code, detail)
    turn.record(
        events.MessageRefused(reason=reason, status=status, code=code, detail=detail[:500]),
        message.stream,
        message.event_id,
    )
    local_first.refused(turn, message)
    for answer in local_first.unpublished_answers(turn.state, message):
        _refuse(turn, answer, engine_status.UNANSWERED, _NO_THREAD, "the message that it answers was not published")


def broker_started(turn: Turn) -> None:
    """Calls that were under way when the broker died are made again, with the same key."""
    for message in list(turn.state.messages.values()):
        if couplings.BROKER_REPEATS_MESSAGE.concerns(message.state):
            turn.record(
                events.MessageWaiting(
                    status=engine_status.UNANSWERED, detail="the broker was restarted", until=turn.now
                ),
                message.stream,
                message.event_id,
            )


def due(turn: Turn) -> None:
    """Messages to try again, callers to answer, an identity to ask for again."""
    own = turn.state.own
    if own.until and own.until <= turn.now and not own.agent_id and not own.call_id:
        ask_own_identity(turn, own.name)
    _go_on(turn)
    for message in list(turn.state.messages.values()):
        if message.answer_by and message.answer_by <= turn.now:
            send_answers.pending(turn, message)


def stopping(turn: Turn) -> None:
    """Whoever waits hears that the message is stored: it goes out in this run or the next."""
    for message in turn.state.messages.values():
        if message.answer_by:
            send_answers.pending(turn, message)


def deadline(state: BrokerState) -> float | None:
    """When a message or the identity needs attention next."""
    times = [message.answer_by for message in state.messages.values() if message.answer_by]
    if (when := message_order.deadline(state)) is not None:
        times.append(when)
    if state.own.until and not state.own.agent_id and not state.own.call_id:
        times.append(state.own.until)
    return min(times) if times else None
