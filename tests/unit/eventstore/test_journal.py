"""The writer: order, group commit, back-pressure, closing and fail-stop. About 2 seconds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import sqlite3
import stat
import threading
from unittest.mock import Mock

import pytest
from blockbuster import blockbuster_ctx
from eventsourcing.persistence import IntegrityError, OperationalError

from relaybroker.adapters.eventstore import journal as journal_module
from relaybroker.adapters.eventstore import recorders
from relaybroker.adapters.eventstore.errors import (
    JournalClosed,
    JournalFailed,
    JournalFull,
    LogLocked,
    NotRecordable,
    StateCorrupt,
)
from relaybroker.domain.events import FrameNoted, Recorded
from tests.waiting import WAIT_S


@pytest.fixture(params=["sqlite", "popo"])
def journal(request, tmp_path, open_journal):
    return open_journal(tmp_path / "journal.db" if request.param == "sqlite" else None)


class Gate:
    """Holds the journal's commits back, so that a test decides what waits together."""

    def __init__(self, journal):
        self.groups = []
        self._open = threading.Event()
        self._entered = threading.Event()
        insert = journal._recorder.insert_events

        def insert_events(rows):
            self._entered.set()
            assert self._open.wait(WAIT_S)
            self.groups.append(len(rows))
            return insert(rows)

        journal._recorder.insert_events = insert_events

    async def commit_under_way(self):
        assert await asyncio.to_thread(self._entered.wait, 30)

    def open(self):
        self._open.set()


async def test_a_future_resolves_with_the_position_of_its_batch(journal, record):
    assert journal.position == 0
    assert await journal.append([record(1), record(2)]) == 2
    assert await journal.append([record(3)]) == 3
    assert journal.position == 3


async def test_records_are_read_back_in_log_order(journal, record):
    batch = [record(v, str(v), stream=f"delivery:{v % 3}") for v in range(1, 25)]
    await journal.append(batch)
    assert list(journal.read(page=5)) == list(enumerate(batch, 1))
    assert list(journal.read(after=20, page=2)) == list(enumerate(batch, 1))[20:]
    assert list(journal.read(after=3, upto=9, page=4)) == list(enumerate(batch, 1))[3:9]
    assert list(journal.read(after=24)) == []
    assert journal.read_stream("delivery:1") == [r for r in batch if r.stream == "delivery:1"]
    assert journal.read_stream("delivery:none") == []


async def test_an_empty_batch_waits_for_everything_before_it(journal, record):
    assert await journal.append([]) == 0
    first = journal.append([record(1)])
    assert await journal.append([]) == 1
    assert first.done()


async def test_batches_that_wait_together_are_one_commit_and_resolve_in_order(journal, record):
    gate = Gate(journal)
    resolved = []
    futures = [journal.append([record(1)])]
    await gate.commit_under_way()
    futures += [journal.append([record(2 * n), record(2 * n + 1)]) for n in range(1, 11)]
    for future in futures:
        future.add_done_callback(lambda done: resolved.append(done.result()))
    gate.open()
    assert await asyncio.gather(*futures) == [1, *range(3, 22, 2)]
    assert gate.groups == [1, 20]
    assert resolved == sorted(resolved)


async def test_nothing_is_answered_before_its_commit(journal, record):
    gate = Gate(journal)
    future = journal.append([record(1)])
    await gate.commit_under_way()
    assert not future.done()
    assert journal.position == 0
    assert list(journal.read()) == []
    gate.open()
    await future


async def test_a_caller_that_gave_up_does_not_disturb_the_others(journal, record):
    gate = Gate(journal)
    first, second = journal.append([record(1)]), journal.append([record(2)])
    first.cancel()
    gate.open()
    assert await second == 2
    assert [position for position, _ in journal.read()] == [1, 2]


async def test_the_queue_is_bounded_and_room_waits_for_a_place(open_journal, record):
    journal = open_journal(None, queue_limit=3)
    gate = Gate(journal)
    for version in (1, 2, 3):
        await journal.room()
        journal.append([record(version)])
    with pytest.raises(JournalFull, match="3 batches"):
        journal.append([record(4)])
    waiting = asyncio.create_task(journal.room())
    given_up = asyncio.create_task(journal.room())
    await gate.commit_under_way()
    assert not waiting.done()
    given_up.cancel()
    gate.open()
    await waiting
    assert await journal.append([record(4)]) == 4


