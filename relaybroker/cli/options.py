"""Options that many commands have, said once; and the examples below their help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from relaybroker.cli import completion

_Command = TypeVar("_Command", bound=Callable[..., Any])


def state_option(command: _Command) -> _Command:
    """Which broker a command is about, by its directory."""
    text = "State directory of the broker. Default: the nearest .agentworkforce/relay in this directory or above."
    return click.option("--state-dir", metavar="DIR", help=text, shell_complete=completion.directories)(command)


def name_option(command: _Command) -> _Command:
    """Which log of a directory a command is about."""
    text = "Name of the broker, if the directory has several."
    return click.option("--name", default="", help=text, shell_complete=completion.brokers)(command)


def json_option(command: _Command) -> _Command:
    """The answer as one JSON object; a failure, too."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for failures too.")(command)


def examples(*lines: str) -> Callable[[_Command], _Command]:
    """Commands that a person can take over from the help, as they stand."""

    def add(command: _Command) -> _Command:
        command.epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)  # type: ignore[attr-defined]
        return command

    return add
