"""Registration over HTTP: for a frame that got no answer, for names that the engine only creates, and for a token that was brought along.

Steps, each one call: `create` the agent; if the name exists, `look` whose it is and `take_over` with proof that it is ours or nobody's;
then `bind` it to this node. An agent that is not bound is unreachable: that spawn has failed.

An older engine has no takeover, which would check the proof: there the broker `rotate`s the token. That it had the agent once is not enough
for this, another node may run it by now: it `locate`s the agent among those of this node, or looks that nobody runs it.

Source: spec/node-protocol.md sections 2.13 and 3.4; F062, F066 to F068; ADR-0024.
"""

from __future__ import annotations

from typing import Any

from relaybroker.domain import agent as agent_machine
from relaybroker.domain import engine_requests, engine_status, events
from relaybroker.domain.agent import AgentState
from relaybroker.domain.effects import EngineCall
from relaybroker.domain.engine_requests import EngineRequest
from relaybroker.domain.entities import Registration
from relaybroker.domain.inputs import EngineAnswered, EngineUnanswered
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import agent_outcome
from relaybroker.domain.state import State as BrokerState
from relaybroker.domain.turn import Turn

CREATE, LOOK, TAKE_OVER, ROTATE, BIND = "create", "look", "take_over", "rotate", "bind"
LOCATE = "locate"
_ABSENT = ("offline", "released", "archived")
"""Engine states of an agent that nobody runs; every other one counts as live."""


def begin(turn: Turn, registration: Registration, reason: Reason, detail: str, *, exists: bool = False) -> None:
    """Go on over HTTP. `exists`: the engine said that it has an agent of this name already."""
    own = _own_agent_id(turn.state, registration.name)
    step = CREATE if not exists else TAKE_OVER if own else LOOK
    turn.record(
        events.RegistrationFellBack(reason=reason, detail=detail[:500], step=step),
        registration.stream,
        registration.name,
    )
    if turn.state.link.register_pause_until > turn.now:
        agent_outcome.fail(
            turn, registration, Reason.ENGINE_UNAVAILABLE, "rate_limited", "the engine asked for a pause"
        )
    else:
        _call(turn, registration, step, agent_id=own)


def bind_supplied(turn: Turn, registration: Registration, fingerprint: str) -> None:
    """The caller brought the agent's token: nothing is registered, which would rotate it; the agent is only bound."""
    turn.record(events.AgentBinding(agent_id="", fingerprint=fingerprint), registration.stream, registration.name)
    _call(turn, registration, BIND)


def _own_agent_id(state: BrokerState, name: str) -> str:
    """The agent id that this node had under a name last; "" if the log shows none. A frame that came for one is no proof."""
    return next((box.agent_id for box in reversed(state.mailboxes.values()) if box.name == name and box.generation), "")


def _call(turn: Turn, registration: Registration, step: str, *, agent_id: str = "") -> None:
    call_id = f"register_{turn.fresh(step)}"
    tries = registration.tries + 1 if registration.step == step and registration.tries else 1
    turn.record(
        events.RegistrationCalled(step=step, call_id=call_id, tries=tries), registration.stream, registration.name
    )
    request = _request(turn, registration, step, agent_id)
    supplied = registration.spec.supplied_token if step == BIND else ""
    capture = f"agent:{agent_id}" if agent_id else f"supplied:{supplied}" if supplied else ""
    turn.effect(
        EngineCall(
            call_id=call_id,
            request=request,
            auth="workspace",
            capture=capture,
            timeout_s=agent_machine.HTTP_TRY_S,
        )
    )


def _request(turn: Turn, registration: Registration, step: str, agent_id: str) -> EngineRequest:
    name, session_ref = registration.name, registration.spec.session_ref
    match step:
        case "create":
            return engine_requests.CreateAgent(name=name)
        case "look":
            return engine_requests.LookUpAgent(name=name)
        case "locate":
            return engine_requests.ListNodeAgents(node_name=turn.state.node_name)
        case "take_over":
            return engine_requests.TakeOverAgent(
                name=name,
                agent_id=agent_id,
                actor=turn.settings.broker_name,
                node_id=turn.settings.node_id,
                session_ref=session_ref,
            )
        case "rotate":
            return engine_requests.RotateToken(name=name)
        case _:
            return engine_requests.BindAgent(node_name=turn.state.node_name, name=name, session_ref=session_ref)


def answered(turn: Turn, registration: Registration, answer: EngineAnswered | EngineUnanswered) -> None:
    """The engine answered the call that is under way, or did not."""
    if isinstance(answer, EngineUnanswered):
        _again(turn, registration, engine_status.UNANSWERED, answer.detail)
        return
    data: dict[str, Any] = answer.data if isinstance(answer.data, dict) else {}
    said = f"{answer.code} {answer.message}".strip()
    if engine_status.asks_for_a_pause(answer.status):
        turn.record(
            events.RegistrationPaused(until=turn.now + agent_machine.RATE_PAUSE_S),
            registration.stream,
            registration.name,
        )
        agent_outcome.fail(turn, registration, Reason.ENGINE_UNAVAILABLE, "rate_limited", said)
    elif engine_status.is_ill(answer.status):
        _again(turn, registration, answer.status, said)
    elif registration.step == BIND:
        _bound(turn, registration, answer, data)
    elif registration.step == LOCATE:
        _located(turn, registration, answer)
    elif engine_status.is_done(answer.status):
        _advance(turn, registration, data)
    elif registration.step == CREATE and engine_status.is_taken(answer.status):
        _exists(turn, registration)
    elif registration.step == TAKE_OVER and engine_status.is_absent(answer.status) and answer.code != "agent_not_found":
        _call(
            turn, registration, ROTATE if registration.agent_id else LOCATE, agent_id=registration.agent_id
        )  # an engine without such a route
    else:
        code = answer.code or str(answer.status)
        agent_outcome.fail(turn, registration, Reason.REGISTRATION_REFUSED, code, answer.message)


