"""What the operator chose: flags, environment and file as one typed, immutable value, read once at start.

Secrets are taken out of the environment as they are read, so that nothing that the broker starts later can inherit them.

Source: spec/local-api.md sections 4.1, 4.5 and 11.1; spec/node-protocol.md sections 1.3 to 1.5.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.config.chosen import Choice, Retention, SettingsError, choose, listed
from relaybroker.config.finding import HARNESSES, STATE, user_directory
from relaybroker.config.fleet_file import Agent
from relaybroker.config.harness_files import harness_files
from relaybroker.config.offered import offered
from relaybroker.domain.command_line import SECRET_VARIABLES
from relaybroker.domain.decoding import NOT_READABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

__all__ = ["SECRET_VARIABLES", "Flags", "Settings", "SettingsError", "take_settings"]

HOSTED_ENGINE = "https://cast.agentrelay.com"
LEASE_S = 120.0
"""Without `--persist` the broker ends when nobody has asked it for anything for this long."""

_NO_SECRET = SecretStr("")


class Flags(BaseModel):
    """The command line of `relaybroker up` and `relaybroker init`, as given; "" and None mean not given.

    `config` is the configuration file that was found; None = there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: Literal["up", "init"] = "up"
    instance_name: str = ""
    name: str = ""
    workspace_key: SecretStr = _NO_SECRET
    channels: str = ""
    api_port: int | None = None
    api_bind: str = ""
    persist: bool = False
    state_dir: Path | None = None
    config: Path | None = None
    record: Path | None = None
    harnesses: Path | None = None


class Settings(BaseModel):
    """Everything that is decided before the broker looks at the disk or the network. Its repr shows no secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    instance_name: str = Field(min_length=1)
    """The broker's own name in the workspace, and the name of its files."""
    node_names: tuple[str, ...] = ()
    """Node names that the operator gave, in order of precedence."""
    cwd: Path
    state_dir: Path | None
    """None = a fresh temporary directory that ends with the broker."""
    persist: bool
    """Whether the broker lives without anybody's lease and its agents outlive it without limit."""
    api_port: int
    api_bind: str
    api_key: SecretStr
    """Blank = one is generated."""
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    engine_url: str | None
    """Base URL of the configured engine without a trailing slash; None = the embedded one."""
    workspace_key: SecretStr = _NO_SECRET
    other_workspaces: int = 0
    """How many more `RELAY_WORKSPACES_JSON` names; a broker joins one and leaves the others alone."""
    workspace_key_is_explicit: bool = False
    """Whether a refusal of the key ends the start; else a fresh workspace is made."""
    node_token: SecretStr = _NO_SECRET
    """The operator's node token; it pins the node id and is never replaced."""
    node_id: str = ""
    """Verbatim, as the engine compares it."""
    default_channels: tuple[str, ...]
    capabilities: tuple[str, ...] = ()
    in_doubt: Literal["ask", "at_least_once", "at_most_once"] = "ask"
    local_first: bool = True
    """Whether agents here are given each other's messages from here while the engine cannot be reached."""
    remote_args: bool = False
    permission_mode: Literal["never", "explicit", "local", "all"] = "explicit"
    auto_answer: tuple[str, ...] = ()
    """Which questions of programs the operator has answered in advance; see `relaybroker.config.chosen.AUTO_ANSWERS`."""
    mcp_command: tuple[str, ...] = ()
    """Another MCP server that agents are given in the place of ours; empty = ours."""
    agent_may: tuple[str, ...] = ()
    """What agents may besides talking; see `relaybroker.config.chosen.AGENT_MAY`."""
    agent_environment: tuple[str, ...] = ()
    """Names and patterns of further variables that agents take over from the broker's environment."""
    harnesses: dict[str, str] = Field(default_factory=dict)
    """The operator's profiles: file -> its text, each readable by `adapters.sessions.terminal.harnesses.read`."""
    max_agents: int = Field(default=0, ge=0, lt=2**32)
    """How many agents the node takes; 0 = as many as come."""
    startup_debug: bool = False
    record: Path | None = None
    """The session file that is written while the broker runs; None = none."""

    log_level: str = "info"
    log_to: str = ""
    """`stderr`, `off`; else a daily file."""
    retention: Retention = Retention()
    agents: dict[str, Agent] | None = None
    """The fleet that the configuration file wants; None = there is no file."""


