"""Where a command meets a person: what may come in, and how a failure that no command expects is said.

A command says itself what it can say better. What reaches the border is one of the failures that any command can meet (a damaged log, a
full disk, a directory that is not ours), said in a sentence with its status. Anything else is a fault of this program and keeps its trace.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from relaybroker.cli.exits import CommandError, Exit
from relaybroker.domain.decoding import is_text


def require_text(words: Sequence[str]) -> None:
    """Refuse arguments that are no text: nothing that is stored or sent could hold them."""
    for word in words:
        if not is_text(word):
            raise CommandError(Exit.USAGE, f"argument {word!r} is not UTF-8")


def as_command_error(error: Exception) -> CommandError | None:
    """The failure as a person is told it; None = it is not one that was to be expected."""
    from eventsourcing.persistence import PersistenceError

    from relaybroker.domain.errors import CorruptLog, RelayBrokerError

    match error:
        case CorruptLog():
            return _damaged(str(error))
        case RelayBrokerError():
            return (
                _damaged(str(error))
                if getattr(error, "code", "") == "state_corrupt"
                else CommandError(Exit.FAILED, str(error))
            )
        case PersistenceError() | sqlite3.Error():
            return CommandError(
                Exit.FAILED, f"the log cannot be used: {error}. Nothing was changed. See: relaybroker log verify"
            )
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return CommandError(Exit.FAILED, f"{where}{error.strerror or error}")
        case _:
            return None


def _damaged(text: str) -> CommandError:
    return CommandError(Exit.FAILED, f"the log is damaged: {text}. Nothing was changed. See: relaybroker log verify")
