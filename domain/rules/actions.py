"""Decisions about the engine's `action.invoke`: one ledger, at most one execution, the same result every time.

Source: spec/node-protocol.md section 5; invariants X1 to X5.
"""

from __future__ import annotations

from typing import Any

from domain import action_invocation, events, frames
from domain.action_invocation import State
from domain.errors import FrameRejected, InvalidRequest
from domain.inputs import SpawnSpec
from domain.reasons import Reason
from domain.rules import agents, link
from domain.state import Action
from domain.state import State as BrokerState
from domain.turn import Turn

_NAME_KEYS = ("name", "agent_name", "agent")
_CLI_KEYS = ("cli", "command", "provider")
_TASK_KEYS = ("task", "initial_task", "prompt")
_SPAWN_MODES = {
    "": False,
    "interactive": False,
    "task_exit": True,
    "task-exit": True,
    "single_shot": True,
    "single-shot": True,
}


def invoked(turn: Turn, frame: frames.Frame, harness_of: agents.HarnessOf) -> None:
    """The engine asks for work, perhaps not for the first time."""
    invocation_id, action = frames.text_of(frame, "invocation_id"), frames.text_of(frame, "action")
    if not invocation_id or not action:
        raise FrameRejected(Reason.BAD_FRAME, "no invocation_id or action", "action.invoke")
    stream = f"action:{invocation_id}"
    known = turn.state.actions.get(stream)
    if known is not None:
        turn.record(events.ActionRepeated(state=known.state), stream, invocation_id)
        if known.state in (State.DONE, State.REPORTED):
            _send_result(turn, known)
        return
    turn.record(
        events.ActionReceived(
            invocation_id=invocation_id,
            action=action,
            input=frame.get("input"),
            agent_name=frames.text_of(frame, "agent_name"),
        ),
        stream,
        invocation_id,
    )
    received = turn.state.actions[stream]
    if action == "spawn" or action.startswith("spawn:"):
        _spawn(turn, received, harness_of)
    elif action == "release":
        _release(turn, received)
    else:
        _finish(turn, received, error="handler_unavailable", reason=Reason.HANDLER_UNAVAILABLE)


def _fields(received: Action) -> tuple[dict[str, Any], dict[str, Any]]:
    top = received.input if isinstance(received.input, dict) else {}
    nested = top.get("agent")
    return top, nested if isinstance(nested, dict) else {}


def _first(sources: tuple[dict[str, Any], ...], keys: tuple[str, ...]) -> str:
    for source in sources:
        for key in keys:
            value = source.get(key)
            if isinstance(value, str) and value.strip():
                return value.strip()
    return ""


def _spawn(turn: Turn, received: Action, harness_of: agents.HarnessOf) -> None:
    sources = _fields(received)
    name = received.agent_name or _first(sources, _NAME_KEYS)
    cli = _first(sources, _CLI_KEYS) or received.action.partition(":")[2].strip()
    if not name:
        _finish(turn, received, error="spawn_missing_agent_name", reason=Reason.MISSING_NAME)
        return
    if not cli:
        _finish(turn, received, error="spawn_missing_cli", reason=Reason.MISSING_CLI)
        return
    mode = _first(sources, ("spawn_mode", "spawnMode")).lower()
    if mode not in _SPAWN_MODES:
        _finish(turn, received, error="spawn_failed", reason=Reason.INVALID_SPAWN_MODE, detail=mode)
        return
    channel = _first(sources, ("channel",))
    args: tuple[str, ...] = ()
    cwd = ""
    if turn.settings.remote_args:
        given = sources[0].get("args") or sources[1].get("args") or []
        args = tuple(word for word in given if isinstance(word, str)) if isinstance(given, list) else ()
        cwd = _first(sources, ("cwd",))
    spec = SpawnSpec(
        name=name,
        cli=cli,
        args=args,
        cwd=cwd,
        task=_first(sources, _TASK_KEYS),
        channels=(*turn.settings.default_channels, channel) if channel else (),
        model=_first(sources, ("model",)),
        exit_after_task=_SPAWN_MODES[mode],
    )
    invocation_id = received.invocation_id
    turn.record(
        events.ActionRunning(name=name, until=turn.now + action_invocation.SPAWN_S), received.stream, invocation_id
    )
    try:
        agents.reserve(turn, spec, harness_of, source="relaycast_ws", request_id="", invocation_id=invocation_id)
    except InvalidRequest as error:
        reason = Reason(error.code) if error.code in list(Reason) else Reason.SPAWN_FAILED
        _finish(turn, received, error="spawn_failed", reason=reason, detail=error.message)


