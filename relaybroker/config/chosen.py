"""Every setting: its type, its default, what it means, and where it is given: a flag, a variable, the configuration file.

A flag counts before a variable, a variable before the file, the file before the default. Secrets are variables only.

Source: spec/local-api.md section 4.5.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from relaybroker.config.fleet_file import Agent
from relaybroker.config.nearest import did_you_mean
from relaybroker.config.patterns import VARIABLES
from relaybroker.domain.command_line import SECRET_VARIABLES

DEFAULT_CHANNEL = "general"
AUTO_ANSWERS = ("mcp-approval",)
"""Questions that the operator may answer in advance: whether an agent's model may use the agent's own tools (`mcp-approval`)."""
AGENT_MAY = ("spawn", "release")
"""What the operator may allow agents besides talking."""
SECRETS = {
    "workspace_key": "RELAY_WORKSPACE_KEY",
    "api_key": "RELAY_BROKER_API_KEY",
    "node_token": "RELAY_NODE_TOKEN",
}
"""What stands in no file, and the variable that has it."""
OTHER_VARIABLES = ("RELAYBROKER_CONFIG", "RELAYBROKER_URL")
"""Variables of ours that are no settings of a broker."""
_OFF = frozenset(("", "0", "false", "no", "off"))


class SettingsError(Exception):
    """Flags, environment or file cannot be used as they are; the text says what to change."""


def _setting(default: Any, says: str, *variables: str, flag: str = "", **more: Any) -> Any:
    return Field(default, description=says, json_schema_extra={"variables": list(variables), "flag": flag}, **more)


class Retention(BaseModel):
    """When to move the oldest part of the log into its archive, while the broker runs. Nothing is ever deleted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_database_mb: int = Field(
        default=1024, ge=0, description="Size at which half of the database is archived; 0: no limit."
    )
    max_age_days: float = Field(default=0, ge=0, description="Age at which events are archived; 0: no limit.")
    keep_events: int = Field(
        default=100_000, ge=1000, description="Number of newest events that always stay in the database."
    )


