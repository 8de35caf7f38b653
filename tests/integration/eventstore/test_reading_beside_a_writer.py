"""Reading a log from another process while its broker starts, runs, stops and dies. About 3 seconds."""

from __future__ import annotations

import shutil

import pytest

from relaybroker.adapters.eventstore.integrity import verify


def names(directory):
    return sorted(file.name for file in directory.iterdir())


STOPPED = ["journal.db", "journal.db.mark"]


@pytest.fixture
def path(tmp_path, run):
    """A log of 5 records whose writer was stopped."""
    home = tmp_path / "state"
    home.mkdir()
    run("write_then_die", home / "journal.db", 5).communicate("stop\n")
    return home / "journal.db"


def write(run, path, count):
    """A writer that has appended `count` records and lives."""
    writer = run("write_then_die", path, count)
    while writer.stdout.readline() != "ready\n":
        assert writer.poll() is None
    return writer


def test_a_reader_follows_a_broker_through_start_run_and_stop(path, run, open_reader):
    reader = open_reader(path)
    assert reader.position == 5
    assert names(path.parent) == STOPPED

    writer = write(run, path, 5)
    assert [position for position, _ in reader.read()] == list(range(1, 11))
    writer.communicate("stop\n")
    assert [position for position, _ in reader.read(after=8)] == [9, 10]

    writer = write(run, path, 2000)
    assert [position for position, _ in reader.read(after=2000)] == list(range(2001, 2011))
    writer.communicate("stop\n")
    assert writer.returncode == 0
    assert verify(reader) == []


def test_a_reader_does_not_change_what_a_running_writer_does(path, run, open_reader):
    writer = write(run, path, 10)
    reader = open_reader(path)
    seen = reader.read(page=3)
    next(seen)
    other = open_reader(path)
    assert other.position == 15
    reader.close()
    other.close()
    writer.communicate("stop\n")
    assert names(path.parent) == STOPPED


def test_a_reader_that_asks_only_after_the_broker_stopped_gets_its_answer(path, run, open_reader):
    """The WAL and its index, there when it was opened, are gone when it first looks."""
    writer = write(run, path, 1)
    reader = open_reader(path)
    writer.communicate("stop\n")
    assert reader.position == 6
    assert names(path.parent) == STOPPED


def test_a_reader_of_a_killed_broker_leaves_its_files_and_follows_the_next_one(path, run, open_reader):
    write(run, path, 3).communicate("die\n")
    files = names(path.parent)
    assert "journal.db-wal" in files
    before = {name: (path.parent / name).read_bytes() for name in files}
    reader = open_reader(path)
    assert [position for position, _ in reader.read()] == list(range(1, 9))
    assert {name: (path.parent / name).read_bytes() for name in names(path.parent)} == before

    writer = write(run, path, 2000)
    assert reader.position == 2008
    assert verify(reader) == []
    writer.communicate("die\n")
    assert len(list(reader.read())) == 2008


def test_a_copied_log_without_its_index_is_read_and_left_as_it_is(tmp_path, path, run, open_reader):
    write(run, path, 3).communicate("die\n")
    copy = tmp_path / "copy"
    copy.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(path.with_name(path.name + suffix), copy)
    reader = open_reader(copy / "journal.db")
    assert [position for position, _ in reader.read()] == list(range(1, 9))
    reader.close()
    assert names(copy) == ["journal.db", "journal.db-wal"]


def test_reading_nothing_makes_nothing(tmp_path, open_reader):
    with pytest.raises(FileNotFoundError):
        open_reader(tmp_path / "journal.db")
    assert names(tmp_path) == []