def _exists(turn: Turn, registration: Registration) -> None:
    own = _target(turn, registration)
    _call(turn, registration, TAKE_OVER if own else LOOK, agent_id=own)


def _located(turn: Turn, registration: Registration, answer: EngineAnswered) -> None:
    """The engine listed the agents that are bound to this node: one that is among them is ours."""
    own = _own_agent_id(turn.state, registration.name)
    rows = answer.data if isinstance(answer.data, list) else []
    if any(isinstance(row, dict) and row.get("agent_id") == own for row in rows):
        turn.record(
            events.RegistrationProven(agent_id=own, evidence="bound_here"), registration.stream, registration.name
        )
        _call(turn, registration, ROTATE, agent_id=own)
    else:
        _call(turn, registration, LOOK)


def _target(turn: Turn, registration: Registration) -> str:
    return registration.agent_id or _own_agent_id(turn.state, registration.name)


def _advance(turn: Turn, registration: Registration, data: dict[str, Any]) -> None:
    """A step has succeeded: the token is there, or it is known whether the name may be taken."""
    agent_id = str(data.get("id") or data.get("agent_id") or "")
    if registration.step == LOOK:
        status = str(data.get("status") or "")
        if agent_id and status in _ABSENT:
            turn.record(
                events.RegistrationProven(agent_id=agent_id, evidence=status), registration.stream, registration.name
            )
            _call(turn, registration, TAKE_OVER, agent_id=agent_id)
        else:
            detail = f"the engine has an agent of this name ({status or 'of unknown state'}), and nothing shows that it is ours"
            agent_outcome.fail(turn, registration, Reason.REGISTRATION_REFUSED, "agent_already_exists", detail)
        return
    if registration.step in (TAKE_OVER, ROTATE):
        agent_id = agent_id or _target(turn, registration)
    fingerprint = data.get("token")
    if not agent_id or not isinstance(fingerprint, str) or not fingerprint:
        agent_outcome.fail(
            turn, registration, Reason.REGISTRATION_REFUSED, "invalid_answer", "no usable agent id or token"
        )
        return
    turn.record(events.AgentBinding(agent_id=agent_id, fingerprint=fingerprint), registration.stream, registration.name)
    _call(turn, registration, BIND)


def _bound(turn: Turn, registration: Registration, answer: EngineAnswered, data: dict[str, Any]) -> None:
    """Only a binding to this very node counts; another node of the same name gives it back."""
    agent_id = str(data.get("agent_id") or registration.agent_id)
    node_id = data.get("node_id")
    if not engine_status.is_done(answer.status):
        agent_outcome.fail(
            turn, registration, Reason.REGISTRATION_REFUSED, answer.code or str(answer.status), answer.message
        )
    elif (
        node_id != turn.settings.node_id
        or not agent_id
        or (registration.agent_id and agent_id != registration.agent_id)
    ):
        _unbind(turn, registration)
        agent_outcome.fail(
            turn, registration, Reason.REGISTRATION_REFUSED, "bound_elsewhere", f"the engine bound it to {node_id}"
        )
    else:
        agent_outcome.registered(turn, registration, agent_id=agent_id, fingerprint=registration.fingerprint, data=data)


def _unbind(turn: Turn, registration: Registration) -> None:
    turn.effect(
        EngineCall(
            call_id=f"unbind_{turn.fresh('unbind')}",
            request=engine_requests.UnbindAgent(node_name=turn.state.node_name, name=registration.name),
            auth="workspace",
            timeout_s=agent_machine.HTTP_TRY_S,
        )
    )


def has_registered(answer: EngineAnswered) -> bool:
    """Whether a call has done something for an agent at the engine: made it, renewed its token, or bound it. A look has not."""
    done = engine_status.is_done(answer.status) and isinstance(answer.data, dict)
    return done and bool(answer.data.get("token") or answer.data.get("node_id"))


def _again(turn: Turn, registration: Registration, status: int, detail: str) -> None:
    if registration.tries >= agent_machine.HTTP_TRIES or registration.step in (LOOK, LOCATE):
        agent_outcome.fail(turn, registration, Reason.ENGINE_UNAVAILABLE, str(status or ""), detail)
        return
    until = turn.now + agent_machine.HTTP_PAUSE_S
    turn.record(
        events.RegistrationDelayed(status=status, detail=detail[:500], until=until),
        registration.stream,
        registration.name,
    )


def due(turn: Turn, registration: Registration) -> None:
    """Make the call again whose pause is over."""
    if registration.retry_at and registration.retry_at <= turn.now:
        agent_id = _target(turn, registration) if registration.step in (TAKE_OVER, ROTATE) else ""
        _call(turn, registration, registration.step, agent_id=agent_id)


def is_open(registration: Registration) -> bool:
    """Whether this registration is on the HTTP route now."""
    return registration.state in (AgentState.FALLING_BACK, AgentState.BINDING)
