"""Events of earlier forms, as they are read today: a table beside the log's own, so that SQL can look them up.

A row that was written under a superseded topic stays as it is for ever. Its copy here has today's topic and body; it is
made when a version that knows the newer form first opens the log for writing, and again when an upcast of one of the
topics is another. A log without superseded topics has no such table, and nothing here costs a write anything. Whoever
only reads a log whose copies are missing makes them for himself, in his connection's temporary tables.

Source: ADR-0046.
"""

from __future__ import annotations

import hashlib
import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from eventsourcing.persistence import StoredEvent

from relaybroker.adapters.eventstore import lookup
from relaybroker.adapters.eventstore.fields import listed
from relaybroker.adapters.eventstore.lookup import EARLIER, PARTS, STORED, SUPERSEDED, Definition
from relaybroker.adapters.eventstore.mapper import Mapper
from relaybroker.domain.errors import CorruptLog
from relaybroker.domain.events import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eventsourcing.sqlite import SQLiteCursor

    from relaybroker.domain.events import Recorded
    from relaybroker.domain.events.registry import Superseded

PAGE = 1000
"""Rows that are copied at once."""

COLUMNS = "position INTEGER PRIMARY KEY, originator_id TEXT, originator_version INTEGER, topic TEXT, state BLOB, bytes INTEGER"
"""Of a table of copies; `bytes` is the length of the record that was written."""

_IS_EARLIER = f"topic IN ({listed(SUPERSEDED)})"


def fingerprint(superseded: Mapping[str, Superseded]) -> str:
    """16 hex digits that change when a topic is superseded, or when the code of one of its upcasts changes."""
    ways = [
        (topic, form.event.topic, *(_source(step.upcast) for step in form.steps)) for topic, form in superseded.items()
    ]
    return hashlib.blake2b(repr(ways).encode(), digest_size=8).hexdigest()


def _source(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # an installation without sources: a change is not seen
        return getattr(function, "__qualname__", "")


@cache
def definitions() -> tuple[Definition, ...]:
    """What this version keeps in a journal's database beside the log's table, in the order in which it is made."""
    made: list[Definition] = []
    if SUPERSEDED:
        table = f"CREATE TABLE earlier_events (/* forms {fingerprint(REGISTRY.superseded)} */ {COLUMNS})"
        stream = "CREATE INDEX earlier_stream ON earlier_events (originator_id, originator_version)"
        made += [
            Definition("table", EARLIER.table, table),
            Definition("index", "earlier_stream", stream),
            *lookup.indexes(EARLIER.table, "earlier_"),
        ]
    made += lookup.indexes(STORED.table, "i_")
    made += [Definition("view", name, f"CREATE VIEW {name} AS {sql}") for name, sql in lookup.views(PARTS).items()]
    return tuple(made)


def prepare(cursor: SQLiteCursor) -> None:
    """Make every table, index and view that is missing or different, and the copies that are missing.

    Takes time only when something must be made: 2 s per 1,000,000 events for an index, and for copies 2 s per 1,000,000 events and 20 s
    per 1,000,000 of earlier forms.
    """
    made = _made(cursor)
    if _is_whole(made):
        return
    for kind, name, sql in definitions():
        if made.get(name) == sql.encode():
            continue
        if kind == "table":  # its indexes go with it
            made = {key: value for key, value in made.items() if not key.startswith("earlier_")}
        cursor.execute(f"DROP {kind} IF EXISTS {name}")
        cursor.execute(sql)
    if SUPERSEDED:
        fill(cursor, EARLIER.table)


def is_prepared(cursor: SQLiteCursor) -> bool:
    """Whether the database has what `prepare` makes."""
    return _is_whole(_made(cursor))


def _is_whole(made: Mapping[str, bytes]) -> bool:
    """Whether nothing is missing or different; then no copy is missing either.

    This version writes no earlier form, and any that does has other views, which it makes when it opens the log.
    """
    return all(made.get(definition.name) == definition.sql.encode() for definition in definitions())


def fill(cursor: SQLiteCursor, table: str) -> None:
    """Copy every event of an earlier form that has no copy in `table` yet."""
    mapper, after = Mapper(REGISTRY), 0
    while True:
        cursor.execute(
            f"SELECT rowid, originator_id, originator_version, topic, state FROM {STORED.table}"
            f" WHERE rowid > ? AND {_IS_EARLIER} AND NOT EXISTS (SELECT 1 FROM {table} e WHERE e.position = {STORED.table}.rowid)"
            " ORDER BY rowid LIMIT ?",
            (after, PAGE),
        )
        rows = [tuple(row) for row in cursor.fetchall()]
        if not rows:
            return
        cursor.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)", [_copy(mapper, *row) for row in rows])
        after = rows[-1][0]


def _copy(mapper: Mapper, position: int, stream: str, version: int, topic: str, state: bytes) -> tuple[Any, ...]:
    row = StoredEvent(originator_id=stream, originator_version=version, topic=topic, state=state)
    try:
        recorded = mapper.to_recorded(row, position)
    except CorruptLog:  # `log verify` says so, and reading it does; here it is a row without content
        return position, stream, version, topic, None, len(state)
    return position, stream, version, recorded.event.topic, content(recorded), len(state)


def content(recorded: Recorded) -> bytes:
    """The state that a record would have today, without input and chain value."""
    return msgspec.json.encode(
        {"at": recorded.at, "cause": recorded.causation, "corr": recorded.correlation, "body": recorded.event}
    )


def differing(cursor: SQLiteCursor) -> Iterator[tuple[int, str]]:
    """Position and stream of every copy that is not what was written, as this version reads it."""
    if not SUPERSEDED or not is_prepared(cursor):
        return
    mapper, after = Mapper(REGISTRY), 0
    copied = f"SELECT * FROM {EARLIER.table} WHERE position > ? ORDER BY position LIMIT ?"
    columns = "s.originator_id, s.originator_version, s.topic, s.state"
    while True:
        cursor.execute(
            f"SELECT e.*, {columns} FROM ({copied}) e LEFT JOIN {STORED.table} s ON s.rowid = e.position", (after, PAGE)
        )
        rows = [tuple(row) for row in cursor.fetchall()]
        if not rows:
            return
        for position, *copy in rows:
            after, kept, written = position, copy[:5], copy[5:]
            if written[0] is None or _copy(mapper, position, *written)[1:] != tuple(kept):
                yield position, str(kept[0])


def _made(cursor: SQLiteCursor) -> dict[str, bytes]:
    # As bytes: a damaged statement need not be text. It is replaced like an old one; it is no part of the log.
    cursor.execute(
        "SELECT CAST(name AS BLOB), CAST(sql AS BLOB) FROM main.sqlite_schema WHERE type IN ('table', 'index', 'view')"
    )
    return {bytes(name).decode(errors="replace"): bytes(sql) for name, sql in cursor.fetchall() if sql is not None}
