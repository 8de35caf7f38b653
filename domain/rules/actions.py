"""Decisions about the engine's `action.invoke`: one ledger, at most one execution, the same result every time.

Source: spec/node-protocol.md section 5; invariants X1 to X5.
"""

from __future__ import annotations

from typing import Any

from relaybroker.domain import action as action_machine
from relaybroker.domain import events, frames
from relaybroker.domain.action import ActionState
from relaybroker.domain.entities import Action
from relaybroker.domain.errors import FrameRejected, InvalidRequest
from relaybroker.domain.inputs import SpawnSpec
from relaybroker.domain.manifest import PLACEMENT
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import action_results, agents, sidecars
from relaybroker.domain.turn import Turn

_NAME_KEYS = ("name", "agent_name", "agent")
_CLI_KEYS = ("cli", "command", "provider")
_TASK_KEYS = ("task", "initial_task", "prompt")
_NO_EFFECT = ("persona", "resume", "continue_from", "continueFrom", "agent_result_schema", "agentResultSchema")
"""Fields of a spawn that would change nothing here: refused, so that nobody relies on them."""
_FOR_ONE_TASK = ("exit_after_task", "exitAfterTask")
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
        if known.state in (ActionState.DONE, ActionState.REPORTED):
            action_results.send_result(turn, known)
        return
    turn.record(
        events.ActionReceived(
            invocation_id=invocation_id,
            action=action,
            input=frame.get("input"),
            agent_name=frames.text_of(frame, "agent_name"),
            agent_id=frames.text_of(frame, "agent_id"),
        ),
        stream,
        invocation_id,
    )
    received = turn.state.actions[stream]
    if len(turn.state.unfinished) > action_machine.MAX_OPEN:
        action_results.finish(turn, received, error="handler_unavailable", reason=Reason.QUEUE_FULL)
    else:
        _route(turn, received, harness_of)


def _route(turn: Turn, received: Action, harness_of: agents.HarnessOf) -> None:
    """To the sidecar that serves exactly this name; a moment's patience if that just dropped; else to the broker itself."""
    sidecar = sidecars.serving(turn.state, received.action) if received.action != "release" else None
    grace_until = turn.state.handler_grace.get(received.action, 0.0)
    if sidecar is not None:
        sidecars.invoke(turn, received, sidecar)
    elif action_results.is_spawn(received.action) and grace_until > turn.now:
        turn.record(events.ActionHeld(until=grace_until), received.stream, received.invocation_id)
    elif action_results.is_spawn(received.action):
        _spawn(turn, received, harness_of)
    elif received.action == "release":
        _release(turn, received)
    else:
        action_results.finish(turn, received, error="handler_unavailable", reason=Reason.HANDLER_UNAVAILABLE)


def due(turn: Turn, harness_of: agents.HarnessOf) -> None:
    """Actions whose time is up fail; those that waited for their sidecar long enough run without it."""
    for known in turn.state.open_actions():
        if known.until > turn.now:
            continue
        if known.state == ActionState.RECEIVED:
            _route(turn, known, harness_of)
        elif known.state == ActionState.RUNNING:
            _time_out(turn, known)


def _time_out(turn: Turn, known: Action) -> None:
    """The engine hears that it failed, so whatever a spawn has started by now must not stay (R2)."""
    holder = turn.state.registration_of(known.name)
    action_results.fail(turn, known, Reason.ACTION_TIMEOUT)
    if action_results.is_spawn(known.action) and holder is not None and holder.invocation_id == known.invocation_id:
        agents.release(turn, known.name, reason="its spawn took too long")


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


def _name_of(turn: Turn, received: Action) -> str:
    """Whom the action is about: by name, or by the agent id that the engine named."""
    named = received.agent_name or _first(_fields(received), _NAME_KEYS)
    if named or not received.agent_id:
        return named
    stream = turn.state.agents.get(received.agent_id)
    return turn.state.registrations[stream].name if stream else received.agent_id


