"""What the operator chose: flags and environment as one typed, immutable value, read once at start.

Secrets are taken out of the environment as they are read, so that nothing that the broker starts later can inherit them.

Source: spec/local-api.md sections 4.1, 4.5 and 11.1; spec/node-protocol.md sections 1.3 to 1.5.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from relaybroker.domain.command_line import SECRET_VARIABLES
from relaybroker.domain.names import nearest_names

if TYPE_CHECKING:
    from collections.abc import MutableMapping

HOSTED_ENGINE = "https://cast.agentrelay.com"
DEFAULT_CHANNEL = "general"
LEASE_S = 120.0
"""Without `--persist` the broker ends when nobody has asked it for anything for this long."""

AUTO_ANSWERS = ("mcp-approval",)
"""Questions that the operator may answer in advance: whether an agent's model may use the agent's own tools (`mcp-approval`)."""

AGENT_MAY = ("spawn", "release")
"""What the operator may allow agents besides talking."""

_VARIABLES = re.compile(r"[A-Za-z_*?][A-Za-z0-9_*?]*")
_TRUE, _FALSE = frozenset(("1", "true", "yes", "on")), frozenset(("", "0", "false", "no", "off"))
_PREFIX = "RELAYBROKER_"
_KNOWN = (
    *("ALLOWED_HOSTS", "ALLOWED_ORIGINS", "CAPABILITIES", "IN_DOUBT", "REMOTE_ARGS", "AUTO_ANSWER", "AGENT_ENV"),
    *("AGENT_MAY", "MAX_AGENTS", "LOG", "URL", "SESSION", "AGENTS"),
)
"""Variables of ours that may be set when a broker starts: its settings, and what an agent's terminal or this project's tests have."""
_NO_SECRET = SecretStr("")


class SettingsError(Exception):
    """Flags or environment cannot be used as they are; the text says what to change."""


class Flags(BaseModel):
    """The command line of `relaybroker up` and `relaybroker init`, as given; "" and None mean not given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: Literal["up", "init"] = "up"
    instance_name: str = ""
    name: str = ""
    workspace_key: SecretStr = _NO_SECRET
    channels: str = ""
    api_port: int = Field(default=0, ge=0, le=65535)
    api_bind: str = "127.0.0.1"
    persist: bool = False
    state_dir: Path | None = None
    record: Path | None = None


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
    default_channels: tuple[str, ...] = (DEFAULT_CHANNEL,)
    capabilities: tuple[str, ...] = ()
    in_doubt: Literal["ask", "at_least_once", "at_most_once"] = "ask"
    remote_args: bool = False
    auto_answer: tuple[str, ...] = ()
    """Which questions of programs the operator has answered in advance; see `AUTO_ANSWERS`."""
    mcp_command: tuple[str, ...] = ()
    """Another MCP server that agents are given in the place of ours; empty = ours."""
    agent_may: tuple[str, ...] = ()
    """What agents may besides talking; see `AGENT_MAY`."""
    agent_environment: tuple[str, ...] = ()
    """Names and patterns of further variables that agents take over from the broker's environment."""
    max_agents: int = Field(default=0, ge=0, lt=2**32)
    """How many agents the node takes; 0 = as many as come."""
    startup_debug: bool = False
    record: Path | None = None
    """The session file that is written while the broker runs; None = none."""

    @field_validator("engine_url")
    @classmethod
    def _is_http(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError(f"the engine's base URL must begin with http:// or https://, not {url!r}")
        return url

    @field_validator("capabilities")
    @classmethod
    def _are_placements(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [name for name in names if not name.removeprefix("spawn:")]
        if wrong:
            raise ValueError("a capability needs the name of a program, as in spawn:claude")
        return names

    @field_validator("auto_answer")
    @classmethod
    def _are_answers(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in AUTO_ANSWERS:
                raise ValueError(f"RELAYBROKER_AUTO_ANSWER takes {', '.join(AUTO_ANSWERS)}, not {name!r}")
        return names

    @field_validator("agent_may")
    @classmethod
    def _are_permissions(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in AGENT_MAY:
                raise ValueError(f"RELAYBROKER_AGENT_MAY takes {', '.join(AGENT_MAY)}, not {name!r}")
        return names

    @field_validator("agent_environment")
    @classmethod
    def _are_variables(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _VARIABLES.fullmatch(name):
                raise ValueError(f"RELAYBROKER_AGENT_ENV takes names and patterns such as MY_*, not {name!r}")
        return names


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
    given = {name: value.strip() for name, value in environ.items()}
    if "AGENT_RELAY_DISABLE_RELAYCAST" in environ:
        raise SettingsError("AGENT_RELAY_DISABLE_RELAYCAST is no longer supported; broker requires Relaycast")
    _check_spelling(given)
    memberships = _memberships(secrets["RELAY_WORKSPACES_JSON"].strip())
    key, explicit = _workspace_key(flags, secrets, memberships, given.get("RELAY_DEFAULT_WORKSPACE", ""))
    node_token = secrets["RELAY_NODE_TOKEN"].strip()
    state_dir = flags.state_dir
    if state_dir is None and (flags.persist or flags.command == "up"):
        state_dir = cwd / ".agentworkforce" / "relay"
    chosen: dict[str, Any] = {
        "instance_name": _first(
            flags.instance_name, flags.name, given.get("AGENT_RELAY_BROKER_NAME", ""), cwd.name, "project"
        ),
        "node_names": tuple(name for name in (flags.name.strip(), flags.instance_name.strip()) if name),
        "cwd": cwd,
        "state_dir": None if state_dir is None else cwd / state_dir,
        "persist": flags.persist or flags.command == "up",
        "api_port": flags.api_port,
        "api_bind": flags.api_bind,
        "api_key": SecretStr(secrets["RELAY_BROKER_API_KEY"].strip()),
        "allowed_hosts": _csv(given.get("RELAYBROKER_ALLOWED_HOSTS", "")),
        "allowed_origins": _csv(given.get("RELAYBROKER_ALLOWED_ORIGINS", "")),
        "engine_url": _engine_url(given, has_credential=bool(key or node_token)),
        "workspace_key": SecretStr(key),
        "other_workspaces": max(0, len(memberships) - 1),
        "workspace_key_is_explicit": explicit,
        "node_token": SecretStr(node_token),
        "node_id": environ.get("RELAY_NODE_ID", "") if given.get("RELAY_NODE_ID") else "",
        "default_channels": _csv(given.get("RELAY_DEFAULT_CHANNELS", "")) or _csv(flags.channels) or (DEFAULT_CHANNEL,),
        "capabilities": tuple(
            name if name.startswith("spawn:") else f"spawn:{name}"
            for name in _csv(given.get("RELAYBROKER_CAPABILITIES", ""))
        ),
        "in_doubt": given.get("RELAYBROKER_IN_DOUBT", "") or "ask",
        "remote_args": _switch(given, "RELAYBROKER_REMOTE_ARGS"),
        "auto_answer": _csv(given.get("RELAYBROKER_AUTO_ANSWER", "")),
        "mcp_command": tuple(given.get("AGENT_RELAY_MCP_COMMAND", "").split()),
        "agent_may": _csv(given.get("RELAYBROKER_AGENT_MAY", "")),
        "agent_environment": _csv(given.get("RELAYBROKER_AGENT_ENV", "")),
        "max_agents": given.get("RELAYBROKER_MAX_AGENTS", "") or 0,
        "record": None if flags.record is None else cwd / flags.record,
        "startup_debug": given.get("AGENT_RELAY_STARTUP_DEBUG", "").lower() not in ("", "0", "false"),
    }
    try:
        return Settings(**chosen)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _check_spelling(given: dict[str, str]) -> None:
    """Raise SettingsError for a variable that looks like a misspelt one of ours: it would change nothing, silently."""
    for name in given:
        short = name.removeprefix(_PREFIX)
        if short == name or short in _KNOWN:
            continue
        if nearest := nearest_names(short, _KNOWN, cutoff=0.7):
            shown = ", ".join(f"{_PREFIX}{one}" for one in nearest)
            raise SettingsError(f"there is no setting {name}; nearest: {shown}")


def _switch(given: dict[str, str], name: str) -> bool:
    """Whether something is switched on.

    Raises:
        SettingsError: it is neither on nor off.
    """
    value = given.get(name, "").lower()
    if value not in _TRUE | _FALSE:
        raise SettingsError(f"{name} is 1 or 0, not {value!r}")
    return value in _TRUE


def _engine_url(given: dict[str, str], *, has_credential: bool) -> str | None:
    """The first variable that is set decides; a credential without an address belongs to the hosted engine."""
    for name in ("RELAYCAST_BASE_URL", "RELAY_BASE_URL"):
        if name in given:
            if given[name]:
                return given[name].rstrip("/")
            break
    return HOSTED_ENGINE if has_credential else None


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
            raise SettingsError("a workspace key begins with rk_; the one that is given does not")
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
            found: Any = msgspec.json.decode(listed, type=shape)
        except msgspec.MsgspecError:
            continue
        memberships = found if isinstance(found, list) else getattr(found, "memberships", [found])
        if memberships:
            return list(memberships)
    raise SettingsError("RELAY_WORKSPACES_JSON is no list of {workspace_id, workspace_alias, api_key}")


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


def _csv(text: str) -> tuple[str, ...]:
    return tuple(part for part in (piece.strip() for piece in text.split(",")) if part)