def take_settings(flags: Flags, environ: MutableMapping[str, str], cwd: Path) -> Settings:
    """The settings of this run. Afterwards `environ` holds none of `SECRET_VARIABLES`.

    Args:
        flags: the command line.
        environ: the process environment (`os.environ`).
        cwd: the current directory, absolute.

    Raises:
        SettingsError: something is given that cannot be used, or that this program refuses to run with.
    """
    secrets = {name: environ.pop(name, "") for name in SECRET_VARIABLES}
    if "AGENT_RELAY_DISABLE_RELAYCAST" in environ:
        raise SettingsError("AGENT_RELAY_DISABLE_RELAYCAST is no longer supported; broker requires Relaycast")
    choice = choose(_given(flags, environ), environ, flags.config)
    chosen = choice.chosen
    memberships = _memberships(secrets["RELAY_WORKSPACES_JSON"].strip())
    key, explicit = _workspace_key(flags, secrets, memberships, chosen.default_workspace)
    node_token = secrets["RELAY_NODE_TOKEN"].strip()
    persist = flags.persist or flags.command == "up"
    profiles = own_harnesses(choice, environ, cwd)
    values: dict[str, Any] = {
        "instance_name": _first(chosen.name, cwd.name, "project"),
        "node_names": tuple(name for name in (flags.name.strip(), flags.instance_name.strip()) if name),
        "cwd": cwd,
        "state_dir": _state_directory(choice, cwd, persist=persist),
        "persist": persist,
        "api_port": chosen.api_port,
        "api_bind": chosen.api_bind,
        "api_key": SecretStr(secrets["RELAY_BROKER_API_KEY"].strip()),
        "allowed_hosts": chosen.allowed_hosts,
        "allowed_origins": chosen.allowed_origins,
        "engine_url": chosen.engine_url or (HOSTED_ENGINE if key or node_token else None),
        "workspace_key": SecretStr(key),
        "other_workspaces": max(0, len(memberships) - 1),
        "workspace_key_is_explicit": explicit,
        "node_token": SecretStr(node_token),
        "node_id": chosen.node_id,
        "default_channels": chosen.default_channels,
        "capabilities": offered(
            chosen.capabilities,
            environ.get("PATH", os.defpath),
            harnesses.read(profiles),
            by_default=flags.command == "init",
        ),
        "harnesses": profiles,
        "in_doubt": chosen.in_doubt,
        "local_first": chosen.local_first,
        "remote_args": chosen.remote_args,
        "permission_mode": chosen.permission_mode,
        "auto_answer": chosen.auto_answer,
        "mcp_command": tuple(chosen.mcp_command.split()),
        "agent_may": chosen.agent_may,
        "agent_environment": chosen.agent_env,
        "max_agents": chosen.max_agents,
        "record": None if flags.record is None else cwd / flags.record,
        "startup_debug": chosen.startup_debug,
        "log_level": chosen.log_level,
        "log_to": chosen.log_to,
        "retention": chosen.retention,
        "agents": None if choice.file is None else chosen.agents,
    }
    try:
        return Settings(**values)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _given(flags: Flags, environ: Mapping[str, str]) -> dict[str, Any]:
    """The flags that were given, by the names of their settings."""
    given: dict[str, Any] = {
        "name": _first(flags.instance_name, flags.name),
        "state_dir": "" if flags.state_dir is None else str(flags.state_dir),
        "api_port": flags.api_port,
        "api_bind": flags.api_bind,
        "harnesses": "" if flags.harnesses is None else str(flags.harnesses),
    }
    if not listed(
        environ.get("RELAY_DEFAULT_CHANNELS", "")
    ):  # for existing clients, which pass their default as a flag
        given["default_channels"] = listed(flags.channels)
    return {name: value for name, value in given.items() if value not in ("", None, ())}


def _state_directory(choice: Choice, cwd: Path, *, persist: bool) -> Path | None:
    """Where the state is kept; None = in a temporary directory."""
    if not choice.chosen.state_dir:
        return cwd / STATE if persist else None
    return _base(choice, "state_dir", cwd) / choice.chosen.state_dir


def own_harnesses(choice: Choice, environ: Mapping[str, str], cwd: Path) -> dict[str, str]:
    """The operator's profiles, file -> text: of the directory that is named, else of the user's own if there is one.

    Raises:
        SettingsError: one cannot be used; the text names file and key.
    """
    named = choice.chosen.harnesses
    own = user_directory(environ)
    if named:
        directory = _base(choice, "harnesses", cwd) / named
    elif own is not None and (own / HARNESSES).is_dir():
        directory = own / HARNESSES
    else:
        return {}
    try:
        return harness_files(directory)
    except harnesses.HarnessError as error:
        raise SettingsError(str(error)) from error


def _base(choice: Choice, name: str, cwd: Path) -> Path:
    """What the path in a setting is relative to: the file, if it stands there."""
    in_file = choice.origins[name].kind == "file"
    return choice.file.parent if in_file and choice.file is not None else cwd


class _Membership(msgspec.Struct):
    api_key: str
    workspace_id: str | None = None
    workspace_alias: str | None = None


class _Memberships(msgspec.Struct):
    memberships: list[_Membership]


def _workspace_key(
    flags: Flags, secrets: dict[str, str], memberships: list[_Membership], default_workspace: str
) -> tuple[str, bool]:
    """The workspace key, and whether a refusal of it is fatal."""
    if memberships:
        return _key_of_membership(memberships, default_workspace), True
    explicit = _first(
        flags.workspace_key.get_secret_value(), secrets["AGENT_RELAY_WORKSPACE_KEY"], secrets["RELAY_WORKSPACE_KEY"]
    )
    if explicit:
        if not explicit.startswith("rk_"):
            raise SettingsError("a workspace key starts with rk_; the given one does not")
        return explicit, True
    return secrets["RELAY_API_KEY"].strip(), False


def _memberships(listed: str) -> list[_Membership]:
    """What `RELAY_WORKSPACES_JSON` names; nothing if it is not set.

    Raises:
        SettingsError: not of one of the three shapes, or empty. No text shows a key.
    """
    if not listed:
        return []
    for shape in (list[_Membership], _Memberships, _Membership):
        try:
            decoded: Any = msgspec.json.decode(listed, type=shape)
        except NOT_READABLE:
            continue
        memberships = decoded if isinstance(decoded, list) else getattr(decoded, "memberships", [decoded])
        if memberships:
            return list(memberships)
    raise SettingsError("RELAY_WORKSPACES_JSON is not a list of {workspace_id, workspace_alias, api_key}")


def _key_of_membership(memberships: list[_Membership], default: str) -> str:
    """The key of the default workspace among the memberships, else of the first.

    Raises:
        SettingsError: the default workspace is not among them. No text shows a key.
    """
    if not default:
        return memberships[0].api_key.strip()
    for one in memberships:
        if default in (one.workspace_id, one.workspace_alias):
            return one.api_key.strip()
    raise SettingsError(f"RELAY_DEFAULT_WORKSPACE={default} is not in RELAY_WORKSPACES_JSON")


def _first(*names: str) -> str:
    return next((trimmed for name in names if (trimmed := name.strip())), "")
