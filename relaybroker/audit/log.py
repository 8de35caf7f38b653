"""Opening the log of a state directory for reading."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relaybroker.adapters.eventstore.errors import StateCorrupt
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.adapters.eventstore.recorders import DATABASE_ERRORS
from relaybroker.domain.events import REGISTRY


class NoLog(Exception):  # noqa: N818 - says what was found
    """There is no log here, or it is not clear which one is meant."""


def journals_of(state: Path, name: str = "") -> dict[str, Path]:
    """The journals of a state directory that hold anything, by the names of their brokers, the one that was written last first.

    A start that is refused may leave an empty one: it says nothing, and hides no other.

    Raises:
        NoLog: there is none, or none of this name; the text says which there are.
    """
    every = {path.stem.removeprefix("journal-"): path for path in sorted(state.glob("journal-*.sqlite"))}
    if name and name not in every:
        known = f"; there are: {', '.join(every)}" if every else ""
        raise NoLog(f"no broker named {name!r} has a log in {state}{known}")
    journals = {one: path for one, path in every.items() if name in ("", one)}
    if len(journals) > 1:
        journals = {one: path for one, path in journals.items() if _holds_events(path)} or journals
    if not journals:
        raise NoLog(f"no log in {state}")
    return dict(sorted(journals.items(), key=lambda item: _written_at(item[1]), reverse=True))


def journal_of(state: Path, name: str = "") -> Path:
    """The journal of a state directory: the named one, else the one that was written last.

    Raises:
        NoLog: as for `journals_of`.
    """
    return next(iter(journals_of(state, name).values()))


def _holds_events(path: Path) -> bool:
    """Whether a broker wrote anything here. What cannot be read counts as something: its reader says what is wrong."""
    if not path.stat().st_size:
        return False
    try:
        reader = LogReader.open(path, registry=REGISTRY)
    except (*DATABASE_ERRORS, StateCorrupt, OSError):
        return True
    try:
        return reader.position > 0
    except (*DATABASE_ERRORS, StateCorrupt):
        return True
    finally:
        reader.close()


def _written_at(path: Path) -> float:
    times = [side.stat().st_mtime for side in (path, path.with_name(f"{path.name}-wal")) if side.exists()]
    return max(times, default=0.0)


@contextmanager
def reading(state: Path, name: str = "") -> Iterator[LogReader]:
    """The log, open for reading beside whatever the broker does."""
    reader = LogReader.open(journal_of(state, name), registry=REGISTRY)
    try:
        yield reader
    finally:
        reader.close()
