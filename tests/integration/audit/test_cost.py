"""A question to the log costs the same whatever the log's length (issue "audit": 200 ms on 1,000,000 events)."""

from __future__ import annotations

import time

import pytest

from relaybroker.audit.log import reading
from relaybroker.audit.story import tell
from tests import long_log

EVENTS = 100_000
LIMIT_S = 0.2


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    made = tmp_path_factory.mktemp("long")
    long_log.write(made / "journal-desk.sqlite", EVENTS)
    return made


@pytest.mark.parametrize(
    "wanted", ["M150_agent-7", "del_M200_agent-9_109", "agent-3@250", "agent-5", "node", "M150_agent-49"]
)
def test_why_is_answered_in_time(directory, wanted):
    """The quickest of three: a machine that stands still for a moment says nothing about the answer's cost."""
    took = []
    for _ in range(3):
        with reading(directory) as log:
            began = time.perf_counter()
            (story,) = tell(log, wanted)
            took.append(time.perf_counter() - began)
        assert story.outcome == "delivered"
    assert min(took) < LIMIT_S, f"{min(took) * 1000:.0f} ms"


def test_why_reads_what_the_story_needs_and_not_the_log(directory):
    """Counted, not timed: rows that SQLite gives out for one story."""
    with reading(directory) as log:
        given = 0
        ask = log.query

        def counted(*arguments):
            nonlocal given
            found = ask(*arguments)
            given += len(found)
            return found

        log.query = counted
        (story,) = tell(log, "M150_agent-7")
    assert len(story.steps) < 10
    assert given < 50
