"""How a program is given its agent's tools when it is started: options of its profile, none of which holds a token.

Rules:

* Where the options stand is known only of a program that is a word of the command line; one inside a shell's script gets none.
* Whoever names a server `agent-relay` in the arguments has set it up himself: nothing is added.
* The user's own servers stay: every option of a profile adds, none replaces.
* Tools are approved in advance only where the operator says so (`RELAYBROKER_AUTO_ANSWER=mcp-approval`), and only these.

Source: spec/conversation.md section 3; real-agents.md, "MCP configuration".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.adapters.sessions.terminal.harnesses import Profile

SERVER = "agent-relay"


def tools_of(profile: Profile, argv: Sequence[str]) -> str:
    """What the model of this program calls the tools that it will have (`{tool}` stands for the name); "" = it will have none."""
    return profile.mcp.tool if profile.mcp is not None and _place(profile, argv) is not None else ""


def with_tools(
    profile: Profile, argv: tuple[str, ...], *, url: str, approved: bool, server: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """The command line with the options that give the program its tools; as it is, where it gets none.

    Args:
        profile: of the program.
        argv: its command line.
        url: of the local API, as agents reach it.
        approved: whether its model may use them without asking.
        server: another MCP server's command in the place of our endpoint; empty = ours.
    """
    words = _place(profile, argv)
    if words is None or profile.mcp is None:
        return argv
    given = _filled(profile.mcp.command_args, server) if server else profile.mcp.args
    options = (*given, *(profile.mcp.approve if approved else ()))
    return (*words, *(option.replace("{url}", url) for option in options), *argv[len(words) :])


def _filled(options: tuple[str, ...], server: tuple[str, ...]) -> tuple[str, ...]:
    """Options with the command of a server: `{command}` its program, `{args}` its arguments, `{words}` both, as JSON."""
    known = {"{command}": server[0], "{args}": list(server[1:]), "{words}": list(server)}
    filled = list(options)
    for name, value in known.items():
        filled = [option.replace(name, json.dumps(value)) for option in filled]
    return tuple(filled)


def _place(profile: Profile, argv: Sequence[str]) -> tuple[str, ...] | None:
    """The words before our options; None if there is no place for them."""
    if profile.mcp is None:
        return None
    words = harnesses.words_of_program(profile, argv)
    return None if words is None or any(SERVER in word for word in argv[len(words) :]) else words


def with_variables(
    profile: Profile, argv: tuple[str, ...], environment: Mapping[str, str], *, server: tuple[str, ...] = ()
) -> dict[str, str]:
    """The environment with the variables that give the program its tools; what they held stays in them.

    A variable that holds no JSON object is left as it is: the program would not take it either.
    """
    variables = dict(environment)
    if profile.mcp is None or _place(profile, argv) is None:
        return variables
    for name, plain in profile.mcp.env.items():
        (value,) = _filled((profile.mcp.command_env[name],), server) if server else (plain,)
        try:
            given = json.loads(variables.get(name) or "{}")
        except ValueError:
            continue
        if isinstance(given, dict):
            variables[name] = json.dumps(_merged(given, json.loads(value)))
    return variables


def _merged(given: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Both, level by level; what is given wins."""
    merged = ours | given
    for key, value in ours.items():
        inner = given.get(key)
        if isinstance(value, dict) and isinstance(inner, dict):
            merged[key] = _merged(inner, value)
    return merged
