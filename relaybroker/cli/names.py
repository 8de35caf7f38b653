"""Names on the command line that must exist: a misspelt one ends the command and shows the nearest, it never means nothing silently."""

from __future__ import annotations

from collections.abc import Iterable

from relaybroker.cli.exits import Exit, fail


def must_be(kind: str, name: str, known: Iterable[str], *, otherwise: Exit = Exit.NOT_FOUND) -> None:
    """End the command unless the name is known; as it is written, or in another case.

    Args:
        kind: what it names, as in "there is no KIND 'x'".
        name: as it was given.
        known: all that there are.
        otherwise: the exit status.
    """
    from relaybroker.domain.names import nearest_names

    names = list(known)
    if name.lower() in {one.lower() for one in names}:
        return
    nearest = nearest_names(name, names) or names[:8]
    hint = f"; {'nearest' if len(nearest) < len(names) else 'there are'}: {', '.join(nearest)}" if nearest else ""
    fail(otherwise, f"there is no {kind} {name!r}{hint}")
