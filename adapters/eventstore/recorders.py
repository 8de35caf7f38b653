"""Recorders of the `eventsourcing` library, opened the way a journal needs them.

`create_sqlite` makes a new database whole or not at all, `open_sqlite` opens it for the one writer, `open_reader`
opens it for looking only, `popo` keeps a log in memory (tests). Table and columns are the library's own, so any of
its tools can read the file.

Durability, in two grades (ADR-0082): `journal_mode=WAL` and `synchronous=NORMAL` are set on every connection and read back; a
database that answers otherwise is not used. A commit returns when the WAL is written, so it survives every process; `sync`
returns when it is on disk. A checkpoint syncs the WAL before it moves anything.

Positions are SQLite rowids of a table without deletions at its end: contiguous from 1, never reused, not changed by
a rollback. `VACUUM` may renumber them and must never be run on a log. Archiving deletes rows at the beginning, never the last.

Source: design/architecture.md section 4; https://sqlite.org/wal.html (read-only and immutable databases).
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

from eventsourcing.persistence import ConnectionPoolClosedError, InterfaceError, PersistenceError
from eventsourcing.popo import POPOApplicationRecorder, POPOFactory
from eventsourcing.sqlite import (
    SQLiteApplicationRecorder,
    SQLiteConnection,
    SQLiteConnectionPool,
    SQLiteCursor,
    SQLiteDatastore,
    SQLiteFactory,
)
from eventsourcing.utils import Environment

from relaybroker.adapters import private_files
from relaybroker.adapters.eventstore import earlier_events, lookup
from relaybroker.adapters.eventstore.errors import LogLocked, StateCorrupt
from relaybroker.adapters.eventstore.scope import Scope, enter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from sqlite3 import Row

    from eventsourcing.persistence import Notification, StoredEvent

_LOG = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 5
"""How long reading waits for a foreign lock (somebody who rebuilds the WAL index) before it fails."""

WRITE_TIMEOUT_S = 1
"""How long one try of a commit waits for a foreign write lock. The journal tries again: see `journal.LOCK_PATIENCE_S`."""

OPEN_PATIENCE_S = 10.0
"""How long opening waits for a foreign write lock, when indexes or views are to be made anew."""

CLOSE_WAIT_S = 2.0
"""How long closing waits for reads under way (a page takes milliseconds)."""

WAL_SIZE_LIMIT_BYTES = 64 * 1024 * 1024
"""A WAL that grew past this under a long reader is cut back when it is reset."""

_ROWS_PER_STATEMENT = 32
"""Events in one INSERT; the statements of each size stay prepared."""

_WRITER_PRAGMAS = (
    ("journal_mode", "wal"),
    ("synchronous", 1),  # NORMAL: checkpoints sync, commits do not; `JournalRecorder.sync` does
    ("fullfsync", 1),  # macOS: reach the platter, not the drive's cache; elsewhere the flag is without effect
    ("checkpoint_fullfsync", 1),
    ("journal_size_limit", WAL_SIZE_LIMIT_BYTES),
)

DATABASE_ERRORS = (PersistenceError, sqlite3.Error, UnicodeDecodeError)
"""What asking a database can raise: by the library, by SQLite, and by Python about a message that quotes damaged bytes."""

_DAMAGE_CODES = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_ERROR,  # our statements are constant and correct: the file has another format, or not our table
}

Access = Literal["rw", "rwc", "ro", "immutable"]
Parameters: TypeAlias = Sequence[object] | Mapping[str, object]
"""Of a statement, by place (`?`) or by name (`:name`)."""


VACUUM_PAGES = 2000
"""Pages that are given back in one transaction: a writer beside waits for no longer."""


def side_file(path: Path, suffix: str) -> Path:
    """The file that belongs to the database at `path`: `-wal`, `-shm`, `.snapshot`, `.mark`."""
    return path.with_name(path.name + suffix)


def has_pending_wal(path: Path) -> bool:
    """Whether the WAL holds anything: a broker is running, or the last one did not stop cleanly."""
    try:
        return side_file(path, "-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def is_damage(error: BaseException) -> bool:
    """Whether a database error says that the file's content is damaged (and not busy, full or unreachable)."""
    if isinstance(error, UnicodeDecodeError):
        return True
    cause = error if isinstance(error, sqlite3.Error) else error.__cause__
    if not isinstance(cause, sqlite3.Error):
        return False
    code = getattr(cause, "sqlite_errorcode", None)
    if code is None:  # raised by Python's own layer
        return "Could not decode to UTF-8" in str(cause)
    return code & 0xFF in _DAMAGE_CODES


