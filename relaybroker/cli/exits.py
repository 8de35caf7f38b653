"""Exit statuses of the command, and how a failure is said: in words, and with `--json` as an object.

0 done · 1 failed · 2 usage error · 3 not found · 4 no broker running · 5 refused · 10 not delivered · 11 not settled yet
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NoReturn

import click

from relaybroker.cli.output import say, say_json


class Exit(IntEnum):
    """What the status of the command means."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NO_BROKER = 4
    REFUSED = 5
    NOT_DELIVERED = 10
    PENDING = 11


LAST = 2**63 - 1
"""The largest number that an option takes: the database's."""

HELP = (
    "Exit status: 0 done, 1 failed, 2 usage error, 3 not found, 4 no broker running, 5 refused,"
    " 10 message not delivered, 11 not settled yet."
)


class CommandError(click.ClickException):
    """A failure for a person: what happened, why, and the next command. `code` is for programs; "" = the name of the status."""

    def __init__(self, status: Exit, message: str, code: str = "", **more: Any) -> None:
        super().__init__(message)
        self.exit_code = int(status)  # type: ignore[misc] # click reads it from the instance as well
        self.code = code or status.name.lower()
        self.more = more

    def show(self, file: Any = None) -> None:
        """Print the message, without a trace."""
        del file
        first, *more = self.message.splitlines() or [""]
        say(f"relaybroker: {first}", err=True)
        for line in more:
            say(f"  {line.strip()}", err=True)


def fail(status: Exit, message: str, code: str = "", **more: Any) -> NoReturn:
    """End the command with this status and message."""
    raise CommandError(status, message, code, **more)


def show(error: click.ClickException, *, as_json: bool) -> int:
    """Say why the command failed; its exit status."""
    if not as_json:
        error.show()
        return error.exit_code
    code, more = (error.code, error.more) if isinstance(error, CommandError) else ("usage", {})
    said = {"code": code, "status": error.exit_code, "message": error.format_message()}
    try:
        say_json({"error": said | more}, indent=None)
    except OSError:  # nobody can read it there: a full disk
        error.show()
    return error.exit_code
