"""`log verify` finds what is wrong; `delivery ls` follows each delivery by the table."""

from __future__ import annotations

import sqlite3

import pytest

from relaybroker.adapters.eventstore.recorders import side_file
from relaybroker.adapters.eventstore.snapshots import Snapshot, SnapshotFile
from relaybroker.audit.deliveries import newest
from relaybroker.audit.log import NoLog, journal_of, reading
from relaybroker.audit.verification import verify
from relaybroker.domain import inputs
from relaybroker.domain.state import SNAPSHOT_FORMAT, encode


@pytest.fixture
def state(world, written):
    world.spawn("w1")
    world.deliver("w1", 1)
    return written(world)


def test_a_whole_log_has_no_problems_and_folds_to_its_end(world, state):
    with reading(state) as reader:
        verified = verify(reader)
    assert verified.problems == []
    assert verified.state == world.broker.state
    assert verified.compared_at == 0


def test_the_fold_is_compared_with_the_state_that_the_broker_wrote_down(world, state):
    path = journal_of(state)
    snapshots = SnapshotFile(side_file(path, ".snapshot"), payload_version=SNAPSHOT_FORMAT)
    with reading(state) as reader:
        snapshots.save(reader, Snapshot(len(world.log), encode(world.broker.state)))
        verified = verify(reader)
        assert (verified.problems, verified.compared_at) == ([], len(world.log))
        world.broker.state.counters.typed += 1
        snapshots.save(reader, Snapshot(len(world.log), encode(world.broker.state)))
        (problem,) = verify(reader).problems
    assert problem == f"position {len(world.log)}: the log folds to another state than the broker had: counters"


def test_a_changed_event_is_found(state):
    with sqlite3.connect(journal_of(state)) as database:
        (table,) = (
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if "state" in [column[1] for column in database.execute(f"PRAGMA table_info({name})")]
            and database.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0]
        )
        database.execute(f"UPDATE {table} SET state = replace(state, 'w1', 'w2') WHERE rowid = 9")
    database.close()
    with reading(state) as reader:
        assert verify(reader).problems


def test_deliveries_are_listed_with_where_they_stand(world, log):
    world.spawn("w1")
    world.deliver("w1", 1)
    world.auto_type = False
    world.deliver("w1", 2)
    assert [(row.msg_id, row.seq, row.state) for row in newest(log(world), 10)] == [
        ("M1", 1, "acked"),
        ("M2", 2, "injecting"),
    ]


@pytest.mark.parametrize("said", ["echo", "timeout_fallback"])
def test_the_list_says_whether_a_written_text_was_verified(world, log, said):
    """F014 PROOF: written is not seen; and nothing is said before the window ends."""
    session = world.broker.state.registrations[world.broker.state.agents[world.spawn("w1")]].session_id
    for seq in (1, 2):
        world.deliver("w1", seq)
        if seq == 1:
            (first,) = world.broker.state.deliveries.values()
            world.report(inputs.TextVerified, session, delivery_id=first.typing_id, verification=said)
    assert [(row.state, row.verification) for row in newest(log(world), 10)] == [("acked", said), ("acked", "")]


def test_which_log_is_meant_must_be_clear(tmp_path):
    with pytest.raises(NoLog, match="no log"):
        journal_of(tmp_path)
    for name in ("one", "two"):
        (tmp_path / f"journal-{name}.sqlite").touch()
    assert journal_of(tmp_path, "two").name == "journal-two.sqlite"
    with pytest.raises(NoLog, match="there are: one, two"):
        journal_of(tmp_path, "three")
