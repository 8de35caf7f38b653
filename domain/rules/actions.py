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
from domain.rules import agents, ledger
from domain.state import Action
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
            ledger.send_result(turn, known)
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
        ledger.finish(turn, received, error="handler_unavailable", reason=Reason.HANDLER_UNAVAILABLE)


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
        ledger.finish(turn, received, error="spawn_missing_agent_name", reason=Reason.MISSING_NAME)
        return
    if not cli:
        ledger.finish(turn, received, error="spawn_missing_cli", reason=Reason.MISSING_CLI)
        return
    mode = _first(sources, ("spawn_mode", "spawnMode")).lower()
    if mode not in _SPAWN_MODES:
        ledger.finish(turn, received, error="spawn_failed", reason=Reason.INVALID_SPAWN_MODE, detail=mode)
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
        ledger.finish(turn, received, error="spawn_failed", reason=reason, detail=error.message)


def _release(turn: Turn, received: Action) -> None:
    name = received.agent_name or _first(_fields(received), _NAME_KEYS)
    if not name:
        ledger.finish(turn, received, error="release_missing_agent_name", reason=Reason.MISSING_NAME)
        return
    turn.record(
        events.ActionRunning(name=name, until=turn.now + action_invocation.RELEASE_S),
        received.stream,
        received.invocation_id,
    )
    if not agents.release(turn, name, invocation_id=received.invocation_id, reason="released by the engine"):
        ledger.release_ended(turn, received.invocation_id, name)