async def test_an_event_that_cannot_be_recorded_leaves_the_journal_as_it_was(journal, record):
    await journal.append([record(1)])
    bad = Recorded(stream="s", version=9, at=0.0, causation="", correlation="", event=FrameNoted(frame_type=3))
    with pytest.raises(NotRecordable):
        journal.append([record(2), bad])
    assert await journal.append([record(2)]) == 2
    assert len(list(journal.read())) == 2


async def test_close_writes_what_waits_and_refuses_what_comes_later(journal, record, tmp_path, open_journal):
    futures = [journal.append([record(version)]) for version in range(1, 51)]
    journal.close()
    assert journal.position == 50
    assert await asyncio.gather(*futures) == list(range(1, 51))
    with pytest.raises(JournalClosed):
        await journal.append([record(51)])
    with pytest.raises(JournalClosed):
        await journal.room()
    journal.close()


async def test_a_version_conflict_stops_the_journal_for_good(journal, record, failures):
    await journal.append([record(1)])
    gate = Gate(journal)
    gate.open()
    good, bad, later = journal.append([record(2)]), journal.append([record(1)]), journal.append([record(3)])
    for future in (bad, later):
        with pytest.raises(JournalFailed) as caught:
            await future
        assert isinstance(caught.value.__cause__, IntegrityError)
    with pytest.raises(JournalFailed):
        await journal.append([record(4)])
    with pytest.raises(JournalFailed):
        await journal.room()
    assert [type(failure) for failure in failures] == [IntegrityError]
    # `good` shared its commit with the bad one, or was committed before it; either way the answer is the truth.
    held = [r.version for _, r in journal.read()]
    assert held == ([1, 2] if good.exception() is None else [1])
    journal.close()
    assert len(failures) == 1


async def test_waiting_for_room_ends_when_the_journal_fails(open_journal, record, failures):
    journal = open_journal(None, queue_limit=2)
    await journal.append([record(1)])
    gate = Gate(journal)
    futures = [journal.append([record(1)]), journal.append([record(2)])]
    waiting = asyncio.create_task(journal.room())
    await gate.commit_under_way()
    gate.open()
    with pytest.raises(JournalFailed):
        await waiting
    assert all(isinstance(result, JournalFailed) for result in await asyncio.gather(*futures, return_exceptions=True))
    assert len(failures) == 1


async def append_one_by_one(journal, records):
    for one in records:
        await journal.append([one])


async def test_a_full_database_stops_the_journal_and_keeps_what_was_durable(tmp_path, open_journal, record, failures):
    """Disk full, by SQLite's own page limit."""
    path = tmp_path / "journal.db"
    journal = open_journal(path)
    await journal.append([record(1)])
    with journal._recorder.datastore.get_connection(commit=True) as connection:
        connection.cursor().execute("PRAGMA max_page_count=12")
    with pytest.raises(JournalFailed, match="full") as caught:
        await append_one_by_one(journal, [record(version, "x" * 2000) for version in range(2, 100)])
    assert isinstance(caught.value.__cause__, OperationalError)
    assert [type(failure) for failure in failures] == [OperationalError]
    durable = journal.position
    assert 1 < durable < 30
    journal.close()

    again = open_journal(path)
    assert again.position == durable
    assert [position for position, _ in again.read()] == list(range(1, durable + 1))
    assert await again.append([record(durable + 1)]) == durable + 1


async def test_the_log_goes_on_where_it_ended(tmp_path, open_journal, record):
    for version in (1, 2, 3):
        journal = open_journal(tmp_path / "journal.db")
        assert journal.position == version - 1
        assert await journal.append([record(version)]) == version
        journal.close()
    journal = open_journal(tmp_path / "journal.db")
    assert [r.version for _, r in journal.read()] == [1, 2, 3]


class SyncGate:
    """Holds the journal's fsyncs back."""

    def __init__(self, journal):
        self.syncs = 0
        self.open = threading.Event()
        sync = journal._recorder.sync

        def held():
            assert self.open.wait(WAIT_S)
            self.syncs += 1
            sync()

        journal._recorder.sync = held


