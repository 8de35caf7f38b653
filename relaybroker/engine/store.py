"""The engine's database: one thread, one connection, transactions in order, many of them per fsync.

A transaction is a function of `Tx`. Whatever it asks for with `tx.after` happens on the event loop once the commit is durable, in
commit order, before its caller goes on: pushes therefore leave in the order of the rows they are about. `synchronous=FULL`: a caller
that goes on can rely on the disk. The file is locked while it is open: a second engine on it is refused, not mixed in.

A wall clock that is set moves what waits with it: a message has its hour, whatever the clock shows meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from relaybroker.engine.schema import COLUMNS, INDEX, LATER, NO_INDEX, SCHEMA

QUEUE_LIMIT = 4096
"""Transactions that may wait before further callers of `run` wait for room. `submit` is for callers that bound themselves."""
LEAP_S = 60.0
"""A clock that goes ahead or back by more than the time that has passed has been set, or the machine slept."""
GROUP_LIMIT = 256
"""Transactions in one commit."""
_BUSY_S = 2.0
_PRAGMAS = (
    f"busy_timeout={int(_BUSY_S * 1000)}",
    "locking_mode=EXCLUSIVE",
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "temp_store=MEMORY",
    "cache_size=-16000",
)

_LEAPS = (
    "UPDATE deliveries SET expires_at = expires_at + ? WHERE status IN ('queued', 'delivered')",
    "UPDATE deliveries SET available_at = available_at + ? WHERE available_at IS NOT NULL",
    "UPDATE idempotency SET created_at = created_at + ?",
    "UPDATE files SET expires_at = expires_at + ? WHERE status != 'complete'",
    "UPDATE subscriptions SET next_at = next_at + ?",
    "UPDATE posts SET created_at = created_at + ? WHERE status = 'waiting'",
)
"""What has time left has as much of it afterwards."""

T = TypeVar("T")
Settle = Callable[[Any, Exception | None], None]
"""Told on the event loop what a transaction gave, or why it was rolled back."""


class Tx:
    """One transaction: SQL on the one connection, and what follows its commit."""

    __slots__ = ("_connection", "hooks", "now")

    def __init__(self, connection: sqlite3.Connection, now: float) -> None:
        self._connection = connection
        self.now = now
        self.hooks: list[Callable[[], None]] = []

    def one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        """The first row, if there is one."""
        row: sqlite3.Row | None = self._connection.execute(sql, values).fetchone()
        return row

    def the(self, sql: str, *values: Any) -> sqlite3.Row:
        """The row that is known to be there."""
        row = self.one(sql, *values)
        assert row is not None, "the row exists"
        return row

    def all(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """All rows."""
        return self._connection.execute(sql, values).fetchall()

    def count(self, sql: str, *values: Any) -> int:
        """The number that the statement selects."""
        return int(self.the(sql, *values)[0])

    def run(self, sql: str, *values: Any) -> int:
        """Execute; the number of rows changed."""
        return self._connection.execute(sql, values).rowcount

    def many(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Execute for each row."""
        self._connection.executemany(sql, rows)

    def after(self, hook: Callable[[], None]) -> None:
        """Call this on the event loop after the commit."""
        self.hooks.append(hook)


class _Job(NamedTuple):
    work: Callable[[Tx], Any]
    settle: Settle


class _Outcome(NamedTuple):
    job: _Job
    result: Any
    error: Exception | None
    hooks: list[Callable[[], None]]


