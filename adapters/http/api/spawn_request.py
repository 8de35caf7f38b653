"""What a spawn request must satisfy before the core hears of it: everything that this machine can tell.

Source: spec/local-api.md section 1.3 route 5, sections 5.1 and 11.2; B15 (nothing is accepted and ignored).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relaybroker.adapters.http.api.bodies import AgentRestartBody, HarnessConfig, SpawnBody, parse
from relaybroker.adapters.sessions.known import KINDS
from relaybroker.adapters.user_paths import is_directory, is_file
from relaybroker.domain.command_line import check_variables, command_line
from relaybroker.domain.delivery import MAX_BODY_BYTES
from relaybroker.domain.doors import TERMINAL
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import RestartPolicy, SpawnSpec
from relaybroker.domain.permissions import ASK, BYPASS

NO_EFFECT = (
    "metadata",
    "resume",
    "workspace_id",
    "workspaceId",
    "workspace_alias",
    "workspaceAlias",
    "parent",
    "extra_args",
    "extraArgs",
    "persona",
)
"""Fields that clients know from elsewhere and that would change nothing here: refused by name, so that nobody relies on them."""
HEADLESS: dict[str, tuple[tuple[str, ...], str]] = {"claude": ((), "stream_json"), "opencode": (("acp",), "acp")}
"""Programs that `transport: headless` starts: the words behind the program's name, and the door."""
_SPAWN_MODES = {
    "": False,
    "interactive": False,
    "task_exit": True,
    "task-exit": True,
    "single_shot": True,
    "single-shot": True,
}
_EXTRA_PATH = (
    "~/.local/bin",
    "~/.opencode/bin",
    "~/.claude/local",
    "/usr/local/bin",
    "/usr/bin",
    "/bin",
    "/opt/homebrew/bin",
)
"""Where programs are looked for besides PATH."""

MAX_VARIABLES = 256
MAX_VARIABLES_BYTES = 64 * 1024
"""Of names and values together."""


def refuse_ineffective(value: Mapping[str, object]) -> None:
    """Raise InvalidRequest for a field that would change nothing: `invalid_field`, the key in `field`."""
    if value.get("harness_id") is not None or value.get("harnessId") is not None:
        raise InvalidRequest(
            Refusal.INVALID,
            "harness_id_unsupported",
            "harnessId is not supported by the broker API; send harnessConfig",
        )
    for name in NO_EFFECT:
        if value.get(name) is not None:
            text = f"'{name}' has no effect here; omit it"
            raise InvalidRequest(Refusal.INVALID, "invalid_field", text, field=name)


def spawn_spec(body: SpawnBody) -> SpawnSpec:
    """The spec of a spawn request. Looks at the file system, so it runs in a thread.

    Raises:
        InvalidRequest: with the codes of local-api.md section 1.1; nothing has happened.
    """
    if not body.name:
        raise InvalidRequest(Refusal.INVALID, "missing_field", "Missing required field: name", field="name")
    is_headless = _is_headless(body)
    _check_modes(body)
    if len(body.task.encode()) > MAX_BODY_BYTES:
        text = f"a task has at most {MAX_BODY_BYTES // 1024} KiB; nothing was started"
        raise InvalidRequest(Refusal.TOO_LARGE, "body_too_large", text, field="task")
    config = body.harness_config or HarnessConfig()
    _check_harness_config(body)
    cwd = _directory(body.cwd or config.cwd)
    cli, args = (config.command, config.args) if body.harness_config else (body.cli, body.args)
    doors = None if body.doors is None else _doors(body.doors)
    if is_headless:
        cli, args, doors = _without_terminal(body, cli, args)
    wanted = variables(body)
    _check_program(cli, args, cwd, wanted.get("PATH") or os.environ.get("PATH", os.defpath))
    return SpawnSpec(
        name=body.name,
        cli=cli,
        args=tuple(args),
        cwd=cwd,
        task=body.task,
        channels=_channels(body.channels),
        model=body.model.strip(),
        team=body.team,
        shadow_of=body.shadow_of,
        shadow_mode=body.shadow_mode,
        session_ref=(body.session_id or config.session_id).strip(),
        idle_threshold_s=float(body.idle_threshold_secs),
        restart=_restart(body.restart_policy),
        exit_after_task=body.exit_after_task or _SPAWN_MODES[body.spawn_mode.strip().lower()],
        skip_relay_prompt=body.skip_relay_prompt,
        env_names=tuple(sorted(wanted)),
        harness=body.harness.strip(),
        doors=doors,
        rows=body.rows,
        cols=body.cols,
        permission_mode=body.permission_mode.strip().lower(),
        surface=None if body.surface is None else tuple(body.surface),
    )


def _doors(names: list[str]) -> tuple[str, ...]:
    """By which doors deliveries are to enter, in order of preference."""
    known = (*KINDS, TERMINAL)
    for name in names:
        if name not in known:
            text = f"there is no door '{name[:40]}'; known: {', '.join(known)}"
            raise InvalidRequest(Refusal.INVALID, "invalid_door", text, field="doors")
    return tuple(names)


def _restart(value: dict[str, Any] | None) -> RestartPolicy | None:
    """The restart policy; one that is switched off asks for nothing."""
    if value is None:
        return None
    try:
        policy = parse(AgentRestartBody, value).policy()
    except InvalidRequest as error:
        text = f"invalid restart_policy: {error.message}"
        raise InvalidRequest(Refusal.INVALID, "invalid_restart_policy", text, field="restart_policy") from error
    return policy if policy.enabled else None