def is_busy(error: BaseException) -> bool:
    """Whether a database error says that another program holds a lock that we need; nothing was written then."""
    cause = error if isinstance(error, sqlite3.Error) else error.__cause__
    code = getattr(cause, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF == sqlite3.SQLITE_BUSY


def _uri(path: Path, access: Access) -> str:
    # Everything that SQLite or the library could read as an option of the URI is quoted.
    quoted = urllib.parse.quote(str(path.absolute()), safe="/")
    flags = {
        "rw": "mode=rw",
        "rwc": "mode=rwc",
        # readonly_shm: neither a missing WAL index is created nor an old one rebuilt in place.
        "ro": "mode=ro&readonly_shm=1",
        "immutable": "mode=ro&immutable=1",
    }
    return f"file:{quoted}?{flags[access]}"


class _WriterPool(SQLiteConnectionPool):
    """Connections that write ahead and sync before a checkpoint; each is asked whether it does."""

    def _create_connection(self) -> SQLiteConnection:
        connection = super()._create_connection()
        cursor = connection.cursor()
        for name, wanted in _WRITER_PRAGMAS:
            cursor.execute(f"PRAGMA {name}={wanted}")
            cursor.execute(f"PRAGMA {name}")
            if (actual := cursor.fetchone()[0]) != wanted:
                connection.close()
                raise InterfaceError(f"SQLite answers {name}={actual}, not {wanted}: the log would not be safe")
        return connection


class _ReaderPool(SQLiteConnectionPool):
    """Connections that cannot write; the library's own would try to switch the journal mode."""

    def _create_connection(self) -> SQLiteConnection:
        try:
            connection = sqlite3.connect(
                self.db_name,
                uri=True,
                check_same_thread=False,
                isolation_level=None,
                timeout=BUSY_TIMEOUT_S,
            )
        except sqlite3.Error as error:
            raise InterfaceError(error) from error
        connection.row_factory = sqlite3.Row
        return SQLiteConnection(sqlite_conn=connection, max_age=self.max_age)


class _Datastore(SQLiteDatastore):
    """The library's datastore over one of our pools, which is never closed under a thread that is using it.

    The library's own `close` closes connections in use, and a SQLite connection closed while another thread reads from it
    takes the process down.
    """

    def __init__(self, path: Path, access: Access) -> None:
        self._use = threading.Condition()
        self._users = 0
        self._is_closed = False
        self.path = path
        super().__init__(_uri(path, access), lock_timeout=BUSY_TIMEOUT_S, originator_id_type="text")
        writes = access in ("rw", "rwc")
        pool_class = _WriterPool if writes else _ReaderPool
        self.pool = pool_class(db_name=self.pool.db_name, lock_timeout=WRITE_TIMEOUT_S if writes else BUSY_TIMEOUT_S)

    @contextmanager
    def get_connection(self, *, commit: bool) -> Iterator[SQLiteConnection]:
        """A connection of the pool for as long as the context lasts.

        Raises:
            ConnectionPoolClosedError: `close` has been called.
        """
        with self._use:
            if self._is_closed:
                raise ConnectionPoolClosedError("the database is closed")
            self._users += 1
        try:
            with super().get_connection(commit=commit) as connection:
                yield connection
        finally:
            with self._use:
                self._users -= 1
                self._use.notify_all()

    def close(self) -> None:
        """Refuse new uses, wait for those under way, close all connections."""
        with self._use:
            self._is_closed = True
            idle = self._use.wait_for(lambda: self._users == 0, CLOSE_WAIT_S)
        if idle:
            super().close()
        else:
            _LOG.warning("a thread is still reading %s: its connections end with the process", self.pool.db_name)


class JournalRecorder(SQLiteApplicationRecorder):
    """The library's application recorder, with one statement for many events.

    Python gives its lock away for each step of a statement, and the loop has it back before the next one: a step for
    each event would cost a commit as many waits as it has events.
    """

    def __init__(self, datastore: SQLiteDatastore, events_table_name: str = "stored_events") -> None:
        super().__init__(datastore, events_table_name)
        self._scopes: WeakKeyDictionary[SQLiteConnection, Scope] = WeakKeyDictionary()
        self._wal: int | None = None
        """Of the WAL file, for `sync`."""

    def _insert_events(self, c: SQLiteCursor, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int]:
        if not stored_events:
            return []
        for start in range(0, len(stored_events), _ROWS_PER_STATEMENT):
            rows = stored_events[start : start + _ROWS_PER_STATEMENT]
            c.execute(
                self.insert_events_statement + ",(?,?,?,?)" * (len(rows) - 1),
                [
                    value
                    for row in rows
                    for value in (str(row.originator_id), row.originator_version, row.topic, row.state)
                ],
            )
        # The write lock is held since the first row, and a new rowid is the greatest plus one: the batch's ids are
        # contiguous.
        last: int = c.lastrowid
        return list(range(last - len(stored_events) + 1, last + 1))

    def prepare_lookups(self) -> None:
        """Make the tables, indexes and views that are missing or of another version (`lookup`, `earlier_events`)."""
        with self.datastore.transaction(commit=True) as cursor:
            earlier_events.prepare(cursor)

    def query(self, statement: str, parameters: Parameters = (), scope: Scope | None = None) -> list[Row]:
        """The rows that a SELECT finds, with columns by name; with a scope, its views are those of the whole log."""
        with self.datastore.get_connection(commit=False) as connection:
            if scope is not None and self._scopes.get(connection) != scope:
                enter(connection.cursor(), scope)
                self._scopes[connection] = scope
            with connection.transaction(commit=False) as cursor:
                cursor.execute(statement, parameters)
                return list(cursor.fetchall())

    def insert_at(self, rows: Iterable[Notification]) -> None:
        """Insert rows at their own positions, in one transaction."""
        columns = "rowid, originator_id, originator_version, topic, state"
        statement = f"INSERT INTO {self.events_table_name} ({columns}) VALUES (?, ?, ?, ?, ?)"  # noqa: S608
        with self.datastore.transaction(commit=True) as cursor:
            cursor.executemany(
                statement,
                ((row.id, str(row.originator_id), row.originator_version, row.topic, row.state) for row in rows),
            )

    def delete_upto(self, position: int, page: int) -> None:
        """Delete the rows up to a position, which is not the last one, `page` of them in one transaction, and give their pages back."""
        statement = f"DELETE FROM {self.events_table_name} WHERE rowid <= ? AND rowid < (SELECT max(rowid) FROM {self.events_table_name})"  # noqa: S608
        copies = (
            f"DELETE FROM {lookup.EARLIER.table} WHERE position NOT IN (SELECT rowid FROM {self.events_table_name})"  # noqa: S608
        )
        for (first,) in self.query(f"SELECT min(rowid) FROM {self.events_table_name}"):  # noqa: S608
            for end in [*range(first or position, position, page), position]:
                with self.datastore.transaction(commit=True) as cursor:
                    cursor.execute(statement, (end,))
                    if lookup.SUPERSEDED:
                        cursor.execute(copies)
        free = 0
        while (left := self._free_pages()) and left != free:
            free = left
            with self.datastore.get_connection(commit=True) as connection:
                # Each page is given back by a step that yields a row without columns; only a script is stepped to its end.
                connection.cursor().sqlite_cursor.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")

    def _free_pages(self) -> int:
        (row,) = self.query("PRAGMA freelist_count")
        return int(row[0])

    def sync(self) -> None:
        """Return when everything that was committed before the call is on disk. Raises OSError when it may not be.

        Syncing through a descriptor of our own does: SQLite holds no lock on the WAL file that closing it could drop, and the
        file stays the same until the last connection is closed.
        """
        assert isinstance(self.datastore, _Datastore)
        wal = side_file(self.datastore.path, "-wal")
        try:
            if self._wal is None:
                self._wal = os.open(wal, os.O_RDONLY | os.O_CLOEXEC)
            if sys.platform == "darwin":
                fcntl.fcntl(self._wal, fcntl.F_FULLFSYNC)
            else:
                os.fdatasync(self._wal)
        except OSError as error:
            raise OSError(error.errno, f"the log does not get to the disk ({error.strerror})", str(wal)) from error

    def checkpoint(self) -> None:
        """Move the WAL into the database file, as far as readers at work allow; waits for none of them."""
        with self.datastore.get_connection(commit=True) as connection:
            cursor = connection.cursor()
            cursor.execute("PRAGMA busy_timeout=0")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.execute(f"PRAGMA busy_timeout={WRITE_TIMEOUT_S * 1000}")

    def copy_to(self, path: Path) -> None:
        """A whole copy of the database as this process sees it, durable, at `path`, where nothing may be."""
        private_files.create(path)
        with (
            self.datastore.get_connection(commit=True) as connection,
            closing(sqlite3.connect(path)) as copy,
        ):
            connection.cursor().sqlite_cursor.connection.backup(copy)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close every connection. When it is the last one, SQLite removes an empty WAL."""
        if self._wal is not None:
            os.close(self._wal)
            self._wal = None
        self.datastore.close()


class JournalFactory(SQLiteFactory):
    """The library's factory with our recorder; nothing is taken from `os.environ`."""

    application_recorder_class = JournalRecorder

    def __init__(self, path: Path, access: Access) -> None:
        environment = Environment(
            env={
                self.SQLITE_DBNAME: _uri(path, access),
                self.SQLITE_LOCK_TIMEOUT: str(BUSY_TIMEOUT_S),
                self.ORIGINATOR_ID_TYPE: "text",
                self.CREATE_TABLE: "yes" if access == "rwc" else "no",
            }
        )
        super().__init__(environment)
        self.datastore.close()
        self.datastore = _Datastore(path, access)

    def journal_recorder(self) -> JournalRecorder:
        """The recorder of the journal's table `stored_events`."""
        recorder = self.application_recorder()
        assert isinstance(recorder, JournalRecorder)
        return recorder


def create_sqlite(path: Path) -> None:
    """Make an empty journal database of mode 0600 at `path`, whole or not at all.

    An existing database is therefore never empty of its table, and an empty file at `path` is always damage.

    Raises:
        FileExistsError: there is a database already.
        StateCorrupt: there is none, but what belongs to one (`-wal`, `.mark`) is there: a log has been lost.
    """
    if path.exists():
        raise FileExistsError(path)
    for suffix in ("-wal", ".mark", ".snapshot"):
        if side_file(path, suffix).exists():
            raise StateCorrupt(path, f"the database is missing, but {side_file(path, suffix).name} is there")
    unfinished = side_file(path, ".new")
    for leftover in (unfinished, side_file(unfinished, "-wal"), side_file(unfinished, "-shm")):
        leftover.unlink(missing_ok=True)
    private_files.create(unfinished)
    with closing(sqlite3.connect(unfinished)) as connection:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # so that archiving can give pages back
        connection.execute("VACUUM")
    recorder = JournalFactory(unfinished, "rwc").journal_recorder()
    try:
        recorder.prepare_lookups()
        recorder.checkpoint()
    finally:
        recorder.close()
    unfinished.rename(path)
    private_files.sync_directory(path.parent)


SQLITE_FILES = ("", "-wal", "-shm", "-journal")
"""Endings of the files that SQLite opens of one database."""


def open_sqlite(path: Path) -> JournalRecorder:
    """The recorder of the one writer of the database at `path`, which must exist.

    Raises:
        StateCorrupt: an index or view is damaged in a way that it cannot be made again; nothing was changed.
        NotPrivateError: one of its files is a link, or somebody else's.
        LogLocked: an index or view is to be made anew, and another program holds the write lock.
        eventsourcing.persistence.PersistenceError: it cannot be opened, or would not commit durably.
    """
    for suffix in SQLITE_FILES:
        private_files.require_plain(side_file(path, suffix))
        private_files.narrow(side_file(path, suffix))
    recorder = JournalFactory(path, "rw").journal_recorder()
    deadline = time.monotonic() + OPEN_PATIENCE_S
    while True:
        try:
            recorder.prepare_lookups()
        except DATABASE_ERRORS as error:
            if is_busy(error) and time.monotonic() < deadline:
                continue
            recorder.close()
            if is_busy(error):
                raise LogLocked(path, OPEN_PATIENCE_S) from error
            if is_damage(error):
                raise StateCorrupt(path, str(error)) from error
            raise
        return recorder


def _access_to_read(path: Path) -> Literal["ro", "immutable", "copy"]:
    if not has_pending_wal(path):
        return "immutable"
    return "ro" if side_file(path, "-shm").exists() else "copy"


class ReadOnlyRecorder(JournalRecorder):
    """A recorder for looking at a database, in whatever state its broker left it, that writes nothing beside it either.

    * A broker is running, or was killed: the WAL and its index are there and are read, not rebuilt in place.
    * A broker was stopped: there is no WAL; the file is read as immutable.
    * WAL without index (a copied directory): a private copy is read, and removed at `close`.

    `is_current` says whether it is still so. Inside the broker's own process use the journal itself: SQLite shares the
    index between the connections of one process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._identity = self._stat()
        self._access = _access_to_read(path)
        if self._access == "copy":
            self._copy = tempfile.TemporaryDirectory(prefix="relaybroker-log-")
            copied = Path(self._copy.name) / path.name
            shutil.copyfile(path, copied)
            shutil.copyfile(side_file(path, "-wal"), side_file(copied, "-wal"))
            datastore = _Datastore(copied, "rw")
        else:
            datastore = _Datastore(path, self._access)
        super().__init__(datastore)

    def is_current(self) -> bool:
        """Whether the last answer is of one consistent log; False = a broker has started or stopped: open it anew."""
        return self._access == _access_to_read(self._path) and (self._access == "ro" or self._stat() == self._identity)

    def close(self) -> None:
        super().close()
        if self._copy is not None:
            self._copy.cleanup()

    def _stat(self) -> tuple[int, int, int]:
        status = self._path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns


def open_reader(path: Path) -> ReadOnlyRecorder:
    """A recorder that reads the database at `path` and changes, creates and locks nothing that its broker would notice.

    Raises:
        FileNotFoundError: there is no database.
    """
    return ReadOnlyRecorder(path)


def popo() -> POPOApplicationRecorder:
    """A recorder in memory, gone with the process."""
    recorder = POPOFactory(Environment(env={})).application_recorder()
    assert isinstance(recorder, POPOApplicationRecorder)
    return recorder
