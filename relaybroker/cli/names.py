"""Names on the command line that must exist: a misspelt one ends the command and shows the nearest, it never means nothing silently."""

from __future__ import annotations

from collections.abc import Iterable

from relaybroker.cli.exits import Exit, fail
from relaybroker.config.nearest import did_you_mean


def must_be(kind: str, name: str, known: Iterable[str], *, otherwise: Exit = Exit.NOT_FOUND) -> None:
    """End the command unless the name is known; as it is written, or in another case.

    Args:
        kind: what it names, as in "there is no KIND 'x'".
        name: as it was given.
        known: all that there are.
        otherwise: the exit status.
    """
    names = list(known)
    if name.lower() in {one.lower() for one in names}:
        return
    hint = did_you_mean(name, names) or (f" There are: {', '.join(names[:8])}" if names else "")
    fail(otherwise, f"there is no {kind} {name!r}.{hint}")