def spawn_ended(turn: Turn, invocation_id: str, name: str, reason: Reason | None, detail: str) -> None:
    """The agent of a spawn invocation is live, or failed for this reason."""
    known = turn.state.actions.get(f"action:{invocation_id}")
    if known is None or known.state != State.RUNNING:
        return
    if reason is None:
        _finish(turn, known, output={"spawned": True, "name": name})
    else:
        _finish(turn, known, error="spawn_failed", reason=reason, detail=detail)


def _release(turn: Turn, received: Action) -> None:
    name = received.agent_name or _first(_fields(received), _NAME_KEYS)
    if not name:
        _finish(turn, received, error="release_missing_agent_name", reason=Reason.MISSING_NAME)
        return
    turn.record(
        events.ActionRunning(name=name, until=turn.now + action_invocation.RELEASE_S),
        received.stream,
        received.invocation_id,
    )
    if not agents.release(turn, name, invocation_id=received.invocation_id, reason="released by the engine"):
        release_ended(turn, received.invocation_id, name)


def release_ended(turn: Turn, invocation_id: str, name: str) -> None:
    """The agent of a release invocation is gone."""
    known = turn.state.actions.get(f"action:{invocation_id}")
    if known is not None and known.state == State.RUNNING:
        _finish(turn, known, output={"released": True, "name": name})


def _finish(
    turn: Turn,
    known: Action,
    *,
    output: Any = None,
    error: str = "",
    reason: Reason | None = None,
    detail: str = "",
) -> None:
    turn.record(
        events.ActionDone(output=output, error=error, reason=reason, detail=detail[:500]),
        known.stream,
        known.invocation_id,
    )
    if link.is_online(turn):
        report(turn, known)


def report(turn: Turn, known: Action) -> None:
    """Give the result to the link."""
    turn.record(events.ActionReported(dial=turn.state.link.dial), known.stream, known.invocation_id)
    _send_result(turn, known)


def _send_result(turn: Turn, known: Action) -> None:
    if link.is_online(turn):
        link.send(
            turn,
            frames.action_result(
                f"result_{turn.state.position}",
                invocation_id=known.invocation_id,
                output=known.output,
                error=known.error,
            ),
        )


def link_online(turn: Turn) -> None:
    """Results that are owed go out."""
    for known in list(turn.state.actions.values()):
        if known.state == State.DONE:
            report(turn, known)


def broker_started(turn: Turn) -> None:
    """Work that ran when the broker died is not run twice; spawns and releases that go on by themselves keep their caller."""
    for known in list(turn.state.actions.values()):
        if known.state == State.RECEIVED or (known.state == State.RUNNING and not _goes_on(turn, known)):
            failed = "release_failed" if known.action == "release" else "spawn_failed"
            _finish(turn, known, error=failed, reason=Reason.BROKER_RESTARTED)


def _goes_on(turn: Turn, known: Action) -> bool:
    holder = turn.state.registration_of(known.name)
    return holder is not None and (
        holder.invocation_id == known.invocation_id or known.invocation_id in holder.release_invocations
    )


def due(turn: Turn) -> None:
    """Invocations whose time is up."""
    for known in list(turn.state.actions.values()):
        if known.state == State.RUNNING and known.until <= turn.now:
            failed = "release_failed" if known.action == "release" else "spawn_failed"
            _finish(turn, known, error=failed, reason=Reason.ACTION_TIMEOUT)


def deadline(state: BrokerState) -> float | None:
    """When an invocation runs out of time next."""
    return min((known.until for known in state.actions.values() if known.until), default=None)
