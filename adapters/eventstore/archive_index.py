"""What of an archive people look for, as a database beside its segments: `index.sqlite`.

For each archived record it has stream, version, today's topic, and of today's body what may be asked for (`fields.LOOKED_UP`),
about 200 bytes; the record itself is then read from its segment. `log archive` writes it. It is derived: when it is missing, is of
another version, of other upcasts or of another archive, or cannot be read, whoever asks first makes it anew (15 s per 1,000,000
records), beside the segments or, where nothing may be written, for himself. `log verify` compares it with the segments.

Source: ADR-0046.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from relaybroker.adapters import private_files
from relaybroker.adapters.eventstore import lookup
from relaybroker.adapters.eventstore.earlier_events import COLUMNS, fingerprint
from relaybroker.adapters.eventstore.fields import LOOKED_UP, looked_up
from relaybroker.domain.decoding import NOT_READABLE
from relaybroker.domain.errors import CorruptLog
from relaybroker.domain.events import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from eventsourcing.persistence import Notification

    from relaybroker.adapters.eventstore.archive import Archive
    from relaybroker.adapters.eventstore.mapper import Mapper

_LOG = logging.getLogger(__name__)

FILE = "index.sqlite"
TABLE = "archived_events"

LOCK_PATIENCE_S = 120.0
"""How long one who needs the index waits for another who is making it."""

_STATEMENTS = (
    f"CREATE TABLE {TABLE} ({COLUMNS})",
    f"CREATE INDEX archived_stream ON {TABLE} (originator_id, originator_version)",
    *(definition.sql for definition in lookup.indexes(TABLE, "archived_")),
)


class Extent(NamedTuple):
    """What an index is of: the code that made it, and the archive up to a position with a chain value (hex)."""

    made_by: str
    last: int
    chain: str


def wanted(archive: Archive) -> Extent:
    """What the index of this archive must say."""
    code = repr((_STATEMENTS, LOOKED_UP, fingerprint(REGISTRY.superseded)))
    made_by = hashlib.blake2b(code.encode(), digest_size=8).hexdigest()
    return Extent(made_by, archive.last, archive.chain.hex())


def ensure(archive: Archive, mapper: Mapper, elsewhere: Callable[[], Path]) -> Path:
    """The file of the archive's index, made or gone on with where it is not complete.

    Args:
        archive: one with segments.
        mapper: how its records are read.
        elsewhere: a directory for an index that cannot be beside the segments.

    Raises:
        StateCorrupt: a segment cannot be read.
    """
    path = archive.directory / FILE
    if _extent(path) == wanted(archive):
        return path
    try:
        _complete(path, archive, mapper)
    except (sqlite3.OperationalError, OSError) as error:
        _LOG.warning("the archive's index cannot be kept (%s); it is made for this question alone", error)
        path = elsewhere() / FILE
        _complete(path, archive, mapper)
    return path


def _extent(path: Path) -> Extent | None:
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return Extent(*database.execute("SELECT made_by, last, chain FROM extent").fetchone())
    except (sqlite3.Error, TypeError):
        return None


def _complete(path: Path, archive: Archive, mapper: Mapper) -> None:
    try:
        _extend(path, archive, mapper)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        path.unlink(missing_ok=True)
        _extend(path, archive, mapper)


def _extend(path: Path, archive: Archive, mapper: Mapper) -> None:
    """Bring the index to the archive's end in one transaction; another who does so meanwhile is waited for."""
    if not path.exists():
        _create(path)
    target = wanted(archive)
    with closing(sqlite3.connect(path, isolation_level=None, timeout=LOCK_PATIENCE_S)) as database:
        database.execute("BEGIN IMMEDIATE")
        extent = _begun(database)
        if extent is None or extent.made_by != target.made_by or not _is_behind(archive, extent):
            _clear(database)
            extent = Extent(target.made_by, 0, "")
        database.executemany(
            f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?, ?, ?)",
            (entry(row, mapper) for row in archive.rows(extent.last)),
        )
        database.execute("DELETE FROM extent")
        database.execute("INSERT INTO extent VALUES (?, ?, ?)", target)
        database.execute("COMMIT")


def _create(path: Path) -> None:
    try:
        private_files.create(path)
    except FileExistsError:
        return  # another was quicker


def _begun(database: sqlite3.Connection) -> Extent | None:
    try:
        row = database.execute("SELECT made_by, last, chain FROM extent").fetchone()
    except sqlite3.OperationalError:
        return None
    return Extent(*row) if row else None


def _is_behind(archive: Archive, extent: Extent) -> bool:
    """Whether the index is of the beginning of this very archive."""
    return any((segment.last, segment.chain) == (extent.last, extent.chain) for segment in archive.segments)


def _clear(database: sqlite3.Connection) -> None:
    for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
        database.execute(f'DROP TABLE "{name}"')
    database.execute("CREATE TABLE extent (made_by TEXT, last INTEGER, chain TEXT)")
    for statement in _STATEMENTS:
        database.execute(statement)


def entry(row: Notification, mapper: Mapper) -> tuple[Any, ...]:
    """What the index has of a record; of one that cannot be read, its place alone."""
    position, stream, version = row.id, str(row.originator_id), row.originator_version
    try:
        topic, body = mapper.current(row, position)
        state: dict[str, Any] = _STATE.decode(row.state)
    except (CorruptLog, *NOT_READABLE):
        return position, stream, version, row.topic, None, len(row.state)
    kept = looked_up(REGISTRY[topic], _BODY.decode(body)) if topic in REGISTRY else {}
    return position, stream, version, topic, _ENCODER.encode({"at": state["at"], "body": kept}), len(row.state)


def differing(path: Path, archive: Archive, mapper: Mapper) -> Iterator[tuple[int, str]]:
    """Position and stream of every record that the index has otherwise than the segments, missing and foreign ones too."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        known = iter(database.execute(f"SELECT * FROM {TABLE} ORDER BY position"))
        for row in archive.rows():
            if next(known, None) != entry(row, mapper):
                yield row.id, str(row.originator_id)
        for position, stream, *_ in known:
            yield position, str(stream)


_STATE = msgspec.json.Decoder(dict[str, Any])
_BODY = msgspec.json.Decoder(dict[str, Any])
_ENCODER = msgspec.json.Encoder()
