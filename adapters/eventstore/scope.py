"""What a connection needs before it is asked about a whole log: today's views over all of its parts.

A database that was prepared by this version and has no archive answers as it is. Otherwise the connection gets
temporary views of the same names, over the database, copies of its events of earlier forms, and the archive's index; nothing
is written into the log. So a question says nothing of versions or archives, and is answered from all there is.

Source: ADR-0046.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from relaybroker.adapters.eventstore import archive_index, earlier_events, lookup
from relaybroker.adapters.eventstore.lookup import EARLIER, STORED, SUPERSEDED, Part

if TYPE_CHECKING:
    from eventsourcing.sqlite import SQLiteCursor


class Scope(NamedTuple):
    """Where the parts of a log are: the file of its archive's index ("" = none), and the last archived position."""

    index_file: str
    archived: int


def enter(cursor: SQLiteCursor, scope: Scope) -> None:
    """Prepare a connection, outside of any transaction, for questions in this scope."""
    _leave(cursor)
    prepared = earlier_events.is_prepared(cursor)
    if prepared and not scope.archived:
        return
    behind = f"{{row}}{{position}} > {scope.archived}" if scope.archived else ""
    parts = [_behind(STORED, f"main.{STORED.table}", behind)]
    if SUPERSEDED:
        parts.append(_behind(EARLIER, f"main.{EARLIER.table}" if prepared else f"temp.{EARLIER.table}", behind))
        if not prepared:
            cursor.execute(f"CREATE TEMP TABLE {EARLIER.table} ({earlier_events.COLUMNS})")
            cursor.execute(f"CREATE INDEX temp.earlier_stream ON {EARLIER.table} (originator_id, originator_version)")
            earlier_events.fill(cursor, f"temp.{EARLIER.table}")
    if scope.archived:
        cursor.execute("ATTACH DATABASE ? AS archive", (scope.index_file,))
        parts.append(Part(f"archive.{archive_index.TABLE}", "position", "bytes"))
    for name, select in lookup.views(parts).items():
        if name == "v_events" and scope.archived:
            continue  # it shows bodies, which the index has not
        cursor.execute(f"CREATE TEMP VIEW {name} AS {select}")


def _behind(part: Part, table: str, behind: str) -> Part:
    more = behind.replace("{position}", part.position)
    return part._replace(table=table, condition=" AND ".join(filter(None, (part.condition, more))))


def _leave(cursor: SQLiteCursor) -> None:
    """Take away what an earlier scope has left."""
    cursor.execute("SELECT type, name FROM temp.sqlite_schema WHERE type IN ('view', 'table')")
    for kind, name in cursor.fetchall():
        cursor.execute(f"DROP {kind} temp.{name}")
    cursor.execute("PRAGMA database_list")
    if any(row[1] == "archive" for row in cursor.fetchall()):
        cursor.execute("DETACH DATABASE archive")
