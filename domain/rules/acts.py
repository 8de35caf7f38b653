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
from typing import Any, NamedTuple

import msgspec

from relaybroker.domain import engine_status, events, replies
from relaybroker.domain.effects import EngineCall, Reply, path_segment
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import ActRequested, EngineAnswered, EngineUnanswered
from relaybroker.domain.replies import ActAnswer
from relaybroker.domain.rules import agents, reads
from relaybroker.domain.state import MARK_READ, Act, Acted
from relaybroker.domain.turn import Turn

CALL_S = 15.0
"""The engine answers an act within this time, or the caller hears that it did not."""
MAX_OPEN = 256
"""Acts that wait for the engine at once; the next one is refused with `queue_full`."""


class _Call(NamedTuple):
    """The engine's route: the arguments named in the path are put into it, `body` are those that are sent (those given)."""

    method: str
    path: str
    body: tuple[str, ...] = ()


ACTS: Mapping[str, _Call] = MappingProxyType(
    {
        "create_channel": _Call("POST", "/v1/channels", ("name", "topic")),
        "join_channel": _Call("POST", "/v1/channels/{channel}/join"),
        "set_channel_topic": _Call("PATCH", "/v1/channels/{channel}/topic", ("topic",)),
        "leave_channel": _Call("POST", "/v1/channels/{channel}/leave"),
        "invite_to_channel": _Call("POST", "/v1/channels/{channel}/invite", ("agent_name",)),
        "add_reaction": _Call("POST", "/v1/messages/{message_id}/reactions", ("emoji",)),
        "remove_reaction": _Call("DELETE", "/v1/messages/{message_id}/reactions/{emoji}"),
        "open_group": _Call("POST", "/v1/dm/group", ("participants", "name")),
        "invoke_action": _Call("POST", "/v1/actions/{action}/invoke", ("input",)),
        MARK_READ: _Call("POST", "/v1/messages/{message_id}/read"),
    }
)
"""Every act, by name."""


def requested(turn: Turn, request: ActRequested) -> None:
    """An agent wants something done. Its answer is the engine's."""
    try:
        if request.key and (known := turn.state.acted.get(_key_of(request))) is not None:
            _again(turn, request, known)
            return
        call = _checked(turn, request)
    except InvalidRequest as error:
        agents.refuse(turn, request.request_id, "act", error)
        return
    found = turn.state.acting(request.agent_id)
    stream, name, auth = (
        (turn.broker, turn.state.own.name, "own")
        if found is None
        else (found.stream, found.name, f"agent:{found.agent_id}")
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
    path, body = _rendered(call, request.arguments)
    turn.effect(
        EngineCall(
            call_id=call_id,
            method=call.method,
            path=path,
            auth=auth,
            body=body,
            timeout_s=CALL_S,
        )
    )


def _key_of(request: ActRequested) -> str:
    """A key is its agent's alone."""
    return f"agent:{request.agent_id}:{request.key}"


def _again(turn: Turn, request: ActRequested, known: Acted) -> None:
    """A key came again: what was answered is answered, and nothing is done.

    Raises:
        InvalidRequest: the key was used for something else, the engine has not answered yet, or nobody knows whether it did it.
    """
    if (known.act, known.arguments) != (request.act, dict(request.arguments)):
        raise InvalidRequest(
            Refusal.CONFLICT, "idempotency_conflict", "this idempotency key was used for something else"
        )
    if known.answer is None:
        raise InvalidRequest(Refusal.CONFLICT, "idempotency_in_progress", "the engine is being asked; ask again")
    turn.record(events.ActRepeated(key=_key_of(request), request_id=request.request_id), turn.broker)
    turn.effect(Reply(request_id=request.request_id, answer=_repeated(known.answer)))


def _repeated(answer: ActAnswer) -> ActAnswer:
    """The answer that was given before, said once more."""
    if isinstance(answer, replies.Done):
        return msgspec.structs.replace(answer, repeated=True)
    return msgspec.structs.replace(answer, about=answer.about | {"replayed": True})


def _checked(turn: Turn, request: ActRequested) -> _Call:
    if turn.state.stopping_until:
        raise InvalidRequest(Refusal.UNAVAILABLE, "shutting_down", "the broker is stopping")
    if not request.agent_id and not turn.state.own.agent_id:
        raise InvalidRequest(
            Refusal.UNAVAILABLE, "engine_unavailable", "the broker has no identity at the engine yet; try again"
        )
    if request.agent_id and turn.state.acting(request.agent_id) is None:
        raise agents.over(request.agent_id)
    call = ACTS.get(request.act)
    if call is None:
        raise InvalidRequest(Refusal.INVALID, "invalid_field", f"there is no act '{request.act[:140]}'", field="act")
    for name in _named(call):
        if name not in request.arguments or request.arguments[name] == "":
            raise InvalidRequest(Refusal.INVALID, "missing_field", f"Missing required field: {name}", field=name)
    if len(turn.state.acts) >= MAX_OPEN:
        raise InvalidRequest(Refusal.FULL, "queue_full", "too many requests wait for the engine; try again")
    return call


def _named(call: _Call) -> list[str]:
    """The arguments without which there is no call: those in the path, and the first of what is posted."""
    in_path = [part[1:-1] for part in call.path.split("/") if part.startswith("{")]
    return [*in_path, *(call.body[:1] if call.method == "POST" else ())]


def _rendered(call: _Call, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any] | None]:
    parts = [
        path_segment(arguments[part[1:-1]].removeprefix("#") if part == "{channel}" else arguments[part[1:-1]])
        if part.startswith("{")
        else part
        for part in call.path.split("/")
    ]
    body = {name: arguments[name] for name in call.body if name in arguments}
    return "/".join(parts), None if call.method == "DELETE" else body


def answered(turn: Turn, act: Act, answer: EngineAnswered | EngineUnanswered) -> None:
    """The engine answered, or did not: so is the caller told."""
    match answer:
        case EngineAnswered(status=status, code=code, message=message):
            detail = message
        case EngineUnanswered(detail=detail):
            status, code = engine_status.UNANSWERED, "engine_unavailable"
    told: ActAnswer
    if isinstance(answer, EngineAnswered) and engine_status.is_done(status):
        told = replies.Done(data=answer.data)
    else:
        told = replies.refused(engine_status.refusal_of(status, code, detail))
    turn.record(
        events.ActAnswered(
            call_id=answer.call_id,
            status=status,
            code=code,
            detail=detail[:500],
            answer=told if act.key else None,
        ),
        act.stream,
    )
    if isinstance(told, replies.Done) and act.reads and act.agent_id:
        reads.marked_here(turn, act.agent_id, act.reads)
    turn.effect(Reply(request_id=act.request_id, answer=told))


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
