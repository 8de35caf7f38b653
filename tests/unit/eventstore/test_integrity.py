"""What `verify` finds, and what keeps a damaged log from being opened. F134, B12, KEEP-BYTES."""

from __future__ import annotations

import logging
import shutil
import sqlite3

import pytest

from relaybroker.adapters.eventstore import integrity
from relaybroker.adapters.eventstore.errors import CorruptEvent, StateCorrupt
from relaybroker.adapters.eventstore.integrity import verify
from relaybroker.adapters.eventstore.mapper import Mapper
from relaybroker.adapters.eventstore.mark import LENGTH
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.domain.errors import CorruptLog
from relaybroker.domain.events import REGISTRY, Registry

RECORDS = 40


@pytest.fixture
async def path(tmp_path, open_journal, record):
    """A journal of 40 records in 4 streams that was stopped cleanly."""
    path = tmp_path / "journal.db"
    journal = open_journal(path)
    for version in range(1, RECORDS + 1):
        await journal.append([record(version, f"note {version}", stream=f"delivery:{version % 4}")])
    journal.close()
    return path


@pytest.fixture
def read(path):
    """read() -> LogReader from outside; closed after the test"""
    opened = []

    def make(registry=REGISTRY):
        reader = LogReader.open(path, registry=registry)
        opened.append(reader)
        return reader

    yield make
    for reader in opened:
        reader.close()


