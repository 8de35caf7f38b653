"""`kill -9` of a real writer, torn and damaged write-ahead logs, and a disk that is full. About 10 seconds."""

from __future__ import annotations

import random
import shutil

import pytest

from relaybroker.adapters.eventstore.errors import StateCorrupt
from relaybroker.adapters.eventstore.integrity import verify


def contents(directory):
    return {file.name: file.read_bytes() for file in directory.iterdir()}


async def test_whatever_was_written_before_a_kill_is_there_after_it(tmp_path, run, open_journal, open_reader):
    """F132, LOG-FIRST: ten kills at random moments, one file; no fsync is waited for."""
    path = tmp_path / "journal.db"
    answered = 0
    for _ in range(10):
        writer = run("write_until_killed", path)
        for _ in range(random.randint(1, 60)):
            answered = int(writer.stdout.readline())
        writer.kill()
        *lines, _torn = writer.stdout.read().split("\n")
        answered = max([answered, *map(int, lines)])

        before = contents(tmp_path)
        reader = open_reader(path)
        assert reader.position >= answered
        assert verify(reader) == []
        reader.close()
        assert contents(tmp_path) == before

        journal = open_journal(path)
        held = [record.version for _, record in journal.read()]
        assert held == list(range(1, journal.position + 1))
        assert len(held) >= answered
        journal.close()


@pytest.fixture
def killed(tmp_path, run):
    """A directory as a killed writer left it: 8 records in the WAL, and the WAL's size after each."""
    home = tmp_path / "killed"
    home.mkdir()
    writer = run("write_then_die", home / "journal.db", 8)
    sizes = [int(writer.stdout.readline().split()[1]) for _ in range(8)]
    assert writer.stdout.readline() == "ready\n"
    marks = (home / "journal.db.mark").read_bytes()
    writer.communicate("die\n")
    assert (home / "journal.db.mark").read_bytes() == marks
    return home, sizes


@pytest.fixture
def mark_of_seven(tmp_path, run):
    """The mark as it was when the eighth record was still on its way: that of the same log, one record shorter."""
    home = tmp_path / "seven"
    home.mkdir()
    run("write_then_die", home / "journal.db", 7).communicate("stop\n")
    return (home / "journal.db.mark").read_bytes()


async def test_a_torn_tail_is_recognised_and_all_before_it_is_intact(tmp_path, killed, mark_of_seven, open_journal):
    """F132: the writer dies in the middle of writing its eighth record, at any byte."""
    home, sizes = killed
    for cut in range(sizes[6], sizes[7], 97):
        torn = tmp_path / f"torn-{cut}"
        shutil.copytree(home, torn)
        with (torn / "journal.db-wal").open("r+b") as wal:
            wal.truncate(cut)
        (torn / "journal.db.mark").write_bytes(mark_of_seven)
        journal = open_journal(torn / "journal.db")
        assert [record.event.detail for _, record in journal.read()] == [f"note {n}" for n in range(1, 8)]
        journal.close()


async def test_what_a_killed_broker_wrote_is_written_again_by_the_next(killed, open_journal):
    """ADR-0082: an fsync that failed is reported once, and the next one succeeds without writing; so a start does not rely on it alone."""
    home, sizes = killed
    assert (home / "journal.db-wal").stat().st_size == sizes[-1] > 0
    journal = open_journal(home / "journal.db")
    assert (home / "journal.db-wal").stat().st_size == 0
    assert len([*journal.read()]) == 8
    journal.close()


async def test_a_wal_that_lost_durable_records_is_refused_and_kept(tmp_path, killed, open_journal, open_reader):
    """F134, B12: SQLite alone would silently forget everything behind a damaged frame."""
    home, sizes = killed
    whole = (home / "journal.db-wal").read_bytes()
    flips = random.Random(1).sample(range(32, sizes[7]), 60)
    damages = [(f"flip-{place}", whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]) for place in flips]
    damages += [(f"cut-{sizes[n]}", whole[: sizes[n]]) for n in range(7)] + [("empty", b"")]
    for name, damaged in damages:
        copy = tmp_path / name
        shutil.copytree(home, copy)
        (copy / "journal.db-wal").write_bytes(damaged)
        before = contents(copy)
        with pytest.raises(StateCorrupt, match="position 8 had been made durable"):
            open_journal(copy / "journal.db")
        assert contents(copy) == before, name
        findings = verify(open_reader(copy / "journal.db"))
        assert [finding.kind for finding in findings] == ["mark"], name


async def test_a_wal_that_was_deleted_is_missed(killed, open_journal):
    home, _ = killed
    (home / "journal.db-wal").unlink()
    (home / "journal.db-shm").unlink()
    with pytest.raises(StateCorrupt, match="ends at position 0, but position 8"):
        open_journal(home / "journal.db")


async def test_a_full_disk_fails_the_writer_once_and_costs_nothing_that_was_answered(tmp_path, run, open_journal):
    path = tmp_path / "journal.db"
    output, _ = run("write_to_a_small_disk", path, 200_000).communicate()
    *positions, failed, still = output.splitlines()
    assert failed.split() == ["failed", "OperationalError", "1"]
    assert still == "still failed 1"
    assert [int(position) for position in positions] == list(range(1, len(positions) + 1))
    journal = open_journal(path)
    assert journal.position in {len(positions), len(positions) + 1}
    assert [record.version for _, record in journal.read()] == list(range(1, journal.position + 1))