def _harness_config(sources: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    for source in (sources[1], sources[0]):
        for key in ("harnessConfig", "harness_config"):
            if isinstance(source.get(key), dict):
                return dict(source[key])
    return {}


def _spawn(turn: Turn, received: Action, harness_of: agents.HarnessOf) -> None:
    sources = _fields(received)
    name = _name_of(turn, received)
    cli = _first(sources, _CLI_KEYS) or received.action.partition(":")[2].strip()
    if not name:
        action_results.finish(turn, received, error="spawn_missing_agent_name", reason=Reason.MISSING_NAME)
        return
    if not cli:
        action_results.finish(turn, received, error="spawn_missing_cli", reason=Reason.MISSING_CLI)
        return
    if not turn.settings.workspace_id:
        action_results.finish(turn, received, error="no_workspace_available", reason=Reason.NO_WORKSPACE)
        return
    config = _harness_config(sources)
    if why := _unusable(config):
        action_results.finish(turn, received, error="spawn_failed", reason=Reason.INVALID_HARNESS_CONFIG, detail=why)
        return
    mode = _first(sources, ("spawn_mode", "spawnMode")).lower()
    if mode not in _SPAWN_MODES:
        action_results.finish(turn, received, error="spawn_failed", reason=Reason.INVALID_SPAWN_MODE, detail=mode)
        return
    if idle := [key for key in _NO_EFFECT if any(source.get(key) for source in sources)]:
        why = f"{', '.join(idle)}: no effect here"
        action_results.finish(turn, received, error="spawn_failed", reason=Reason.SPAWN_FAILED, detail=why)
        return
    for_one_task = _SPAWN_MODES[mode] or any(source.get(key) is True for source in sources for key in _FOR_ONE_TASK)
    spec, unread = _spec(turn, sources, config, name=name, cli=cli, exit_after_task=for_one_task)
    if not _is_offered(turn, spec.cli):
        action_results.finish(turn, received, error="spawn_failed", reason=Reason.CLI_NOT_ALLOWED, detail=spec.cli)
        return
    turn.record(
        events.ActionRunning(name=name, until=turn.now + action_machine.SPAWN_S, unread=unread),
        received.stream,
        received.invocation_id,
    )
    try:
        agents.reserve(
            turn, spec, harness_of, source=agents.REMOTE, request_id="", invocation_id=received.invocation_id
        )
    except InvalidRequest as error:
        reason = Reason(error.code) if error.code in list(Reason) else Reason.SPAWN_FAILED
        action_results.finish(turn, received, error="spawn_failed", reason=reason, detail=error.message)


def _is_offered(turn: Turn, cli: str) -> bool:
    """Whether a remote caller may have this run: a program that the node offers, with arguments only where `args` may have them too."""
    program = cli.split(maxsplit=1)[0] if turn.settings.remote_args else cli
    return any(offered.name == f"{PLACEMENT}{program}" for offered in turn.state.manifest.capabilities)


def _unusable(config: dict[str, Any]) -> str:
    """Why a harness configuration cannot be used; "" if it can."""
    if config.get("harnessId") or config.get("harness_id"):
        return "harnessId names a harness of another machine"
    runtime = config.get("runtime", "pty")
    return "" if runtime == "pty" else f"runtime {runtime!r} is not built"[:200]


def _spec(
    turn: Turn,
    sources: tuple[dict[str, Any], dict[str, Any]],
    config: dict[str, Any],
    *,
    name: str,
    cli: str,
    exit_after_task: bool,
) -> tuple[SpawnSpec, tuple[str, ...]]:
    """What to run, and which fields of the input were not read because remote callers may not set them here."""
    channel = _first(sources, ("channel",))
    given = (*sources, config)
    fields: dict[str, Any] = {}
    unread: list[str] = []
    for key, read in (("args", _words), ("cwd", _text)):
        given_value = next((value for source in given if (value := read(source.get(key)))), None)
        if given_value and turn.settings.remote_args:
            fields[key] = given_value
        elif given_value:
            unread.append(key)
    unread += [
        key for key in ("env", "team", "restart_policy", "restartPolicy") if any(source.get(key) for source in given)
    ]
    spec = SpawnSpec(
        name=name,
        cli=_text(config.get("command")) or cli,
        task=_first(sources, _TASK_KEYS),
        channels=(*turn.settings.default_channels, channel) if channel else (),
        model=_first(sources, ("model",)),
        session_ref=_first((config,), ("sessionId", "session_id")),
        exit_after_task=exit_after_task,
        **fields,
    )
    return spec, tuple(unread)


def _words(value: Any) -> tuple[str, ...]:
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _release(turn: Turn, received: Action) -> None:
    name = _name_of(turn, received)
    if not name:
        action_results.finish(turn, received, error="release_missing_agent_name", reason=Reason.MISSING_NAME)
        return
    turn.record(
        events.ActionRunning(name=name, until=turn.now + action_machine.RELEASE_S),
        received.stream,
        received.invocation_id,
    )
    if not agents.release(turn, name, invocation_id=received.invocation_id, reason="released by the engine"):
        _released_before(turn, received, name)


def _released_before(turn: Turn, received: Action, name: str) -> None:
    """Nobody has the name now: that is success where somebody had it, and an error where nobody ever did."""
    if name.lower() in turn.state.generations:
        action_results.release_ended(turn, received.invocation_id, name)
    else:
        action_results.finish(
            turn,
            received,
            error="release_failed",
            reason=Reason.UNKNOWN,
            detail=f"no agent here was ever called {name!r}",
        )