def written_and_durable(journal, batch):
    written = asyncio.get_running_loop().create_future()
    return written, journal.append(batch, written)


async def test_a_batch_is_written_before_it_is_durable_and_the_writer_waits_for_no_fsync(
    tmp_path, open_journal, record
):
    """LOG-FIRST; ADR-0082: another process sees it; the journal says that it is not on disk."""
    path = tmp_path / "journal.db"
    journal = open_journal(path)
    gate = SyncGate(journal)
    appended = []
    for version in range(1, 6):
        appended.append(written_and_durable(journal, [record(version)]))
        assert await appended[-1][0] == version
    assert [durable.done() for _, durable in appended] == [False] * 5
    assert journal.position == 0
    with contextlib.closing(recorders.open_reader(path)) as reader:
        assert reader.max_notification_id() == 5
    gate.open.set()
    assert await asyncio.gather(*(durable for _, durable in appended)) == [1, 2, 3, 4, 5]
    assert journal.position == 5
    assert gate.syncs <= 2  # of the first group, and of everything that was written meanwhile


async def test_a_failed_fsync_fails_all_that_is_not_durable_and_everything_after_it(
    tmp_path, open_journal, record, failures
):
    journal = open_journal(tmp_path / "journal.db")
    await journal.append([record(1)])
    failing = threading.Event()

    def fail():
        assert failing.wait(WAIT_S)
        raise OSError(5, "Input/output error")

    journal._recorder.sync = fail
    first, second = written_and_durable(journal, [record(2)]), written_and_durable(journal, [record(3)])
    assert [await first[0], await second[0]] == [2, 3]
    failing.set()
    for durable in (first[1], second[1]):
        with pytest.raises(JournalFailed, match="Input/output error"):
            await durable
    with pytest.raises(JournalFailed):
        await journal.append([record(4)])
    assert [type(failure) for failure in failures] == [OSError]
    assert journal.position == 1


async def test_what_is_written_while_a_failed_fsync_ends_the_journal_fails_too(
    tmp_path, open_journal, record, failures, monkeypatch
):
    journal = open_journal(tmp_path / "journal.db")
    failing, go_on = threading.Event(), threading.Event()

    def sync():
        raise OSError(5, "Input/output error")

    fail = journal._fail

    def fail_later(batches, error):
        failing.set()
        assert go_on.wait(WAIT_S)
        fail(batches, error)

    journal._recorder.sync = sync
    monkeypatch.setattr(journal, "_fail", fail_later)
    first = journal.append([record(1)])
    assert await asyncio.to_thread(failing.wait, WAIT_S)
    written, late = written_and_durable(journal, [record(2)])
    assert await written == 2
    go_on.set()
    for durable in (first, late):
        with pytest.raises(JournalFailed, match="Input/output error"):
            await asyncio.wait_for(durable, WAIT_S)
    assert [type(failure) for failure in failures] == [OSError]


async def test_what_a_killed_writer_left_is_on_disk_before_it_is_relied_on(tmp_path, open_journal, record, monkeypatch):
    """It was written, and perhaps never synced."""
    path = tmp_path / "journal.db"
    first = open_journal(path)
    await first.append([record(1)])
    first.close()
    synced = []
    sync = recorders.JournalRecorder.sync
    monkeypatch.setattr(
        recorders.JournalRecorder, "sync", lambda self: (sync(self), synced.append(self.max_notification_id()))
    )
    open_journal(path)
    assert synced == [1]


async def test_a_sync_is_of_the_file_that_is_written(tmp_path, open_journal, record):
    """A checkpoint leaves the WAL the same file."""
    path = tmp_path / "journal.db"
    journal = open_journal(path)
    await journal.append([record(1)])
    journal._recorder.checkpoint()
    await journal.append([record(2)])
    assert os.path.samestat(os.fstat(journal._recorder._wal), (tmp_path / "journal.db-wal").stat())


async def test_commits_write_ahead_and_checkpoints_sync(tmp_path, open_journal):
    journal = open_journal(tmp_path / "journal.db")
    with journal._recorder.datastore.get_connection(commit=True) as connection:
        cursor = connection.cursor()
        answers = {}
        for name in ("journal_mode", "synchronous"):
            cursor.execute(f"PRAGMA {name}")
            answers[name] = cursor.fetchone()[0]
    assert answers == {"journal_mode": "wal", "synchronous": 1}


