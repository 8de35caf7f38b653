"""What a shell completes on the command line: names of agents, ids of messages. Quick, and silent where no broker answers.

A shell is taught with `eval "$(_RELAYBROKER_COMPLETE=bash_source relaybroker)"` (zsh_source, fish_source).

Source: spec/conversation.md section 4.
"""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any

from relaybroker.cli.client import BrokerClient, whoever
from relaybroker.cli.exits import CommandError

if TYPE_CHECKING:
    import click

ANSWER_S = 2.0
"""A shell does not wait longer for its suggestions."""


def _asked(context: click.Context, tool: str, **arguments: Any) -> Any:
    state_dir = context.params.get("state_dir")
    try:
        client: BrokerClient = whoever(state_dir)
        return client.use_soon(tool, ANSWER_S, **arguments)
    except (CommandError, OSError, http.client.HTTPException):
        return None


def AGENTS(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: N802 - used as a constant
    """Names of agents that begin so."""
    found = _asked(context, "list_agents")
    names = [str(row["name"]) for row in found["agents"]] if found else []
    return sorted(name for name in names if name.lower().startswith(incomplete.lower()))


def MESSAGES(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: N802 - used as a constant
    """Ids of the newest messages that begin so, the newest first."""
    found = _asked(context, "find_messages", limit=100)
    known = [str(row["message_id"]) for row in reversed(found["messages"])] if found else []
    return [one for one in dict.fromkeys(known) if one and one.startswith(incomplete)]