def edit(path, statement, *parameters):
    """Change the database as somebody with an editor would."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, parameters)
    connection.close()


def contents(path):
    return {file.name: file.read_bytes() for file in path.parent.glob(path.name + "*") if file.name[-4:] != "-shm"}


def refused(path, open_journal, error=StateCorrupt):
    """Opening is refused and every byte is kept; the error."""
    before = contents(path)
    with pytest.raises(error) as caught:
        open_journal(path)
    assert contents(path) == before
    return str(caught.value)


async def test_a_whole_log_has_no_findings(read, path):
    assert verify(read()) == []
    assert sorted(file.name for file in path.parent.iterdir()) == ["journal.db", "journal.db.mark"]


@pytest.mark.parametrize("column", ["originator_id", "topic", "originator_version", "state"])
async def test_a_changed_column_breaks_the_chain_at_its_record(read, path, open_journal, column):
    other = {"originator_id": "delivery:x", "topic": "link.shut.v1", "originator_version": 900}
    if column == "state":
        edit(path, "UPDATE stored_events SET state = replace(state, 'note 7', 'note 8') WHERE rowid = 7")
    else:
        edit(path, f"UPDATE stored_events SET {column} = ? WHERE rowid = 7", other[column])
    assert ("chain", 7) in {(finding.kind, finding.position) for finding in verify(read())}
    with pytest.raises(CorruptLog, match="position 7"):
        list(read().read())
    assert "position 7" in refused(path, open_journal, CorruptLog)


async def test_a_record_taken_out_breaks_the_chain_behind_it(read, path, open_journal):
    edit(path, "DELETE FROM stored_events WHERE rowid = 10")
    assert [(finding.kind, finding.position) for finding in verify(read())] == [("chain", 11)]
    refused(path, open_journal, CorruptEvent)


async def test_records_taken_off_the_end_are_missed(read, path, open_journal):
    """Without the mark this log would be perfectly in order, only shorter."""
    edit(path, "DELETE FROM stored_events WHERE rowid > 30")
    assert [(finding.kind, finding.position) for finding in verify(read())] == [("mark", 30)]
    assert "ends at position 30, but position 40" in refused(path, open_journal)


async def test_another_log_in_the_place_of_this_one_is_noticed(tmp_path, path, open_journal, record):
    other = tmp_path / "other"
    other.mkdir()
    journal = open_journal(other / "journal.db")
    await journal.append([record(version, "other") for version in range(1, RECORDS + 5)])
    journal.close()
    shutil.copy(other / "journal.db", path)
    assert "position 40 is not the one" in refused(path, open_journal)


async def test_a_topic_of_a_later_version_is_found(read):
    findings = verify(read(registry=Registry([])))
    assert {finding.kind for finding in findings} == {"unknown_topic"}
    assert len(findings) == RECORDS


async def test_an_undecodable_record_is_found_with_its_stream(read, path):
    edit(path, "UPDATE stored_events SET state = x'00ff' WHERE rowid = 9")
    findings = [finding for finding in verify(read()) if finding.position == 9]
    assert [(finding.kind, finding.stream) for finding in findings] == [
        ("chain", "delivery:1"),
        ("undecodable", "delivery:1"),
    ]


async def test_versions_that_do_not_rise_within_a_stream_are_found(tmp_path, open_journal, record):
    journal = open_journal(None)
    await journal.append([record(2, stream="a"), record(1, stream="b"), record(1, stream="a"), record(3, stream="a")])
    findings = verify(LogReader(journal._recorder, Mapper(REGISTRY), None))
    assert [(finding.position, finding.stream, finding.kind) for finding in findings] == [(3, "a", "version")]


async def test_findings_are_bounded(read, monkeypatch):
    monkeypatch.setattr(integrity, "MAX_FINDINGS", 10)
    findings = verify(read(registry=Registry([])))
    assert len(findings) == 11
    assert findings[-1].kind == "too_many"


async def test_a_log_too_large_to_check_whole_is_checked_at_its_end(path, open_journal, monkeypatch):
    """What is folded is verified by reading it; `verify` looks at everything."""
    monkeypatch.setattr(integrity, "FULL_CHECK_BYTES", 0)
    monkeypatch.setattr(integrity, "TAIL_RECORDS", 10)
    edit(path, "UPDATE stored_events SET topic = 'x' WHERE rowid = 7")
    journal = open_journal(path)
    with pytest.raises(CorruptEvent, match="position 7"):
        list(journal.read())
    journal.close()
    edit(path, "UPDATE stored_events SET topic = 'x' WHERE rowid = 35")
    assert "position 35" in refused(path, open_journal, CorruptEvent)


@pytest.mark.parametrize("content", [b"", b"SQLite", b"not a database at all, but long enough to have a header"])
async def test_a_file_that_is_no_database_is_refused(path, open_journal, content):
    path.write_bytes(content)
    assert "state_corrupt" in refused(path, open_journal)


async def test_a_database_cut_off_at_any_page_is_refused(path, open_journal):
    """B12"""
    whole = path.read_bytes()
    for length in range(0, len(whole), 2048):
        path.write_bytes(whole[:length])
        assert "state_corrupt" in refused(path, open_journal)
    path.write_bytes(whole)
    assert open_journal(path).position == RECORDS


async def test_a_database_with_another_table_is_refused(path, open_journal):
    edit(path, "ALTER TABLE stored_events RENAME COLUMN state TO stats")
    assert "events table" in refused(path, open_journal)


async def test_an_unreadable_mark_is_set_aside_and_made_anew(path, open_journal, caplog):
    """A power cut may tear it; it is kept, loudly."""
    file = path.with_name("journal.db.mark")
    file.write_bytes(b"?" * LENGTH)
    with caplog.at_level(logging.WARNING):
        assert open_journal(path).position == RECORDS
    assert "set aside as journal.db.mark.damaged" in caplog.text
    assert path.with_name("journal.db.mark.damaged").read_bytes() == b"?" * LENGTH
    assert file.read_bytes() != b"?" * LENGTH


async def test_an_unreadable_mark_is_a_finding(read, path):
    path.with_name("journal.db.mark").write_bytes(b"?")
    assert [finding.kind for finding in verify(read())] == ["mark"]


async def test_a_log_without_a_mark_gets_one(path, open_journal, read):
    path.with_name("journal.db.mark").unlink()
    open_journal(path).close()
    assert path.with_name("journal.db.mark").stat().st_size == LENGTH
    assert verify(read()) == []