class Chosen(BaseSettings):
    """What the operator chose, before anything is made of it."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    name: str = _setting(
        "",
        "Name of the broker and its files. Default: the name of the directory.",
        "AGENT_RELAY_BROKER_NAME",
        flag="--name",
    )
    state_dir: str = _setting(
        "", "State directory of the broker; relative to the file.", "AGENT_RELAY_STATE_DIR", flag="--state-dir"
    )
    engine_url: str | None = _setting(
        None, "Base URL of the engine. Default: the embedded engine.", "RELAYCAST_BASE_URL", "RELAY_BASE_URL"
    )
    node_id: str = _setting("", "Pins the id of the node.", "RELAY_NODE_ID")
    default_workspace: str = _setting("", "Workspace of RELAY_WORKSPACES_JSON to join.", "RELAY_DEFAULT_WORKSPACE")
    default_channels: tuple[str, ...] = _setting(
        (DEFAULT_CHANNEL,), "Channels for agents that name none.", "RELAY_DEFAULT_CHANNELS", flag="--channels"
    )
    api_port: int = _setting(
        0, "Port of the local API; 0: pick one and keep it across restarts.", flag="--api-port", ge=0, le=65535
    )
    api_bind: str = _setting("127.0.0.1", "Address of the local API.", flag="--api-bind", min_length=1)
    allowed_hosts: tuple[str, ...] = _setting(
        (), "Additional names that the local API's Host check allows.", "RELAYBROKER_ALLOWED_HOSTS"
    )
    allowed_origins: tuple[str, ...] = _setting(
        (), "Additional origins that the local API's Origin check allows.", "RELAYBROKER_ALLOWED_ORIGINS"
    )
    capabilities: tuple[str, ...] = _setting(
        (),
        "Harnesses offered for placement (claude, codex; none). Spawn actions start nothing else. If unset, `init` offers what it finds.",
        "RELAYBROKER_CAPABILITIES",
    )
    max_agents: int = _setting(
        0, "Maximum number of agents on the node; 0: no limit.", "RELAYBROKER_MAX_AGENTS", ge=0, lt=2**32
    )
    remote_args: bool = _setting(False, "Whether spawn actions may set arguments and `cwd`.", "RELAYBROKER_REMOTE_ARGS")
    permission_mode: Literal["never", "explicit", "local", "all"] = _setting(
        "explicit",
        "Who may have a program bypass permissions: never, explicit (local callers that ask), local (all of them), all (remote ones too).",
        "RELAYBROKER_PERMISSION_MODE",
    )
    in_doubt: Literal["ask", "at_least_once", "at_most_once"] = _setting(
        "ask", "What to do with a message that may or may not have been typed.", "RELAYBROKER_IN_DOUBT"
    )
    local_first: bool = _setting(
        True,
        "Whether agents of this node go on talking to each other while the engine cannot be reached.",
        "RELAYBROKER_LOCAL_FIRST",
    )
    auto_answer: tuple[str, ...] = _setting(
        (), "Questions from programs to answer in advance: mcp-approval.", "RELAYBROKER_AUTO_ANSWER"
    )
    agent_may: tuple[str, ...] = _setting(
        (),
        "What agents may do besides sending messages: spawn (only what `capabilities` offers), release.",
        "RELAYBROKER_AGENT_MAY",
    )
    mcp_command: str = _setting(
        "",
        "Command of an MCP server to give agents instead of the broker's own; words separated by spaces.",
        "AGENT_RELAY_MCP_COMMAND",
    )
    agent_env: tuple[str, ...] = _setting(
        (), "Names and patterns (MY_*) of additional variables that agents inherit.", "RELAYBROKER_AGENT_ENV"
    )
    harnesses: str = _setting(
        "",
        "Directory with profiles of your own programs (docs/harnesses.md); relative to the file. Else ~/.config/relaybroker/harnesses.",
        "RELAYBROKER_HARNESSES",
        flag="--harnesses",
    )
    log_level: str = _setting("info", "debug, info, warning or error.", "RELAYBROKER_LOG")
    log_to: str = _setting("", "Where diagnostics go: stderr or off. Default: a daily file.", "AGENT_RELAY_BROKER_LOG")
    startup_debug: bool = _setting(False, "Print each start-up step on standard error.", "AGENT_RELAY_STARTUP_DEBUG")
    retention: Retention = _setting(
        Retention(), "When to archive the oldest part of the log: max_database_mb, max_age_days, keep_events."
    )
    agents: dict[str, Agent] = _setting({}, "The fleet: agents to run, each in a table [agents.NAME].")

    @field_validator("engine_url")
    @classmethod
    def _is_http(cls, url: str | None) -> str | None:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError(f"the engine's base URL must start with http:// or https://, not {url!r}")
        return url.rstrip("/") if url else url

    @field_validator("capabilities")
    @classmethod
    def _are_placements(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        placements = tuple(name if name.startswith("spawn:") else f"spawn:{name}" for name in names)
        if "spawn:" in placements:
            raise ValueError("a capability needs the name of a program, as in spawn:claude")
        return placements

    @field_validator("auto_answer")
    @classmethod
    def _are_answers(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in AUTO_ANSWERS:
                raise ValueError(f"takes {', '.join(AUTO_ANSWERS)}, not {name!r}")
        return names

    @field_validator("agent_may")
    @classmethod
    def _are_permissions(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in AGENT_MAY:
                raise ValueError(f"takes {', '.join(AGENT_MAY)}, not {name!r}")
        return names

    @field_validator("agent_env")
    @classmethod
    def _are_variables(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not VARIABLES.fullmatch(name):
                raise ValueError(f"takes names and patterns such as MY_*, not {name!r}")
        return names

    @field_validator("log_level")
    @classmethod
    def _is_a_level(cls, level: str) -> str:
        if level.lower() not in ("debug", "info", "warning", "error", "critical"):
            raise ValueError(f"{level} is not a level; use debug, info, warning or error")
        return level.lower()


class Origin(NamedTuple):
    """Where a setting's value is from."""

    kind: Literal["flag", "variable", "file", "default"]
    written: str
    """As the person wrote it: `--api-port`, `RELAYBROKER_LOG`, `max_agents in FILE`; "" for a default."""


class Choice(NamedTuple):
    """The settings and where each is from."""

    chosen: Chosen
    origins: Mapping[str, Origin]
    file: Path | None