def variables(body: SpawnBody) -> dict[str, str]:
    """What the caller wants in the environment of the agent; `env` of the request wins over that of its harness configuration.

    Raises:
        InvalidRequest: `invalid_env`, for a name that is none or not the caller's to set, and for too much.
    """
    config = body.harness_config or HarnessConfig()
    wanted = {**config.env, **body.env}
    check_variables(wanted)
    size = sum(len(name.encode()) + len(value.encode()) for name, value in wanted.items())
    if len(wanted) > MAX_VARIABLES or size > MAX_VARIABLES_BYTES:
        text = f"at most {MAX_VARIABLES} variables with {MAX_VARIABLES_BYTES // 1024} KiB"
        raise InvalidRequest(Refusal.INVALID, "invalid_env", text, field="env")
    return wanted


def _is_headless(body: SpawnBody) -> bool:
    transport = body.transport.strip().lower()
    if transport not in ("pty", "headless"):
        text = f"unsupported transport '{body.transport}' (expected 'pty' or 'headless')"
        raise InvalidRequest(Refusal.INVALID, "invalid_transport", text)
    if transport == "headless" and body.harness_config is not None:
        text = f"harnessConfig runtime '{body.harness_config.runtime}' does not match requested transport 'headless'"
        raise InvalidRequest(Refusal.INVALID, "runtime_mismatch", text, field="harnessConfig")
    return transport == "headless"


def _without_terminal(body: SpawnBody, cli: str, args: list[str]) -> tuple[str, list[str], tuple[str, ...]]:
    """Command, arguments and door of a program that is asked for without a terminal by its name alone."""
    program, *given = command_line(cli, args)
    words, door = HEADLESS.get(Path(program).name.lower(), ((), ""))
    if door not in KINDS:
        known = " or ".join(sorted(name for name, (_, one) in HEADLESS.items() if one in KINDS))
        text = f"'{program}' is not started headless by its name alone, {known} is; for another program: doors, and its own options"
        raise InvalidRequest(Refusal.INVALID, "invalid_transport", text, field="cli")
    if body.doors is not None and body.doors != [door]:
        text = f"a headless {program} has the door {door}"
        raise InvalidRequest(Refusal.INVALID, "invalid_door", text, field="doors")
    if door == "acp" and body.model.strip():
        text = f"the model of a headless {program} is not set from here; its own configuration says it"
        raise InvalidRequest(Refusal.NOT_BUILT, "not_implemented", text, field="model")
    return program, [*words, *given], (door,)


def _check_modes(body: SpawnBody) -> None:
    mode = body.spawn_mode.strip().lower()
    if mode not in _SPAWN_MODES:
        text = f"unsupported spawnMode '{body.spawn_mode}' (expected 'interactive' or 'task_exit')"
        raise InvalidRequest(Refusal.INVALID, "invalid_spawn_mode", text)
    permission = body.permission_mode.strip().lower()
    if permission not in ("", ASK, BYPASS):
        text = f"unsupported permission_mode '{body.permission_mode}' (expected 'ask' or 'bypass')"
        raise InvalidRequest(Refusal.INVALID, "invalid_field", text, field="permission_mode")


def _directory(cwd: str) -> str:
    """The absolute form of an existing directory; "" stays."""
    if not cwd:
        return ""
    path = Path.cwd() / cwd
    if not is_directory(path):
        raise InvalidRequest(
            Refusal.INVALID, "invalid_cwd", f"cwd '{cwd[:500]}' is not an existing directory", field="cwd"
        )
    return str(path)


def _check_harness_config(body: SpawnBody) -> None:
    """A harness configuration stands in for `cli` and `args`, and agrees with the transport that is asked for."""
    config = body.harness_config
    if config is None:
        return
    if config.runtime != "pty":
        raise InvalidRequest(
            Refusal.NOT_BUILT, "not_implemented", f"runtime '{config.runtime}' is not built yet", field="harnessConfig"
        )
    if not config.command.strip():
        raise InvalidRequest(Refusal.INVALID, "missing_field", "harnessConfig needs a command", field="harnessConfig")


def _check_program(cli: str, args: list[str], cwd: str, search: str) -> None:
    """Refuse a command that this machine does not have."""
    word = command_line(cli, args)[0]
    if not find_program(word, cwd, search):
        raise InvalidRequest(Refusal.INVALID, "cli_not_found", f"command '{word}' not found", field="cli")


def find_program(word: str, cwd: str = "", search: str | None = None) -> bool:
    """Whether this machine has a program: a path from `cwd`, or a name in `search` (None = PATH) or where programs are besides."""
    if "/" in word:
        path = Path(cwd or Path.cwd()) / word
        return is_file(path) and os.access(path, os.X_OK)
    extra = (os.path.expanduser(item) for item in _EXTRA_PATH)  # noqa: PTH111  # a user without home keeps the "~"
    searched = os.environ.get("PATH", os.defpath) if search is None else search
    return shutil.which(word, path=os.pathsep.join((searched, *extra))) is not None


def _channels(names: list[str]) -> tuple[str, ...]:
    """Channels without `#`, once each whatever the case; the first spelling counts."""
    seen: dict[str, str] = {}
    for name in names:
        plain = name.strip().removeprefix("#")
        if plain:
            seen.setdefault(plain.lower(), plain)
    return tuple(seen.values())
