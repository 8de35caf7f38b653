"""What an agent does at the engine in its own name, besides sending: channels that it makes, joins and leaves, reactions, read marks.

Rules:

* The operator acts as the broker's own identity (no agent id), on the broker's stream.
* An agent acts only while its registration lives, as itself: the call carries its token and nobody else's.
* Every act is in the log before the engine is asked, and so is the engine's answer, before the caller has it.
* Nothing is tried again here. Whoever lost the answer asks again with the same key, and gets it; without a key an act is done again,
  which is the same as done once for all but `invoke_action`.
* A broker that dies while the engine is asked says so in the log when it is back; the caller had no answer.

Source: spec/conversation.md section 1; spec/engine-contract.md section 2.4; ADR-0048.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from relaybroker.domain import engine_requests, engine_status, events, replies
from relaybroker.domain.effects import EngineCall, Reply
from relaybroker.domain.engine_requests import EngineRequest
from relaybroker.domain.entities import MARK_READ, Act, Acted
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import ActRequested, EngineAnswered, EngineUnanswered
from relaybroker.domain.replies import ActAnswer
from relaybroker.domain.rules import agents, channels, keys, reads
from relaybroker.domain.state import MEMBERSHIP_ACTS
from relaybroker.domain.turn import Turn

CALL_S = 15.0
"""The engine answers an act within this time, or the caller hears that it did not."""
MAX_OPEN = 256
"""Acts that wait for the engine at once; the next one is refused with `queue_full`."""


_Act = (
    type[engine_requests.CreateChannel]
    | type[engine_requests.JoinChannel]
    | type[engine_requests.SetTopic]
    | type[engine_requests.LeaveChannel]
    | type[engine_requests.InviteToChannel]
    | type[engine_requests.AddReaction]
    | type[engine_requests.RemoveReaction]
    | type[engine_requests.OpenGroup]
    | type[engine_requests.InvokeAction]
    | type[engine_requests.MarkRead]
)
ACTS: Mapping[str, _Act] = MappingProxyType(
    {
        "create_channel": engine_requests.CreateChannel,
        "join_channel": engine_requests.JoinChannel,
        "set_channel_topic": engine_requests.SetTopic,
        "leave_channel": engine_requests.LeaveChannel,
        "invite_to_channel": engine_requests.InviteToChannel,
        "add_reaction": engine_requests.AddReaction,
        "remove_reaction": engine_requests.RemoveReaction,
        "open_group": engine_requests.OpenGroup,
        "invoke_action": engine_requests.InvokeAction,
        MARK_READ: engine_requests.MarkRead,
    }
)
"""Every act, by name; its arguments are the fields of the request."""


def requested(turn: Turn, request: ActRequested) -> None:
    """An agent wants something done. Its answer is the engine's."""
    try:
        if request.key and (known := turn.state.acted.get(_key_of(request))) is not None:
            _again(turn, request, known)
            return
        wanted = _checked(turn, request)
    except InvalidRequest as error:
        agents.refuse(turn, request.request_id, "act", error)
        return
    registration = turn.state.acting(request.agent_id)
    stream, name, auth = (
        (turn.broker, turn.state.own.name, "own")
        if registration is None
        else (registration.stream, registration.name, f"agent:{registration.agent_id}")
    )
    call_id = f"act_{turn.fresh('act')}"
    turn.record(
        events.ActAsked(
            call_id=call_id,
            act=request.act,
            arguments=dict(request.arguments),
            request_id=request.request_id,
            key=_key_of(request) if request.key else "",
        ),
        stream,
        name,
    )
    turn.effect(EngineCall(call_id=call_id, request=wanted, auth=auth, timeout_s=CALL_S))


def _key_of(request: ActRequested) -> str:
    """A key is its agent's alone."""
    return f"agent:{request.agent_id}:{request.key}"


