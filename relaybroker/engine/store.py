"""The engine's database: one thread, one connection, transactions in order, many of them per fsync.

A transaction is a function of `Tx`. Whatever it asks for with `tx.after` happens on the event loop once the commit is durable, in
commit order, before its caller goes on: pushes therefore leave in the order of the rows they are about. `synchronous=FULL`: a caller
that goes on can rely on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from relaybroker.engine.schema import SCHEMA

QUEUE_LIMIT = 4096
"""Transactions that may wait; further callers wait for room."""
GROUP_LIMIT = 256
"""Transactions in one commit."""

T = TypeVar("T")


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

    def all(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """All rows."""
        return self._connection.execute(sql, values).fetchall()

    def run(self, sql: str, *values: Any) -> int:
        """Execute; the number of rows changed."""
        return self._connection.execute(sql, values).rowcount

    def many(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Execute for each row."""
        self._connection.executemany(sql, rows)

    def after(self, hook: Callable[[], None]) -> None:
        """Call this on the event loop after the commit."""
        self.hooks.append(hook)


class _Job:
    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[Tx], Any], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future


class Store:
    """The database of one engine process.

    Args:
        path: database file; created 0600.
        clock: the engine's time, epoch seconds.

    Raises:
        sqlite3.DatabaseError: the file is no usable database.
    """

    def __init__(self, path: str, clock: Callable[[], float]) -> None:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "cache_size=-16000",
        ):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.executescript(SCHEMA)
        self._clock = clock
        self._queue: queue.Queue[_Job | None] = queue.Queue()
        self._waiting = 0
        self._room = asyncio.Event()
        self._room.set()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, name="engine-store", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[Tx], T]) -> T:
        """Run a transaction; returns after its commit. An exception rolls back this transaction alone."""
        while self._waiting >= QUEUE_LIMIT:
            self._room.clear()
            await self._room.wait()
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting += 1
        self._queue.put(_Job(work, future))
        return await asyncio.shield(future)

    def submit(self, work: Callable[[Tx], None]) -> None:
        """Queue a transaction that nobody waits for (bookkeeping); its failure is reported by the event loop."""
        self._waiting += 1
        self._queue.put(_Job(work, self._loop.create_future()))

    async def close(self) -> None:
        """Finish what is queued, then close the file."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _serve(self) -> None:
        while True:
            job = self._queue.get()
            if job is None:
                return
            jobs, ends = [job], False
            with contextlib.suppress(queue.Empty):
                while len(jobs) < GROUP_LIMIT:
                    following = self._queue.get_nowait()
                    if following is None:
                        ends = True
                        break
                    jobs.append(following)
            self._commit(jobs)
            if ends:
                return

    def _commit(self, jobs: list[_Job]) -> None:
        outcomes: list[tuple[_Job, Any, BaseException | None, list[Callable[[], None]]]] = []
        connection = self._connection
        now = self._clock()
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                tx = Tx(connection, now)
                connection.execute("SAVEPOINT one")
                try:
                    result = job.work(tx)
                except Exception as error:  # noqa: BLE001 - handed to the caller of this transaction
                    connection.execute("ROLLBACK TO one")
                    outcomes.append((job, None, error, []))
                else:
                    outcomes.append((job, result, None, tx.hooks))
                connection.execute("RELEASE one")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            outcomes = [(job, None, error, []) for job in jobs]
        self._loop.call_soon_threadsafe(self._finish, outcomes)

    def _finish(self, outcomes: list[tuple[_Job, Any, BaseException | None, list[Callable[[], None]]]]) -> None:
        for job, result, error, hooks in outcomes:
            for hook in hooks:
                hook()
            if not job.future.cancelled():
                if error is not None:
                    job.future.set_exception(error)
                else:
                    job.future.set_result(result)
        self._waiting -= len(outcomes)
        self._room.set()
