"""The one writer of the log: batches in, durable positions out, in order.

Rules:

* A batch is written whole or not at all, in the order of the calls. It has two grades: *written* after its commit (it
  survives `kill -9` of every process), *durable* after the fsync behind it (it survives the machine). ADR-0082 says
  which promise needs which.
* Group commit: every batch that waits when the writer thread comes round goes into the same transaction; everything that
  is written when the syncing thread comes round is made durable by one fsync. The writer waits for no fsync.
* Fail-stop: a failed commit or fsync fails every batch in it and every later one, `on_failure` is called once, and this
  journal writes nothing any more. A batch whose fsync failed may still be found in the log at the next start; nothing
  left this machine because of it, so the fold treats it like any other record.
* A foreign write lock (a backup, a database shell in a transaction) is no failure: the commit is tried again until it goes through,
  for at most `LOCK_PATIENCE_S`; `locked_s` says meanwhile for how long, and whoever would add work can be told to wait.
* Bounded: at most `queue_limit` batches wait; `room()` is how a caller waits for a place.

Threads: `append` and `room` belong to one asyncio loop; reading is possible from any thread; the writer and the syncing
thread are ours.

Source: design/architecture.md sections 3 and 4; failure-scenarios.md LOG-FIRST.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from eventsourcing.persistence import PersistenceError

from relaybroker.adapters.eventstore import integrity, recorders
from relaybroker.adapters.eventstore.errors import (
    JournalClosed,
    JournalFailed,
    JournalFull,
    LogLocked,
    LogRemoved,
    StateCorrupt,
)
from relaybroker.adapters.eventstore.mapper import Mapper
from relaybroker.adapters.eventstore.mark import Mark, MarkWriter
from relaybroker.adapters.eventstore.presence import Presence
from relaybroker.adapters.eventstore.reader import PAGE, LogReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eventsourcing.persistence import ApplicationRecorder, StoredEvent

    from relaybroker.domain.events import Recorded, Registry

_LOG = logging.getLogger(__name__)

QUEUE_LIMIT = 1024
"""Batches that may wait for the writer thread."""

LOCK_PATIENCE_S = 600.0
"""A foreign write lock that is held for longer is a failure like any other."""


class _Batch(NamedTuple):
    rows: list[StoredEvent]
    chain: bytes
    """Chain value after its last row."""
    written: asyncio.Future[int] | None
    durable: asyncio.Future[int]


class _Written(NamedTuple):
    """A group of batches that are committed and not synced."""

    batches: list[_Batch]
    positions: list[int]
    """After each of them."""


class Journal:
    """A durable, ordered, hash-chained log of recorded events. Made by `Journal.open`.

    `append` and `room` never block the loop. Opening, reading and closing do, for as long as the disk takes.
    """

    def __init__(
        self,
        recorder: ApplicationRecorder,
        mapper: Mapper,
        path: Path | None,
        *,
        on_failure: Callable[[BaseException], None],
        queue_limit: int,
    ) -> None:
        self._recorder = recorder
        self._mapper = mapper
        self._log = LogReader(recorder, mapper, path)
        self._on_failure = on_failure
        self._queue_limit = queue_limit

        if isinstance(recorder, recorders.JournalRecorder):
            _rely_on_what_is_written(recorder)
        self._position = self._written_upto = self._log.position
        chain = self._log.chain_at(self._position)
        if chain is None:
            raise StateCorrupt(path or Path(), f"the last record, at position {self._position}, has no chain value")
        self._chain = chain
        self._mark = MarkWriter(recorders.side_file(path, ".mark")) if path is not None else None
        if self._mark is not None and self._position:
            self._mark.move(Mark(self._position, chain))

        # Loop side. `_unsettled` counts batches that are not durable, so it bounds the queue, the commit and the fsync
        # under way.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._unsettled = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

        # Shared with the two threads, under `_arrived`.
        self._arrived = threading.Condition()
        self._queue: deque[_Batch] = deque()
        self._unsynced: deque[_Written] = deque()
        self._closing = False
        self._has_written_all = False
        self._failure: BaseException | None = None
        self._path = path
        self._locked_since: float | None = None
        self._presence = Presence(path) if path is not None else None

        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._syncer = threading.Thread(target=self._make_durable, name="journal sync", daemon=True)
        self._writer.start()
        self._syncer.start()

    @classmethod
    def open(
        cls,
        path: str | None,
        *,
        registry: Registry,
        on_failure: Callable[[BaseException], None],
        queue_limit: int = QUEUE_LIMIT,
    ) -> Self:
        """The journal at `path`, made when there is none, checked when there is one. Hold the `StateLock` first.

        Args:
            path: the database file; None keeps the log in memory.
            registry: the events, with their earlier forms.
            on_failure: called once, on the loop that appends, with the cause, when the journal has failed for good.
            queue_limit: batches that may wait.

        Raises:
            StateCorrupt: the stored log is damaged or has lost its end; nothing was changed.
            CorruptEvent: a record is damaged; nothing was changed.
        """
        mapper = Mapper(registry)
        if path is None:
            return cls(recorders.popo(), mapper, None, on_failure=on_failure, queue_limit=queue_limit)
        file = Path(path)
        if file.exists():
            integrity.check_before_open(file, mapper)
        else:
            recorders.create_sqlite(file)
        recorder = recorders.open_sqlite(file)
        try:
            return cls(recorder, mapper, file, on_failure=on_failure, queue_limit=queue_limit)
        except BaseException:
            recorder.close()
            raise

    @property
    def position(self) -> int:
        """Position of the last durable record; 0 for an empty log."""
        return self._position

    @property
    def written(self) -> int:
        """Position of the last written record, durable or not; 0 for an empty log."""
        return self._written_upto

    @property
    def waiting(self) -> int:
        """Batches that are not durable yet."""
        return self._unsettled

    def locked_s(self) -> float:
        """For how many seconds the writer has waited for a lock that another program holds; 0 when it does not wait."""
        since = self._locked_since
        return 0.0 if since is None else time.monotonic() - since

    def check_presence(self) -> None:
        """Whether the log's files are where they were opened. Blocks for a look at the directory.

        Raises:
            LogRemoved: one of them is not; stop writing. `close` puts back what is missing.
        """
        if self._presence is not None and not self._closing and (what := self._presence.missing()):
            raise LogRemoved(self._path or Path(), what)

    @property
    def reader(self) -> LogReader:
        """The log, with what is written and not yet durable; readable from any thread until the journal is closed."""
        return self._log

    def append(self, batch: Sequence[Recorded], written: asyncio.Future[int] | None = None) -> asyncio.Future[int]:
        """Queue `batch`; the future resolves with the position of its last record once that is durable.

        An empty batch is a barrier: it resolves when everything before it is durable.

        Args:
            batch: the records, in order.
            written: resolves likewise, before, as soon as the records survive the end of every process.

        Raises:
            NotRecordable: an event would not read back equal; nothing was queued.
            UnknownTopic: an event is not registered; nothing was queued.
            JournalFull: the caller did not wait for `room()`; nothing was queued.

        The futures raise `JournalClosed` or `JournalFailed`.
        """
        loop = self._bind_loop()
        if self._unsettled >= self._queue_limit:
            raise JournalFull(f"{self._queue_limit} batches are waiting")
        rows, chain = [], self._chain
        for recorded in batch:
            row, chain = self._mapper.to_stored(recorded, chain)
            rows.append(row)
        future: asyncio.Future[int] = loop.create_future()
        with self._arrived:
            if (refusal := self._refusal()) is not None:
                for refused in (future, written):
                    if refused is not None:
                        refused.set_exception(refusal)
                return future
            self._chain = chain
            self._unsettled += 1
            self._queue.append(_Batch(rows, chain, written, future))
            self._arrived.notify_all()
        return future

    async def room(self) -> None:
        """Return when `append` will take a batch; the caller appends before its next await.

        Raises:
            JournalClosed, JournalFailed: it never will.
        """
        loop = self._bind_loop()
        while True:
            with self._arrived:
                if (refusal := self._refusal()) is not None:
                    raise refusal
            if self._unsettled < self._queue_limit:
                return
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    def read(self, after: int = 0, upto: int | None = None, page: int = PAGE) -> Iterator[tuple[int, Recorded]]:
        """Written (position, record) pairs in log order; see `LogReader.read`."""
        return self._log.read(after, upto, page)

    def read_stream(self, stream: str) -> list[Recorded]:
        """Written records of one stream, oldest first; see `LogReader.read_stream`."""
        return self._log.read_stream(stream)

    def chain_at(self, position: int) -> bytes | None:
        """Chain value of the written record at `position`; see `LogReader.chain_at`."""
        return self._log.chain_at(position)

    def close(self) -> None:
        """Make durable what is queued, stop the threads, close the database. Blocks for one commit; may be repeated."""
        with self._arrived:
            self._closing = True
            self._arrived.notify_all()
        self._writer.join()
        self._syncer.join()
        if self._mark is None:
            return
        self._mark.close()
        self._mark = None
        assert isinstance(self._recorder, recorders.JournalRecorder)
        if self._presence is not None and self._presence.missing():
            self._put_back(self._presence, self._recorder)
            return
        _empty_wal(self._recorder)
        self._recorder.close()

    def _put_back(self, presence: Presence, recorder: recorders.JournalRecorder) -> None:
        try:
            presence.put_back(recorder)
        except (OSError, PersistenceError, sqlite3.Error) as error:
            _LOG.critical("the log at %s was removed and cannot be put back: %s", self._path, error)
        recorder.close()

    def _bind_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        assert self._loop is loop, "a journal belongs to one event loop"
        return loop

    def _refusal(self) -> Exception | None:
        if self._failure is not None:
            return self._failed()
        return JournalClosed("the journal is closed") if self._closing else None

    def _failed(self) -> JournalFailed:
        refusal = JournalFailed(f"the journal has failed and writes nothing any more: {self._failure}")
        refusal.__cause__ = self._failure
        return refusal

    # --- writer thread ------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        while batches := self._take():
            try:
                positions = self._commit_when_free(batches)
            except BaseException as error:  # noqa: BLE001 - it must end the journal, not only its thread
                self._fail(batches, error)
                break
            if not self._hand_over(_Written(batches, positions)):
                break
        with self._arrived:
            self._has_written_all = True
            self._arrived.notify_all()

    def _take(self) -> list[_Batch]:
        with self._arrived:
            self._arrived.wait_for(lambda: self._queue or self._closing)
            batches = list(self._queue)
            self._queue.clear()
            return batches

    def _hand_over(self, group: _Written) -> bool:
        """Say that a group is written, and have it made durable; False if the journal has failed meanwhile."""
        with self._arrived:
            if self._failure is not None:
                self._on_loop(self._settle_failed, group.batches, None)
                return False
            if any(batch.written is not None for batch in group.batches):
                self._on_loop(self._settle_written, group)
            self._unsynced.append(group)
            self._arrived.notify_all()
        return True

    def _commit_when_free(self, batches: list[_Batch]) -> list[int]:
        """Write one group; as long as another program holds the write lock, try again."""
        began = time.monotonic()
        try:
            while True:
                try:
                    return self._commit(batches)
                except recorders.DATABASE_ERRORS as error:
                    if not recorders.is_busy(error):
                        raise
                    waited = time.monotonic() - began
                    if self._locked_since is None:
                        _LOG.warning(
                            "another program holds the write lock of the log; nothing is accepted until it lets go"
                        )
                    self._locked_since = began
                    if self._closing or waited >= LOCK_PATIENCE_S:
                        raise LogLocked(self._path or Path(), waited) from error
        finally:
            if self._locked_since is not None:
                _LOG.warning("the write lock of the log was held by another program for %.1f s", self.locked_s())
                self._locked_since = None

    def _commit(self, batches: list[_Batch]) -> list[int]:
        """Write one group in one transaction; the position after each of its batches."""
        rows = [row for batch in batches for row in batch.rows]
        ids = (self._recorder.insert_events(rows) if rows else None) or ()
        positions = []
        written = 0
        position = self._written_upto
        for batch in batches:
            written += len(batch.rows)
            position = ids[written - 1] if written else position
            positions.append(position)
        self._written_upto = position
        return positions

    # --- syncing thread -----------------------------------------------------------------------------------------------

    def _make_durable(self) -> None:
        while groups := self._take_written():
            try:
                self._sync(groups[-1])
            except BaseException as error:  # noqa: BLE001 - as for the writer
                self._fail([batch for group in groups for batch in group.batches], error)
                with self._arrived:  # the writer adds none any more
                    late = [batch for group in self._unsynced for batch in group.batches]
                    self._unsynced.clear()
                self._on_loop(self._settle_failed, late, None)
                return
            for group in groups:
                self._on_loop(self._settle, group)

    def _take_written(self) -> list[_Written]:
        with self._arrived:
            self._arrived.wait_for(lambda: self._unsynced or self._has_written_all)
            groups = list(self._unsynced)
            self._unsynced.clear()
            return groups

    def _sync(self, last: _Written) -> None:
        """Make everything up to this group durable; an empty barrier costs nothing."""
        position = last.positions[-1]
        if position == self._position:
            return
        if isinstance(self._recorder, recorders.JournalRecorder):
            self._recorder.sync()
        self._position = position
        if self._mark is not None:
            self._mark.move(Mark(position, last.batches[-1].chain))

    # --- both ---------------------------------------------------------------------------------------------------------

    def _fail(self, batches: list[_Batch], error: BaseException) -> None:
        """Fail these batches and everything that is not written; what is written can still become durable."""
        with self._arrived:
            is_first = self._failure is None
            if is_first:
                self._failure = error
            batches += self._queue
            self._queue.clear()
        self._on_loop(self._settle_failed, batches, error if is_first else None)

    def _on_loop(self, callback: Callable[..., None], *arguments: object) -> None:
        loop = self._loop
        assert loop is not None, "batches come from a loop"
        try:
            loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            if not loop.is_closed():
                raise
            # Nobody is left to be told; what was written is in the log.

    # --- loop side ----------------------------------------------------------------------------------------------------

    def _settle_written(self, group: _Written) -> None:
        for batch, position in zip(group.batches, group.positions, strict=True):
            if batch.written is not None and not batch.written.done():
                batch.written.set_result(position)

    def _settle(self, group: _Written) -> None:
        for batch, position in zip(group.batches, group.positions, strict=True):
            if not batch.durable.done():
                batch.durable.set_result(position)
        self._make_room(len(group.batches))

    def _settle_failed(self, batches: list[_Batch], cause: BaseException | None) -> None:
        for batch in batches:
            for future in (batch.written, batch.durable):
                if future is not None and not future.done():
                    future.set_exception(self._failed())
                    future.exception()  # told by `on_failure`, also where nobody waits for this future any more
        self._make_room(len(batches))
        if cause is not None:
            self._on_failure(cause)

    def _make_room(self, settled: int) -> None:
        self._unsettled -= settled
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)


def _rely_on_what_is_written(recorder: recorders.JournalRecorder) -> None:
    """Get to the disk what a killed broker wrote.

    A kernel says once that a write-back failed; the next fsync of the same pages succeeds and writes nothing. So the WAL is synced, and
    then moved: what is read from it is written again, into the database.
    """
    recorder.sync()
    _empty_wal(recorder)


def _empty_wal(recorder: recorders.JournalRecorder) -> None:
    try:
        recorder.checkpoint()
    except (PersistenceError, sqlite3.Error) as error:
        _LOG.warning("the journal's WAL stays as it is: %s", error)
