"""Completion in the shell: names and ids that this directory's broker and log know. What cannot be asked completes nothing, quietly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    import click

    from relaybroker.adapters.eventstore.reader import LogReader

ASK_S = 1.0
"""A shell that waits for names waits so long."""
SHOWN = 50


def directories(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Directories, as the shell knows them."""
    del context, parameter
    return [CompletionItem(begun, type="dir")]


def files(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Files, as the shell knows them."""
    del context, parameter
    return [CompletionItem(begun, type="file")]


def brokers(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Names of the brokers that have a log in this directory."""
    del parameter
    from relaybroker.audit.log import journals_of
    from relaybroker.cli.client import state_directory

    return _fitting(journals_of(state_directory(context.params.get("state_dir"))), begun)


def everybody(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Names of the agents of the workspace, to whom one may write."""
    del parameter
    return _fitting((row["name"] for row in _used(context, "list_agents").get("agents", ())), begun)


def agents(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Names of the agents that run here."""
    del parameter
    return _fitting((row["name"] for row in _asked(context, "/api/spawned").get("agents", ())), begun)


def letters(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Ids of dead letters."""
    del parameter
    return _fitting((row["id"] for row in _asked(context, "/api/dead-letters").get("dead_letters", ())), begun)


def subjects(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """What `why` can tell of: agents, messages and deliveries, the newest first."""
    from relaybroker.audit.deliveries import newest

    names = [*agents(context, parameter, begun), *messages(context, parameter, begun)]
    with _log(context) as reader:
        rows = newest(reader, 500) if reader is not None else []
    ids = (identifier for row in reversed(rows) for identifier in (row.msg_id, row.delivery_id))
    return list(dict.fromkeys([*names, *_fitting(ids, begun)]))


def messages(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Ids of messages, the newest first: in an agent's terminal of those that it can see."""
    del parameter
    rows = _used(context, "find_messages", limit=100).get("messages", ())
    return _fitting((row["message_id"] for row in reversed(rows) if row["message_id"]), begun)


def machines(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Names of state machines."""
    del context, parameter
    from relaybroker.domain.machines import MACHINES

    return _fitting(MACHINES, begun)


def states(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """States of a delivery."""
    del context, parameter
    from relaybroker.domain.machines import MACHINES

    return _fitting(MACHINES["delivery"].states, begun)


def topics(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Topics of events."""
    del context, parameter
    from relaybroker.domain.events import REGISTRY

    return _fitting(REGISTRY, begun)


def reasons(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Reasons."""
    del context, parameter
    from relaybroker.domain.reasons import Reason

    return _fitting(Reason, begun)


def _fitting(names: Any, begun: str) -> list[str]:
    return list(dict.fromkeys(str(name) for name in names if str(name).startswith(begun)))[:SHOWN]


def _asked(context: click.Context, path: str) -> dict[str, Any]:
    from relaybroker.cli.client import BrokerClient
    from relaybroker.cli.exits import CommandError

    with contextlib.suppress(CommandError):
        return BrokerClient.find(context.params.get("state_dir")).glance(path, timeout_s=ASK_S)
    return {}


def _used(context: click.Context, tool: str, **arguments: Any) -> dict[str, Any]:
    """What a tool that only looks says, as whoever is at this terminal."""
    import http.client

    from relaybroker.cli.client import whoever
    from relaybroker.cli.exits import CommandError

    with contextlib.suppress(CommandError, OSError, http.client.HTTPException):
        return whoever(context.params.get("state_dir")).use_soon(tool, ASK_S, **arguments) or {}
    return {}


@contextlib.contextmanager
def _log(context: click.Context) -> Iterator[LogReader | None]:
    from relaybroker.adapters.eventstore.errors import StateCorrupt
    from relaybroker.audit.log import NoLog, reading
    from relaybroker.cli.client import state_directory

    stack = contextlib.ExitStack()
    with stack:
        try:
            reader = stack.enter_context(reading(state_directory(context.params.get("state_dir")), ""))
        except (NoLog, StateCorrupt, OSError):
            reader = None
        yield reader
