"""A log with an archive is one log: it reads, verifies and goes on as before, and a killed archiving costs nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import sqlite3
import stat
from contextlib import closing

import pytest

from relaybroker.adapters import private_files
from relaybroker.adapters.eventstore import archive, archive_index, archiving, recorders
from relaybroker.adapters.eventstore.archive import Archive
from relaybroker.adapters.eventstore.errors import StateCorrupt
from relaybroker.adapters.eventstore.integrity import verify
from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.adapters.eventstore.mapper import Mapper
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.domain.errors import CorruptLog
from relaybroker.domain.events import REGISTRY

EVENTS = 3000
MAPPER = Mapper(REGISTRY)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(archiving, "SEGMENT_EVENTS", 700)
    monkeypatch.setattr(archiving, "KEEP_EVENTS", 100)
    monkeypatch.setattr(archiving, "DELETE_EVENTS", 300)


def append(path, batch):
    async def run():
        journal = Journal.open(str(path), registry=REGISTRY, on_failure=pytest.fail)
        await journal.append(batch)
        journal.close()

    asyncio.run(run())


@pytest.fixture
def path(tmp_path, record, small):
    made = tmp_path / "journal-desk.sqlite"
    append(made, [record(version, f"note {version} " * 20, f"s:{version % 9}") for version in range(1, EVENTS + 1)])
    return made


def read(path):
    reader = LogReader.open(path, registry=REGISTRY)
    try:
        return [recorded for _, recorded in reader.read()], verify(reader)
    finally:
        reader.close()


def test_an_archived_log_says_the_same_and_its_database_is_smaller(path):
    before, size = read(path)[0], path.stat().st_size
    moved = archiving.move(path, MAPPER, keep=500)
    assert (moved.events, moved.last) == (EVENTS - 500, EVENTS - 500)
    assert [segment.last for segment in Archive.of(path).segments] == [700, 1400, 2100, 2500]
    assert read(path) == (before, [])
    assert path.stat().st_size < size / 3


def test_nothing_is_archived_that_is_not_on_disk(path, monkeypatch):
    """ADR-0082: a broker that works has written more than it has synced."""

    def sync(_recorder):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(recorders.JournalRecorder, "sync", sync)
    with pytest.raises(OSError, match="Input/output error"):
        archiving.move(path, MAPPER, keep=500)
    assert Archive.of(path).segments == ()


def test_an_archived_log_goes_on_and_is_archived_further(path, record):
    archiving.move(path, MAPPER, keep=500)
    append(path, [record(version, "later", "s:1") for version in range(EVENTS + 1, EVENTS + 401)])
    moved = archiving.move(path, MAPPER, keep=100)
    assert (moved.events, moved.last) == (800, EVENTS + 300)
    records, findings = read(path)
    assert [recorded.version for recorded in records] == list(range(1, EVENTS + 401))
    assert findings == []


def test_nothing_is_archived_of_what_must_stay(path):
    assert archiving.move(path, MAPPER, keep=EVENTS).events == 0
    assert archiving.move(path, MAPPER, keep=0).last == EVENTS - 100
    assert archiving.move(path, MAPPER, keep=0).events == 0


def test_any_part_can_be_read_across_the_seam(path):
    archiving.move(path, MAPPER, keep=500)
    reader = LogReader.open(path, registry=REGISTRY)
    for after, upto in ((0, 10), (690, 710), (2499, 2501), (2500, 2500), (2600, 2610), (2990, None)):
        expected = list(range(after + 1, (EVENTS if upto is None else upto) + 1))
        assert [position for position, _ in reader.read(after, upto)] == expected
    assert [item.version for item in reader.read_at([5, 2500, 2501])] == [5, 2500, 2501]
    assert reader.chain_at(2500) == reader.archive.chain
    assert reader.position == EVENTS
    reader.close()


def test_a_line_of_the_archive_is_json(path):
    archiving.move(path, MAPPER, keep=500)
    (first, *_) = sorted(path.with_suffix(".archive").glob("*.gz"))
    with gzip.open(first, "rt") as file:
        line = json.loads(next(file))
    assert (line["position"], line["topic"]) == (1, "link.frame_noted.v1")
    assert line["state"]["body"]["detail"].startswith("note 1 ")


@pytest.mark.parametrize("instant", ["segment written", "listed", "half deleted"])
def test_a_killed_archiving_costs_nothing(path, monkeypatch, instant):
    """Killed between any two of its steps: the log says the same, and the next archiving completes it."""
    before = read(path)[0]

    class Killed(Exception):  # noqa: N818
        pass

    def killed(*_):
        raise Killed

    if instant == "segment written":
        monkeypatch.setattr(archiving.private_files, "write_private", killed)
    elif instant == "listed":
        monkeypatch.setattr(recorders.JournalRecorder, "delete_upto", killed)
    else:
        whole = recorders.JournalRecorder.delete_upto
        monkeypatch.setattr(
            recorders.JournalRecorder, "delete_upto", lambda self, _, page: [whole(self, 450, page), killed()]
        )
    with pytest.raises(Killed):
        archiving.move(path, MAPPER, keep=500)
    assert read(path) == (before, [])
    monkeypatch.undo()
    archiving.move(path, MAPPER, keep=1000)
    assert read(path) == (before, [])
    reader = recorders.open_reader(path)
    assert reader.query("SELECT min(rowid) AS first FROM stored_events")[0]["first"] == Archive.of(path).last + 1
    reader.close()


def damage_segment(directory):
    (first, *_) = sorted(directory.glob("*.gz"))
    with gzip.open(first, "rb") as file:
        whole = file.read()
    with gzip.open(first, "wb") as file:
        file.write(whole.replace(b"note 7 ", b"note 8 "))


def cut_segment(directory):
    (first, *_) = sorted(directory.glob("*.gz"))
    first.write_bytes(first.read_bytes()[:-100])


DAMAGES = {
    "a segment changed": damage_segment,
    "a segment cut off": cut_segment,
    "a segment gone": lambda directory: next(iter(sorted(directory.glob("*.gz")))).unlink(),
    "the list gone": lambda directory: (directory / "archive.json").unlink(),
    "the list damaged": lambda directory: (directory / "archive.json").write_text("{"),
    "everything gone": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_archive_is_refused_loudly(path, damage):
    """KEEP-BYTES: a log without its beginning is no log."""
    archiving.move(path, MAPPER, keep=500)
    damage(path.with_suffix(".archive"))
    with pytest.raises((StateCorrupt, CorruptLog)):
        read_strictly(path)


def read_strictly(path):
    _, findings = read(path)
    assert findings, "a reading that does not raise says what is wrong"
    raise StateCorrupt(path, str(findings[0]))


# --- the index --------------------------------------------------------------------------------------------------------


def indexed(path, stream="s:3"):
    """Versions of a stream, asked by SQL, and how the index was come by."""
    with closing(LogReader.open(path, registry=REGISTRY)) as reader:
        return [recorded.version for recorded in reader.read_stream(stream)], reader.archive_index()


def truncate(index):
    index.write_bytes(index.read_bytes()[:5000])


def foreign(index):
    with closing(sqlite3.connect(index)) as database:
        database.execute("UPDATE extent SET chain = '00'")
        database.commit()


def of_another_version(index):
    with closing(sqlite3.connect(index)) as database:
        database.execute("UPDATE extent SET made_by = 'another'")
        database.execute("DROP TABLE archived_events")
        database.commit()


def no_database(index):
    index.write_bytes(b"not a database at all" * 100)


UNUSABLE = {
    "gone": lambda index: index.unlink(),
    "empty": lambda index: index.write_bytes(b""),
    "cut off": truncate,
    "no database": no_database,
    "of another archive": foreign,
    "of another version": of_another_version,
}


@pytest.mark.parametrize("spoil", UNUSABLE.values(), ids=UNUSABLE)
def test_an_index_that_cannot_be_used_is_made_again_by_whoever_asks(path, spoil):
    archiving.move(path, MAPPER, keep=500)
    expected, index = indexed(path)
    assert index == path.with_suffix(".archive") / "index.sqlite"
    assert expected == list(range(3, EVENTS + 1, 9))
    spoil(index)
    assert indexed(path) == (expected, index)
    assert stat.S_IMODE(index.stat().st_mode) == 0o600
    assert read(path)[1] == []


def test_an_index_goes_on_where_it_ends(path, monkeypatch):
    archiving.move(path, MAPPER, keep=1500)
    entered = []
    entry = archive_index.entry
    monkeypatch.setattr(archive_index, "entry", lambda row, mapper: entered.append(row.id) or entry(row, mapper))
    archiving.move(path, MAPPER, keep=500)
    assert entered == list(range(1501, 2501))
    assert indexed(path)[0] == list(range(3, EVENTS + 1, 9))


def test_where_no_index_can_be_kept_it_is_made_for_the_reader_alone(path, monkeypatch):
    archiving.move(path, MAPPER, keep=500)
    kept = path.with_suffix(".archive") / "index.sqlite"
    kept.unlink()

    def refused(target):
        if target == kept:
            raise PermissionError(13, "read-only", str(target))
        private_files.create(target)

    monkeypatch.setattr(archive_index, "_create", refused)
    versions, index = indexed(path)
    assert versions == list(range(3, EVENTS + 1, 9))
    assert not kept.exists()
    assert not index.parent.exists(), "it goes with the reader"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE archived_events SET topic = 'x' WHERE position = 77",
        "UPDATE archived_events SET originator_id = 'x' WHERE position = 77",
        """UPDATE archived_events SET state = '{"at":1,"body":{}}' WHERE position = 77""",
        "UPDATE archived_events SET bytes = 1 WHERE position = 77",
    ],
)
def test_an_index_that_says_something_else_than_the_segments_is_found(path, change):
    archiving.move(path, MAPPER, keep=500)
    with closing(sqlite3.connect(path.with_suffix(".archive") / "index.sqlite")) as database:
        database.execute(change)
        database.commit()
    (finding,) = read(path)[1]
    assert (finding.position, finding.kind) == (77, "index")


def test_one_record_is_read_without_those_before_it(path, monkeypatch):
    archiving.move(path, MAPPER, keep=500)
    decompressed = []
    decompress = gzip.decompress
    monkeypatch.setattr(
        archive.gzip, "decompress", lambda packed: decompressed.append(decompress(packed)) or decompressed[-1]
    )
    with closing(LogReader.open(path, registry=REGISTRY)) as reader:
        for position in (1, 200, 201, 700, 701, 1399, 2500, 2499):
            assert [one.version for one in reader.read_at([position])] == [position]
    assert len(decompressed) == 6, "a block is read once"
    assert max(text.count(b"\n") for text in decompressed) == archive.BLOCK_EVENTS


def test_a_segment_of_an_older_version_without_blocks_is_read(path):
    archiving.move(path, MAPPER, keep=500)
    listing = path.with_suffix(".archive") / "archive.json"
    older = json.loads(listing.read_text())
    for segment in older["segments"]:
        del segment["blocks"], segment["block_events"]
    listing.write_text(json.dumps(older))
    with closing(LogReader.open(path, registry=REGISTRY)) as reader:
        assert [one.version for one in reader.read_at([1, 699, 701, 2500, 2501])] == [1, 699, 701, 2500, 2501]
    assert indexed(path)[0] == list(range(3, EVENTS + 1, 9))
    assert archiving.move(path, MAPPER, keep=300).events == 200
    assert read(path)[1] == []
