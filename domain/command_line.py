"""The command line of an agent: split by shell rules, never run through a shell, nothing added that nobody asked for.

And which variables no caller may put into its environment: secrets of the broker, and the identity that the broker gives.

Source: spec/local-api.md sections 5.2, 5.3 and 11.1; spec/node-protocol.md section 6.1.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from relaybroker.domain.errors import InvalidRequest, Refusal

SECRET_VARIABLES = (
    "RELAY_BROKER_API_KEY",
    "AGENT_RELAY_WORKSPACE_KEY",
    "RELAY_WORKSPACE_KEY",
    "RELAY_API_KEY",
    "RELAY_WORKSPACES_JSON",
    "RELAY_NODE_TOKEN",
)
"""Secrets of the broker."""
_OF_ONE_AGENT = frozenset({"RELAY_AGENT_TOKEN", "RELAY_AGENT_NAME", "RELAYBROKER_URL", "CLAUDECODE"})
_PREFIXES_OF_ONE_AGENT = ("AGENT_RELAY_APP_SERVER_AUTH_", "AGENT_RELAY_RESULT_")
_IDENTITY = frozenset(
    {"RELAY_AGENT_TOKEN", "RELAY_AGENT_NAME", "RELAY_AGENT_TYPE", "RELAY_STRICT_AGENT_NAME", "RELAYBROKER_SESSION"}
)

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_RENAMED = {"cursor": "cursor-agent"}


def command_line(cli: str, args: Iterable[str]) -> tuple[str, ...]:
    """Program and arguments of `cli` (which may hold inline arguments) followed by `args`.

    Raises:
        InvalidRequest: `invalid_field`, if `cli` is blank, badly quoted, or holds a NUL.
    """
    try:
        words = shlex.split(cli)
    except ValueError as error:
        raise InvalidRequest(Refusal.INVALID, "invalid_field", f"cli cannot be split: {error}", field="cli") from error
    if not words or not words[0]:
        raise InvalidRequest(Refusal.INVALID, "invalid_field", "cli is blank", field="cli")
    words += list(args)
    if any("\x00" in word for word in words):
        raise InvalidRequest(Refusal.INVALID, "invalid_field", "cli and args must not hold NUL", field="cli")
    if words[0] in _RENAMED:
        words[0] = _RENAMED[words[0]]
        if words[1:2] == ["agent"]:
            del words[1]
    return tuple(words)


def with_model(argv: tuple[str, ...], flag: str, model: str, *, last: bool) -> tuple[str, ...]:
    """The command line with this model behind the program, or at the end."""
    return (*argv, flag, model) if last else (argv[0], flag, model, *argv[1:])


def switched_model(argv: tuple[str, ...], flag: str, model: str, *, last: bool) -> tuple[str, ...]:
    """The command line with this model in the place of the one that it has, if it has one."""
    if flag not in argv[:-1]:
        return with_model(argv, flag, model, last=last)
    at = argv.index(flag) + 1
    return (*argv[:at], model, *argv[at + 1 :])


def is_protected(variable: str) -> bool:
    """Whether a variable is a secret of the broker or belongs to one agent alone, so that no child takes it over."""
    return variable in SECRET_VARIABLES or variable in _OF_ONE_AGENT or variable.startswith(_PREFIXES_OF_ONE_AGENT)


def check_variables(names: Iterable[str]) -> None:
    """Check what a caller wants in the environment of its agent.

    Raises:
        InvalidRequest: `invalid_env`, for what is no name of a variable, or is the broker's to give.
    """
    for variable in names:
        if not _VARIABLE.fullmatch(variable):
            raise InvalidRequest(
                Refusal.INVALID, "invalid_env", f"'{variable[:140]}' is no name of a variable", field="env"
            )
        if is_protected(variable) or variable in _IDENTITY:
            raise InvalidRequest(Refusal.INVALID, "invalid_env", f"'{variable}' is not for callers to set", field="env")
