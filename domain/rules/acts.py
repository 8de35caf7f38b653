"""What an agent does at the engine in its own name, besides sending: channels that it makes, joins and leaves, reactions, read marks.

Rules:

* The operator acts as the broker's own identity (no agent id), on the broker's stream.
* An agent acts only while its registration lives, as itself: the call carries its token and nobody else's.
* Every act is in the log before the engine is asked, and so is the engine's answer, before the caller has it.
* Nothing is tried again here. Each act may be asked for again by whoever lost the answer: done twice it is the same as done once.
* A broker that dies while the engine is asked says so in the log when it is back; the caller had no answer.

Source: spec/conversation.md section 1; spec/engine-contract.md section 2.4; ADR-0048.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from relaybroker.domain import events
from relaybroker.domain.effects import EngineCall, Reply, path_segment
from relaybroker.domain.errors import InvalidRequest
from relaybroker.domain.inputs import ActRequested, EngineAnswered, EngineUnanswered
from relaybroker.domain.rules import agents, reads
from relaybroker.domain.state import MARK_READ, Act
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
        "leave_channel": _Call("POST", "/v1/channels/{channel}/leave"),
        "invite_to_channel": _Call("POST", "/v1/channels/{channel}/invite", ("agent_name",)),
        "add_reaction": _Call("POST", "/v1/messages/{message_id}/reactions", ("emoji",)),
        "remove_reaction": _Call("DELETE", "/v1/messages/{message_id}/reactions/{emoji}"),
        MARK_READ: _Call("POST", "/v1/messages/{message_id}/read"),
    }
)
"""Every act, by name."""


def requested(turn: Turn, request: ActRequested) -> None:
    """An agent wants something done. Its answer is the engine's."""
    try:
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
            call_id=call_id, act=request.act, arguments=dict(request.arguments), request_id=request.request_id
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


def _checked(turn: Turn, request: ActRequested) -> _Call:
    if turn.state.stopping_until:
        raise InvalidRequest(503, "shutting_down", "the broker is stopping")
    if not request.agent_id and not turn.state.own.agent_id:
        raise InvalidRequest(503, "engine_unavailable", "the broker has no identity at the engine yet; try again")
    if request.agent_id and turn.state.acting(request.agent_id) is None:
        raise agents.over(request.agent_id)
    call = ACTS.get(request.act)
    if call is None:
        raise InvalidRequest(400, "invalid_field", f"there is no act '{request.act[:140]}'", field="act")
    for name in _named(call):
        if not request.arguments.get(name, ""):
            raise InvalidRequest(400, "missing_field", f"Missing required field: {name}", field=name)
    if len(turn.state.acts) >= MAX_OPEN:
        raise InvalidRequest(429, "queue_full", "too many requests wait for the engine; try again")
    return call


def _named(call: _Call) -> list[str]:
    """The arguments without which there is no call: those in the path, and the first of the body."""
    in_path = [part[1:-1] for part in call.path.split("/") if part.startswith("{")]
    return [*in_path, *call.body[:1]]


def _rendered(call: _Call, arguments: Mapping[str, str]) -> tuple[str, dict[str, Any] | None]:
    parts = [
        path_segment(arguments[part[1:-1]].removeprefix("#") if part == "{channel}" else arguments[part[1:-1]])
        if part.startswith("{")
        else part
        for part in call.path.split("/")
    ]
    body = {name: arguments[name] for name in call.body if arguments.get(name)}
    return "/".join(parts), body if call.method == "POST" else None


def answered(turn: Turn, act: Act, answer: EngineAnswered | EngineUnanswered) -> None:
    """The engine answered, or did not: so is the caller told."""
    match answer:
        case EngineAnswered(status=status, code=code, message=message):
            detail = message
        case EngineUnanswered(detail=detail):
            status, code = 0, "engine_unavailable"
    turn.record(events.ActAnswered(call_id=answer.call_id, status=status, code=code, detail=detail[:500]), act.stream)
    if isinstance(answer, EngineAnswered) and 200 <= status < 300:
        if act.reads and act.agent_id:
            reads.marked_here(turn, act.agent_id, act.reads)
        turn.effect(Reply(request_id=act.request_id, status=200, body={"success": True, "data": answer.data}))
        return
    turn.effect(agents.refusal(act.request_id, refusal_of(status, code, detail)))


def refusal_of(status: int, code: str, detail: str) -> InvalidRequest:
    """The local refusal for what the engine said: its own code where the caller can do something about it."""
    if status == 0:
        return InvalidRequest(503, "engine_unavailable", f"the engine does not answer: {detail}; try again")
    if 400 <= status < 500 and status != 401:
        return InvalidRequest(status, code or "engine_error", detail or f"the engine refused it with {status}")
    return InvalidRequest(502, "engine_error", f"the engine refused it: {status} {code} {detail}".strip())


def broker_started(turn: Turn) -> None:
    """Whoever asked the broker that died has no answer and will get none."""
    for call_id, act in list(turn.state.acts.items()):
        turn.record(
            events.ActAnswered(call_id=call_id, status=0, code="broker_restarted", detail="the broker was restarted"),
            act.stream,
        )
