"""Opening the log of a state directory for reading."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.domain.events import REGISTRY


class NoLog(Exception):  # noqa: N818 - says what was found
    """There is no log here, or it is not clear which one is meant."""


def journal_of(state: Path, name: str = "") -> Path:
    """The journal file of a state directory.

    Raises:
        NoLog: none is there, or several are and none was named.
    """
    found = sorted(state.glob(f"journal-{name or '*'}.sqlite"))
    if not found:
        raise NoLog(f"no journal in {state}")
    if len(found) > 1:
        names = ", ".join(path.stem.removeprefix("journal-") for path in found)
        raise NoLog(f"several brokers have a journal in {state}: name one of {names} with --name")
    return found[0]


@contextmanager
def reading(state: Path, name: str = "") -> Iterator[LogReader]:
    """The log, open for reading beside whatever the broker does."""
    reader = LogReader.open(journal_of(state, name), registry=REGISTRY)
    try:
        yield reader
    finally:
        reader.close()