class Store:
    """The database of one engine process. Made by `Store.open`."""

    def __init__(self, path: str, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._seen = (clock(), time.monotonic())
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting = 0
        self._room = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._serve, name="engine-store", daemon=True)

    @classmethod
    async def open(cls, path: str, clock: Callable[[], float]) -> Self:
        """Open or create the database.

        Args:
            path: database file; created 0600, its folder 0700.
            clock: the engine's time, epoch seconds.

        Raises:
            sqlite3.Error: the file is no usable database, or another engine has it open.
            OSError: the file cannot be made.
        """
        store = cls(path, clock)
        store._thread.start()
        await store._opened
        return store

    async def run(self, work: Callable[[Tx], T]) -> T:
        """Run a transaction; returns after its commit. An exception rolls back this transaction alone and is raised here."""
        while self._waiting >= QUEUE_LIMIT:
            self._room.clear()
            await self._room.wait()
        future: asyncio.Future[T] = self._loop.create_future()

        def settle(result: Any, error: Exception | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.submit(work, settle)
        return await future

    def submit(self, work: Callable[[Tx], Any], settle: Settle | None = None) -> None:
        """Queue a transaction without waiting for it. Without `settle` a failure goes to the loop's exception handler."""
        self._waiting += 1
        self._queue.put(_Job(work, settle or self._report))

    async def close(self) -> None:
        """Finish what is queued, then close the file."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _report(self, _result: Any, error: Exception | None) -> None:
        if error is not None:
            self._loop.call_exception_handler({"message": "a transaction of the engine failed", "exception": error})

    # --- on the thread ------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            connection = _connect(self._path)
        except (sqlite3.Error, OSError) as error:
            self._loop.call_soon_threadsafe(self._opened.set_exception, error)
            return
        self._loop.call_soon_threadsafe(self._opened.set_result, None)
        with contextlib.closing(connection):
            ends = False
            while not ends:
                job = self._queue.get()
                jobs: list[_Job] = []
                with contextlib.suppress(queue.Empty):
                    while job is not None:
                        jobs.append(job)
                        if len(jobs) >= GROUP_LIMIT:
                            break
                        job = self._queue.get_nowait()
                ends = job is None
                if jobs:
                    outcomes = self._commit(connection, jobs)
                    self._loop.call_soon_threadsafe(self._finish, outcomes)

    def _commit(self, connection: sqlite3.Connection, jobs: list[_Job]) -> list[_Outcome]:
        now, pace = self._clock(), time.monotonic()
        leapt_s = self._leapt_s(now, pace)
        outcomes: list[_Outcome] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            if leapt_s:
                for statement in _LEAPS:
                    connection.execute(statement, (leapt_s,))
            for job in jobs:
                tx = Tx(connection, now)
                connection.execute("SAVEPOINT one")
                try:
                    result = job.work(tx)
                except Exception as error:  # noqa: BLE001 - handed to the caller of this transaction
                    connection.execute("ROLLBACK TO one")
                    outcomes.append(_Outcome(job, None, error, []))
                else:
                    outcomes.append(_Outcome(job, result, None, tx.hooks))
                connection.execute("RELEASE one")
            connection.execute("COMMIT")
            self._seen = now, pace
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return [_Outcome(job, None, error, []) for job in jobs]
        return outcomes

    def _leapt_s(self, now: float, pace: float) -> float:
        """By how much the clock has been set since the last commit; 0 = it has not."""
        last, last_pace = self._seen
        leapt_s = now - last - (pace - last_pace)
        return leapt_s if abs(leapt_s) > LEAP_S else 0.0

    def _finish(self, outcomes: list[_Outcome]) -> None:
        self._waiting -= len(outcomes)
        self._room.set()
        for job, result, error, hooks in outcomes:
            for hook in hooks:
                hook()
            job.settle(result, error)


def _connect(path: str) -> sqlite3.Connection:
    Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for ending in ("", "-wal", "-shm", "-journal"):
        _require_plain(Path(path + ending))
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=512)
    try:
        connection.row_factory = sqlite3.Row
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        _require_durability(connection)
        connection.executescript(SCHEMA)
        _add_columns(connection)
        connection.executescript(LATER)
        _index_text(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _add_columns(connection: sqlite3.Connection) -> None:
    for table, column, kind in COLUMNS:
        if connection.execute("SELECT 1 FROM pragma_table_info(?) WHERE name = ?", (table, column)).fetchone() is None:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")


def _index_text(connection: sqlite3.Connection) -> None:
    """Index what was said, if this SQLite can (FTS5); an index that it cannot keep up is made anew by the next one that can."""
    if not has_full_text(connection):
        connection.executescript(NO_INDEX)
    elif connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'messages_said'").fetchone() is None:
        connection.executescript(INDEX)


def has_full_text(connection: sqlite3.Connection) -> bool:
    """Whether this SQLite was built with FTS5."""
    return connection.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone() is not None


def _require_plain(path: Path) -> None:
    """SQLite would write through a link, into whatever it leads to."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise FileExistsError(f"{path} is not a plain file")


def _require_durability(connection: sqlite3.Connection) -> None:
    pragmas = tuple(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous"))
    if pragmas != ("wal", 2):
        raise sqlite3.OperationalError(f"this file system does not offer durable commits: {pragmas}")
