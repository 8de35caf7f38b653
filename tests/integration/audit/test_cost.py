"""A question to the log costs the same whatever the log's length; counted in steps of SQLite, not in seconds."""

from __future__ import annotations

import shutil
import sqlite3

import pytest

from relaybroker.adapters.eventstore import archive, archiving, recorders
from relaybroker.adapters.eventstore.mapper import Mapper
from relaybroker.audit.deliveries import newest
from relaybroker.audit.log import reading
from relaybroker.audit.search import Search, search
from relaybroker.audit.statistics import statistics
from relaybroker.audit.story import tell
from relaybroker.domain.events import REGISTRY
from tests import long_log

SHORT = 20_000
"""More messages for each agent than a story of it counts."""
LONG = 2 * SHORT
STEP = 100
"""Instructions of SQLite's virtual machine that are counted as one step."""
MOST_BLOCKS = 12
"""Of the archive, decompressed for one story."""
AGENTS = long_log.AGENTS[:3]


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    made = [tmp_path_factory.mktemp("short"), tmp_path_factory.mktemp("long")]
    long_log.write(made[1] / "journal-desk.sqlite", LONG, AGENTS, before=(SHORT, made[0] / "journal-desk.sqlite"))
    return made


@pytest.fixture
def steps(monkeypatch):
    """What SQLite has done so far for those who read the log."""
    done = [0]
    connect = sqlite3.connect

    def counting(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_progress_handler(lambda: done.__setitem__(0, done[0] + 1), STEP)
        return connection

    monkeypatch.setattr(recorders.sqlite3, "connect", counting)
    return done


@pytest.mark.parametrize(
    "wanted", ["M150_agent-0", "del_M200_agent-2_102", "agent-1@250", "agent-2", "node", "M150_agent-2"]
)
def test_why_costs_the_same_on_a_log_twice_as_long(directories, steps, wanted):
    cost = []
    for directory in directories:
        with reading(directory) as log:
            before = steps[0]
            (story,) = tell(log, wanted)
            cost.append(steps[0] - before)
        assert story.outcome == "delivered"
    assert cost[0] > 0
    assert cost[1] <= 1.2 * cost[0] + 2, cost


def test_why_reads_what_the_story_needs_and_not_the_log(directories):
    """Rows that SQLite gives out for one story."""
    with reading(directories[1]) as log:
        given = 0
        ask = log.query

        def counted(*arguments):
            nonlocal given
            rows = ask(*arguments)
            given += len(rows)
            return rows

        log.query = counted
        (story,) = tell(log, "M150_agent-1")
    assert len(story.steps) < 10
    assert given < 50


@pytest.fixture(scope="module")
def archived(directories, tmp_path_factory):
    """Both logs, all but their newest events archived."""
    made = []
    for directory in directories:
        copy = tmp_path_factory.mktemp("archived")
        shutil.copy(directory / "journal-desk.sqlite", copy)
        assert archiving.move(copy / "journal-desk.sqlite", Mapper(REGISTRY), keep=2000).events
        made.append(copy)
    return made


@pytest.mark.parametrize("wanted", ["M150_agent-0", "del_M200_agent-2_102", "agent-1@250", "agent-2", "node"])
def test_why_of_what_is_archived_costs_the_same_on_a_log_twice_as_long(archived, steps, monkeypatch, wanted):
    """Counted in steps of SQLite and in blocks of the archive that are decompressed."""
    blocks = []
    decompress = archive.gzip.decompress
    monkeypatch.setattr(archive.gzip, "decompress", lambda packed: blocks.append(1) or decompress(packed))
    cost = []
    for directory in archived:
        with reading(directory) as log:
            before, blocks[:] = steps[0], []
            (story,) = tell(log, wanted)
            cost.append((steps[0] - before, len(blocks)))
        assert story.outcome == "delivered"
    (short, few), (long, more) = cost
    assert 0 < long <= 1.2 * short + 2, cost
    assert few <= MOST_BLOCKS, cost
    assert more <= MOST_BLOCKS, cost


def test_what_is_archived_is_found_without_reading_the_segments_through(archived, monkeypatch):
    monkeypatch.setattr(archive.Archive, "rows", lambda *_: pytest.fail("the archive is read through"))
    with reading(archived[1]) as log:
        assert len(tell(log, "M150_agent-1")) == 1
        assert len(newest(log, 50)) == 50
        assert len(search(log, Search(topic="delivery.acked.*", limit=20))) == 20
        assert statistics(log).archived == log.position - 2000
