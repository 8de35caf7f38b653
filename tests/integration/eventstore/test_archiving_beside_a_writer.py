"""The beginning of a log moves into its archive while its broker writes on: no reader misses an event, no writer waits for long."""

from __future__ import annotations

import asyncio
import time

import pytest

from relaybroker.adapters.eventstore.archive import Archive
from relaybroker.adapters.eventstore.integrity import verify
from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.config.chosen import Retention
from relaybroker.domain import events
from relaybroker.domain.events import REGISTRY, Recorded
from relaybroker.node.retention import LEAST, Archivist, to_keep

EVENTS = 12_000


def _record(version):
    event = events.FrameNoted(frame_type="ping", detail="x" * 200)
    return Recorded(
        stream="node:n", version=version, at=1000.0 + version, event=event,
        causation=f"node:n@{version}", correlation="",
    )  # fmt: skip


@pytest.fixture
async def written(tmp_path):
    path = tmp_path / "journal-desk.sqlite"
    journal = Journal.open(str(path), registry=REGISTRY, on_failure=pytest.fail)
    for first in range(1, EVENTS, 500):
        await journal.room()
        await journal.append([_record(version) for version in range(first, first + 500)])
    yield path, journal
    await asyncio.to_thread(journal.close)


def _whole(reader):
    return [position for position, _ in reader.read()]


async def test_readers_within_and_beside_the_broker_miss_nothing_while_it_goes_on(written):
    path, journal = written
    stop = asyncio.Event()
    last, longest = EVENTS, 0.0

    async def write():
        nonlocal last, longest
        while not stop.is_set():
            began = time.monotonic()
            await journal.room()
            await journal.append([_record(last + 1)])
            last, longest = last + 1, max(longest, time.monotonic() - began)

    async def look(reader):
        looks = 0
        while not stop.is_set():
            positions = await asyncio.to_thread(_whole, reader)
            assert positions == list(range(1, len(positions) + 1))
            looks += 1
        return looks

    beside = LogReader.open(path, registry=REGISTRY)
    tasks = [asyncio.create_task(one) for one in (write(), look(journal.reader), look(beside))]
    policy = Retention(max_age_days=0, max_database_mb=1, keep_events=2000)
    assert await Archivist(journal.reader, path, policy, time.time).look()
    stop.set()
    _, *looks = await asyncio.gather(*tasks)
    beside.close()
    assert min(looks) > 0
    assert Archive.of(path).last > EVENTS / 2
    assert _whole(journal.reader) == list(range(1, last + 1))
    assert await asyncio.to_thread(verify, journal.reader) == []
    rows = journal.reader.query("SELECT count(*) AS many FROM stored_events")
    assert rows[0]["many"] < EVENTS / 2, "the moved rows are gone from the database"


async def test_what_is_due_follows_the_policy(written):
    path, journal = written
    size, log = path.stat().st_size, journal.reader
    assert to_keep(log, size, Retention(max_database_mb=0), 1e9) is None
    half = to_keep(log, size, Retention(max_database_mb=size * 3 // 4 // 2**20, keep_events=1000), 1e9)
    assert half is not None
    assert 2000 < half < EVENTS / 2
    by_age = Retention(max_database_mb=0, max_age_days=3000 / 86_400, keep_events=1000)
    assert to_keep(log, size, by_age, 1000.0 + EVENTS) == pytest.approx(3000, abs=2)
    assert to_keep(log, size, by_age, 1000.0 + 3000 + LEAST - 10) is None, "not worth a move"
    assert to_keep(log, size, Retention(max_database_mb=1, keep_events=EVENTS), 1e9) is None