@pytest.mark.parametrize("umask", [0o000, 0o277])
async def test_files_are_ours_alone_whatever_the_umask(tmp_path, open_journal, record, umask):
    before = os.umask(umask)
    try:
        journal = open_journal(tmp_path / "journal.db")
        await journal.append([record(1)])
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("journal.db", "journal.db-wal", "journal.db-shm", "journal.db.mark"), 0o600)


async def test_a_database_that_others_could_read_is_closed_to_them(tmp_path, open_journal, record):
    path = tmp_path / "journal.db"
    open_journal(path).close()
    path.chmod(0o644)
    open_journal(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["with space.db", "a?mode=memory&b.db", ":memory:x.db", "per%63ent#.db", "ünï.db"])
async def test_any_file_name_is_only_a_file_name(tmp_path, open_journal, record, name):
    path = tmp_path / name
    journal = open_journal(path)
    await journal.append([record(1)])
    journal.close()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([name, name + ".mark"])
    assert open_journal(path).position == 1


async def test_a_creation_that_was_killed_is_begun_again(tmp_path, open_journal, record):
    (tmp_path / "journal.db.new").write_bytes(b"half of a database")
    (tmp_path / "journal.db.new-wal").write_bytes(b"half of its wal")
    journal = open_journal(tmp_path / "journal.db")
    assert await journal.append([record(1)]) == 1


@pytest.mark.parametrize("left", ["-wal", ".mark", ".snapshot"])
def test_a_missing_database_beside_its_files_is_a_lost_log_and_not_a_new_one(tmp_path, open_journal, left):
    """B12: it never starts empty."""
    (tmp_path / f"journal.db{left}").write_bytes(b"something")
    with pytest.raises(StateCorrupt, match=rf"journal\.db{left} is there"):
        open_journal(tmp_path / "journal.db")
    assert [path.name for path in tmp_path.iterdir()] == [f"journal.db{left}"]


async def test_a_foreign_reader_at_close_costs_nothing(tmp_path, open_journal, record, caplog):
    path = tmp_path / "journal.db"
    journal = open_journal(path)
    await journal.append([record(1)])
    foreign = sqlite3.connect(path, isolation_level=None)
    foreign.execute("BEGIN")
    assert foreign.execute("SELECT count(*) FROM stored_events").fetchone() == (1,)
    await journal.append([record(2)])
    with caplog.at_level(logging.WARNING):
        await asyncio.to_thread(journal.close)
    foreign.close()
    assert open_journal(path).position == 2


def test_a_loop_that_ended_before_its_answer_costs_no_record(tmp_path, open_journal, record):
    """The broker's loop is gone when the commit returns: the record is in the log, and closing does not hang."""
    journal = open_journal(tmp_path / "journal.db")
    gate = Gate(journal)

    async def append_and_leave():
        journal.append([record(1)])
        await gate.commit_under_way()

    asyncio.run(append_and_leave())
    gate.open()
    journal.close()
    assert open_journal(tmp_path / "journal.db").position == 1


async def test_whatever_ends_a_commit_fails_the_journal_and_not_only_its_thread(open_journal, record, failures):
    journal = open_journal(None)

    def out_of_memory(rows):
        raise MemoryError

    journal._recorder.insert_events = out_of_memory
    with pytest.raises(JournalFailed):
        await journal.append([record(1)])
    assert [type(failure) for failure in failures] == [MemoryError]


async def test_appending_never_blocks_the_loop(tmp_path, open_journal, record):
    journal = open_journal(tmp_path / "journal.db")
    with blockbuster_ctx():
        for version in range(1, 200):
            await journal.room()
            future = journal.append([record(version, "x" * 500)])
        assert await future == 199