def choose(flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None) -> Choice:
    """The settings of flags (only those that were given), environment and file.

    Raises:
        SettingsError: something cannot be used; it is named as the person wrote it.
    """
    _refuse_unknown(environ)
    from_file = _in_file(file)
    from_environ = {name: setting for name, setting in _in_environ(environ).items() if name not in flags}
    origins = {name: Origin("default", "") for name in Chosen.model_fields}
    origins |= {name: Origin("file", f"{name} in {file}") for name in from_file}
    origins |= {name: Origin("variable", variable) for name, (variable, _) in from_environ.items()}
    origins |= {name: Origin("flag", _extra(name)["flag"]) for name in flags}

    class Sourced(Chosen):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            values = {name: value for name, (_, value) in from_environ.items()}
            return (init_settings, _Variables(settings_cls, values), TomlConfigSettingsSource(settings_cls, file))

    try:
        return Choice(Sourced(**flags), origins, file)
    except ValidationError as error:
        raise SettingsError("\n".join(_said(one, origins, file) for one in error.errors())) from error


class _Variables(PydanticBaseSettingsSource):
    """What the environment says, read already: our variables have names of their own, and lists are separated by commas."""

    def __init__(self, settings_cls: type[BaseSettings], values: dict[str, Any]) -> None:
        super().__init__(settings_cls)
        self._values = values

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        del field
        return self._values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._values


def _extra(name: str) -> dict[str, Any]:
    extra = Chosen.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return extra


def variables_of(name: str) -> list[str]:
    """The variables of a setting, the first that is set decides."""
    return list(_extra(name)["variables"])


def flag_of(name: str) -> str:
    """The flag of a setting; "" = it has none."""
    return str(_extra(name)["flag"])


def _in_environ(environ: Mapping[str, str]) -> dict[str, tuple[str, Any]]:
    settings: dict[str, tuple[str, Any]] = {}
    for name, field in Chosen.model_fields.items():
        variable = next((one for one in variables_of(name) if one in environ), None)
        if variable is None:
            continue
        text = environ[variable] if name == "node_id" and environ[variable].strip() else environ[variable].strip()
        value: Any = listed(text) if field.annotation == tuple[str, ...] else text
        if name == "startup_debug":
            value = text.lower() not in _OFF
        if value or name == "engine_url":
            settings[name] = (variable, value)
    return settings


def listed(text: str) -> tuple[str, ...]:
    """The parts of a list that is separated by commas."""
    return tuple(part for part in (piece.strip() for piece in text.split(",")) if part)


def _in_file(file: Path | None) -> dict[str, Any]:
    """What the file says.

    Raises:
        SettingsError: it cannot be read, is no TOML, names a secret or what is not a setting.
    """
    if file is None:
        return {}
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is no TOML: {error}") from error
    for name in settings:
        if name in SECRETS:
            raise SettingsError(
                f"{name} in {file}: secrets do not belong in the file; set the variable {SECRETS[name]}"
            )
    return settings


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    """Raise SettingsError for a variable that is nearly one of ours: a misspelt one would be ignored without a word."""
    known = {variable for name in Chosen.model_fields for variable in variables_of(name)}
    known |= {*OTHER_VARIABLES, *SECRET_VARIABLES}
    for name in environ:
        if name.startswith("RELAYBROKER_") and name not in known:
            near = did_you_mean(name, known, cutoff=0.85)
            if near:
                raise SettingsError(f"{name} is not a setting.{near}")


def _said(error: Any, origins: Mapping[str, Origin], file: Path | None) -> str:
    place = ".".join(str(part) for part in error["loc"])
    top = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        inside, _, word = place.rpartition(".")
        inner: dict[str, type[BaseModel]] = {"agents": Agent, "retention": Retention}
        known = inner.get(inside.partition(".")[0], Chosen).model_fields
        return f"{place} in {file} is not a setting.{did_you_mean(word, known)} See: relaybroker config"
    text = str(error["msg"]).removeprefix("Value error, ")
    origin = origins.get(top, Origin("default", place))
    written = f"{place} in {file}" if origin.kind == "file" else origin.written or place
    given = (
        ""
        if error["type"] in ("missing", "value_error") or isinstance(error["input"], dict)
        else f" (given: {error['input']!r})"
    )
    return f"{written}: {text[:1].lower()}{text[1:]}{given}"
