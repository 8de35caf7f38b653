"""The recorder test cases that the `eventsourcing` library publishes, on both of our recorders, with text stream names.

About 1 second.
"""

from __future__ import annotations

import sys
import tempfile
import types
from pathlib import Path
from uuid import uuid4

import pytest

from relaybroker.adapters.eventstore import recorders


def published_cases():
    """The library's module of test cases, without its cases for ciphers, which want a package of their own."""
    cipher = types.ModuleType("eventsourcing.cipher")
    cipher.AESCipher = type("AESCipher", (), {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "eventsourcing.cipher", cipher)
        from eventsourcing.tests import persistence

    return persistence


published = published_cases()


class TextIds:
    """The published cases make UUIDs; our streams are named by text."""

    def new_originator_id(self):
        return f"delivery:{uuid4()}"


class OnSqlite(TextIds):
    def create_recorder(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = Path(directory.name) / "journal.db"
        recorders.create_sqlite(path)
        recorder = recorders.open_sqlite(path)
        self.addCleanup(recorder.close)
        return recorder


class OnPopo(TextIds):
    def create_recorder(self):
        return recorders.popo()


class SilentAboutIds:
    """The aggregate case wants no notification ids; an application recorder answers with them."""

    def create_recorder(self):
        recorder = super().create_recorder()
        insert = recorder.insert_events

        def insert_events(stored_events):
            insert(stored_events)

        recorder.insert_events = insert_events
        return recorder


class TestSqliteAsAggregateRecorder(SilentAboutIds, OnSqlite, published.AggregateRecorderTestCase):
    pass


class TestSqliteAsApplicationRecorder(OnSqlite, published.ApplicationRecorderTestCase):
    pass


class TestSqliteDoesNotInterleave(OnSqlite, published.NonInterleavingNotificationIDsBaseCase):
    pass


class TestPopoAsAggregateRecorder(SilentAboutIds, OnPopo, published.AggregateRecorderTestCase):
    pass


class TestPopoAsApplicationRecorder(OnPopo, published.ApplicationRecorderTestCase):
    pass


class TestPopoDoesNotInterleave(OnPopo, published.NonInterleavingNotificationIDsBaseCase):
    pass


def test_any_eventsourcing_tool_reads_the_database(tmp_path):
    """A plain library factory over our file, as another tool would make it, sees the same rows."""
    from eventsourcing.persistence import StoredEvent
    from eventsourcing.sqlite import SQLiteFactory
    from eventsourcing.utils import Environment

    path = tmp_path / "journal.db"
    recorders.create_sqlite(path)
    ours = recorders.open_sqlite(path)
    rows = [StoredEvent("node:n", version, "link.shut.v1", b"{}") for version in (1, 2, 3)]
    assert list(ours.insert_events(rows)) == [1, 2, 3]
    ours.close()

    factory = SQLiteFactory(Environment(env={"SQLITE_DBNAME": str(path), "ORIGINATOR_ID_TYPE": "text"}))
    assert factory.application_recorder().select_events("node:n") == rows
    factory.close()


def test_ids_have_no_gap_after_a_refused_insert(tmp_path):
    from eventsourcing.persistence import IntegrityError, StoredEvent

    path = tmp_path / "journal.db"
    recorders.create_sqlite(path)
    recorder = recorders.open_sqlite(path)
    first = StoredEvent("s", 1, "t", b"")
    recorder.insert_events([first])
    with pytest.raises(IntegrityError):
        recorder.insert_events([StoredEvent("s", 2, "t", b""), StoredEvent("s", 3, "t", b""), first])
    assert list(recorder.insert_events([StoredEvent("s", 2, "t", b""), StoredEvent("s", 3, "t", b"")])) == [2, 3]
    assert recorder.max_notification_id() == 3
    recorder.close()