async def test_closing_under_a_reading_thread_ends_its_reading_and_not_the_process(tmp_path, open_journal, record):
    """SQLite connections closed under a thread that uses them crash the process."""
    journal = open_journal(tmp_path / "journal.db")
    await journal.append([record(version) for version in range(1, 501)])
    reading = threading.Barrier(5)
    ends = []

    def read_on():
        reading.wait(WAIT_S)
        try:
            while True:
                assert len(list(journal.read(page=50))) == 500
        except JournalClosed:
            ends.append("closed")

    threads = [threading.Thread(target=read_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    reading.wait(WAIT_S)
    journal.close()
    for thread in threads:
        thread.join(30)
    assert ends == ["closed"] * 4


@contextlib.contextmanager
def foreign_lock(path):
    """What a database shell in BEGIN IMMEDIATE, or a backup, does."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def until_locked(journal):
    async with asyncio.timeout(60):
        while not journal.locked_s():
            await asyncio.sleep(0.01)


async def test_a_foreign_write_lock_is_waited_for_and_nothing_is_lost(tmp_path, open_journal, record, failures):
    """openrundev/openrun#100: `database is locked` takes the server down."""
    path = tmp_path / "journal.db"
    journal = open_journal(path)
    await journal.append([record(1)])
    assert journal.locked_s() == 0
    with foreign_lock(path):
        waiting = [journal.append([record(2)]), journal.append([record(3), record(4)])]
        await until_locked(journal)
        assert not any(future.done() for future in waiting)
        assert [recorded.version for _, recorded in journal.read()] == [1], "reading goes on"
    async with asyncio.timeout(60):
        assert await asyncio.gather(*waiting) == [2, 4]
    assert journal.locked_s() == 0
    assert failures == []
    assert [recorded.version for _, recorded in journal.read()] == [1, 2, 3, 4]


async def test_a_foreign_write_lock_beyond_all_patience_is_a_failure_with_its_name(
    tmp_path, open_journal, record, failures, monkeypatch
):
    monkeypatch.setattr(journal_module, "LOCK_PATIENCE_S", 0.5)
    path = tmp_path / "journal.db"
    journal = open_journal(path)
    await journal.append([record(1)])
    with foreign_lock(path):
        with pytest.raises(JournalFailed, match="log_locked: another program"):
            await journal.append([record(2)])
        assert isinstance(failures[0], LogLocked)


async def test_a_journal_that_is_closed_under_a_foreign_lock_does_not_wait_for_it(tmp_path, open_journal, record):
    path = tmp_path / "journal.db"
    journal = open_journal(path)
    await journal.append([record(1)])
    with foreign_lock(path):
        waiting = journal.append([record(2)])
        await until_locked(journal)
        await asyncio.to_thread(journal.close)
        with pytest.raises(JournalFailed):
            await waiting
    assert [recorded.version for _, recorded in open_journal(path).read()] == [1]


async def test_a_log_that_another_program_has_locked_can_be_opened(tmp_path, open_journal, record):
    path = tmp_path / "journal.db"
    journal = open_journal(path)
    await journal.append([record(1)])
    journal.close()
    with foreign_lock(path):
        assert open_journal(path).position == 1


async def test_a_log_that_must_be_written_to_be_opened_says_who_is_in_the_way(
    tmp_path, open_journal, record, monkeypatch
):
    """After an upgrade views are made anew."""
    path = tmp_path / "journal.db"
    journal = open_journal(path)
    await journal.append([record(1)])
    journal.close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        (view,) = other.execute("SELECT name FROM sqlite_schema WHERE type = 'view' LIMIT 1").fetchone()
        other.execute(f"DROP VIEW {view}")
    monkeypatch.setattr(recorders, "OPEN_PATIENCE_S", 0.5)
    with foreign_lock(path), pytest.raises(LogLocked, match="write lock"):
        open_journal(path)
    assert open_journal(path).position == 1


async def test_an_fsync_that_fails_names_the_log_and_the_disk(tmp_path, open_journal, record, failures, monkeypatch):
    """The message is the last thing that the person in front of the broker reads."""
    journal = open_journal(tmp_path / "log.db")
    failed = OSError(errno.EIO, "Input/output error")
    monkeypatch.setattr(recorders.os, "fdatasync", Mock(side_effect=failed))
    with pytest.raises(JournalFailed):
        await journal.append([record(1)])
    [failure] = failures
    assert "the log does not get to the disk (Input/output error)" in str(failure)
    assert "log.db-wal" in str(failure)
