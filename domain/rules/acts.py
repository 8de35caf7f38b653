"""What an agent does at the engine in its own name, besides sending: channels that it makes, joins and leaves, reactions, read marks.

Rules:

* An agent acts only while its registration lives, as itself: the call carries its token and nobody else's.
* Every act is in the log before the engine is asked, and so is the engine's answer, before the caller has it.
* Nothing is tried again here. Each act may be asked for again by whoever lost the answer: done twice it is the same as done once.
* A broker that dies while the engine is asked says so in the log when it is back; the caller had no answer.

Source: spec/conversation.md section 1; spec/engine-contract.md section 2.4; ADR-0048.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from relaybroker.domain import engine_requests, engine_status, events, replies
from relaybroker.domain.effects import EngineCall, Reply
from relaybroker.domain.engine_requests import EngineRequest
from relaybroker.domain.entities import Act
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import ActRequested, EngineAnswered, EngineUnanswered
from relaybroker.domain.rules import agents, channels
from relaybroker.domain.state import MEMBERSHIP_ACTS
from relaybroker.domain.turn import Turn

CALL_S = 15.0
"""The engine answers an act within this time, or the caller hears that it did not."""
MAX_OPEN = 256
"""Acts that wait for the engine at once; the next one is refused with `queue_full`."""


_Act = (
    type[engine_requests.CreateChannel]
    | type[engine_requests.JoinChannel]
    | type[engine_requests.LeaveChannel]
    | type[engine_requests.InviteToChannel]
    | type[engine_requests.AddReaction]
    | type[engine_requests.RemoveReaction]
    | type[engine_requests.MarkRead]
)
ACTS: Mapping[str, _Act] = MappingProxyType(
    {
        "create_channel": engine_requests.CreateChannel,
        "join_channel": engine_requests.JoinChannel,
        "leave_channel": engine_requests.LeaveChannel,
        "invite_to_channel": engine_requests.InviteToChannel,
        "add_reaction": engine_requests.AddReaction,
        "remove_reaction": engine_requests.RemoveReaction,
        "mark_message_read": engine_requests.MarkRead,
    }
)
"""Every act, by name; its arguments are the fields of the request."""


def requested(turn: Turn, request: ActRequested) -> None:
    """An agent wants something done. Its answer is the engine's."""
    try:
        wanted = _checked(turn, request)
    except InvalidRequest as error:
        agents.refuse(turn, request.request_id, "act", error)
        return
    found = turn.state.acting(request.agent_id)
    assert found is not None, "checked above"
    call_id = f"act_{turn.fresh('act')}"
    turn.record(
        events.ActAsked(
            call_id=call_id, act=request.act, arguments=dict(request.arguments), request_id=request.request_id
        ),
        found.stream,
        found.name,
    )
    turn.effect(EngineCall(call_id=call_id, request=wanted, auth=f"agent:{found.agent_id}", timeout_s=CALL_S))


def _checked(turn: Turn, request: ActRequested) -> EngineRequest:
    if turn.state.stopping_until:
        raise InvalidRequest(Refusal.UNAVAILABLE, "shutting_down", "the broker is stopping")
    if turn.state.acting(request.agent_id) is None:
        raise agents.over(request.agent_id)
    act = ACTS.get(request.act)
    if act is None:
        raise InvalidRequest(Refusal.INVALID, "invalid_field", f"there is no act '{request.act[:140]}'", field="act")
    given: dict[str, str] = {}
    for field in msgspec.structs.fields(act):
        given[field.name] = request.arguments.get(field.name, "")
        if field.required and not given[field.name]:
            raise InvalidRequest(
                Refusal.INVALID, "missing_field", f"Missing required field: {field.name}", field=field.name
            )
    if "channel" in given:
        given["channel"] = given["channel"].removeprefix("#")
    if len(turn.state.acts) >= MAX_OPEN:
        raise InvalidRequest(Refusal.FULL, "queue_full", "too many requests wait for the engine; try again")
    return act(**given)


def answered(turn: Turn, act: Act, answer: EngineAnswered | EngineUnanswered) -> None:
    """The engine answered, or did not: so is the caller told."""
    match answer:
        case EngineAnswered(status=status, code=code, message=message):
            detail = message
        case EngineUnanswered(detail=detail):
            status, code = engine_status.UNANSWERED, "engine_unavailable"
    turn.record(
        events.ActAnswered(
            call_id=answer.call_id, status=status, code=code, detail=detail[:500], **_moved(turn, act, status)
        ),
        act.stream,
    )
    if isinstance(answer, EngineAnswered) and engine_status.is_done(status):
        turn.effect(Reply(request_id=act.request_id, answer=replies.Done(data=answer.data)))
        return
    turn.effect(agents.refusal(act.request_id, engine_status.refusal_of(status, code, detail)))


def _moved(turn: Turn, act: Act, status: int) -> dict[str, str]:
    """Which membership really changes by the answer."""
    found = turn.state.registrations.get(act.stream)
    if found is None or not act.channel or act.act not in MEMBERSHIP_ACTS or not engine_status.is_done(status):
        return {}
    known = {channel.lower() for channel in channels.joined(found, turn.settings)}
    is_member = act.channel.lower() in known
    if act.act == "leave_channel":
        return {"left": act.channel} if is_member else {}
    return {} if is_member else {"joined": act.channel}


def broker_started(turn: Turn) -> None:
    """Whoever asked the broker that died has no answer and will get none."""
    for call_id, act in list(turn.state.acts.items()):
        turn.record(
            events.ActAnswered(
                call_id=call_id,
                status=engine_status.UNANSWERED,
                code="broker_restarted",
                detail="the broker was restarted",
            ),
            act.stream,
        )