def _again(turn: Turn, request: ActRequested, known: Acted) -> None:
    """A key came again: what was answered is answered, and nothing is done.

    Raises:
        InvalidRequest: the key was used for something else, the engine has not answered yet, or nobody knows whether it did it.
    """
    keys.check_same((known.act, known.arguments), (request.act, dict(request.arguments)), "something else")
    if known.answer is None:
        raise InvalidRequest(Refusal.CONFLICT, "idempotency_in_progress", "the engine is being asked; ask again")
    turn.record(events.ActRepeated(key=_key_of(request), request_id=request.request_id), turn.broker)
    turn.effect(Reply(request_id=request.request_id, answer=keys.repeated(known.answer)))


def _checked(turn: Turn, request: ActRequested) -> EngineRequest:
    if turn.state.stopping_until:
        raise InvalidRequest(Refusal.UNAVAILABLE, "shutting_down", "the broker is stopping")
    if not request.agent_id and not turn.state.own.agent_id:
        raise InvalidRequest(
            Refusal.UNAVAILABLE, "engine_unavailable", "the broker has no identity at the engine yet; try again"
        )
    if request.agent_id and turn.state.acting(request.agent_id) is None:
        raise agents.over(request.agent_id)
    act = ACTS.get(request.act)
    if act is None:
        raise InvalidRequest(Refusal.INVALID, "invalid_field", f"there is no act '{request.act[:140]}'", field="act")
    given = _given(act, request.arguments)
    if len(turn.state.acts) >= MAX_OPEN:
        raise InvalidRequest(Refusal.FULL, "queue_full", "too many requests wait for the engine; try again")
    return act(**given)


def _given(act: _Act, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request as they were given; only a field with a default may be left out, and only a topic may be empty."""
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(act):
        value = arguments.get(field.name)
        if field.required and (value is None or (value == "" and field.name != "topic")):
            raise InvalidRequest(
                Refusal.INVALID, "missing_field", f"Missing required field: {field.name}", field=field.name
            )
        if value is not None:
            given[field.name] = value.removeprefix("#") if field.name == "channel" else value
    return given


def answered(turn: Turn, act: Act, answer: EngineAnswered | EngineUnanswered) -> None:
    """The engine answered, or did not: so is the caller told."""
    match answer:
        case EngineAnswered(status=status, code=code, message=message):
            detail = message
        case EngineUnanswered(detail=detail):
            status, code = engine_status.UNANSWERED, "engine_unavailable"
    reply: ActAnswer
    if isinstance(answer, EngineAnswered) and engine_status.is_done(status):
        reply = replies.Done(data=answer.data)
    else:
        reply = replies.refused(engine_status.refusal_of(status, code, detail))
    turn.record(
        events.ActAnswered(
            call_id=answer.call_id,
            status=status,
            code=code,
            detail=detail[:500],
            answer=reply if act.key else None,
            **_moved(turn, act, status),
        ),
        act.stream,
    )
    if isinstance(reply, replies.Done) and act.reads and act.agent_id:
        reads.marked_here(turn, act.agent_id, act.reads)
    turn.effect(Reply(request_id=act.request_id, answer=reply))


def _moved(turn: Turn, act: Act, status: int) -> dict[str, str]:
    """Which membership really changes by the answer."""
    registration = turn.state.registrations.get(act.stream)
    if registration is None or not act.channel or act.act not in MEMBERSHIP_ACTS or not engine_status.is_done(status):
        return {}
    known = {channel.lower() for channel in channels.joined(registration, turn.settings)}
    is_member = act.channel.lower() in known
    if act.act == "leave_channel":
        return {"left": act.channel} if is_member else {}
    return {} if is_member else {"joined": act.channel}


def broker_started(turn: Turn) -> None:
    """Whoever asked the broker that died has no answer; whether the engine did it is not known, and said to who asks again."""
    for call_id, act in list(turn.state.acts.items()):
        unknown = InvalidRequest(
            Refusal.CONFLICT, "outcome_unknown", "the broker was restarted meanwhile; whether it was done is not known"
        )
        turn.record(
            events.ActAnswered(
                call_id=call_id,
                status=engine_status.UNANSWERED,
                code="broker_restarted",
                detail="the broker was restarted",
                answer=replies.refused(unknown) if act.key else None,
            ),
            act.stream,
        )
