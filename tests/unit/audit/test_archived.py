"""What is archived is told, found, listed and counted as it was before."""

from __future__ import annotations

import msgspec
import pytest

from relaybroker.adapters.eventstore import archiving, recorders
from relaybroker.adapters.eventstore.mapper import Mapper
from relaybroker.audit.deliveries import newest
from relaybroker.audit.finding import AmbiguousError, NotFoundError
from relaybroker.audit.log import journal_of, reading
from relaybroker.audit.search import Search, search, turn_of
from relaybroker.audit.statistics import statistics
from relaybroker.audit.story import tell
from relaybroker.audit.verification import verify
from relaybroker.domain import inputs
from relaybroker.domain.events import REGISTRY

WANTED = ("M1", "M-30", "del_M2_100", "w1@3", "w1", "w2", "inv_1", "STALE", "M-4", "node", "agent:w2:1")


@pytest.fixture
def directory(world, written, monkeypatch):
    """A log whose streams are archived, in both parts, and in the database only."""
    monkeypatch.setattr(archiving, "KEEP_EVENTS", 1)
    for name in ("w1", "w2"):
        world.spawn(name)
    for seq in (1, 2):
        world.deliver("w1", seq)
    world.deliver("w1", 2, msg_id="STALE")
    world.frame(type="action.invoke", invocation_id="inv_1", action="echo", input={})
    world.tell(inputs.ReleaseRequested(request_id="r", name="w2"))
    world.auto_type = False
    world.deliver("w1", 3, msg_id="M-30")
    world.seam = len(world.log)
    world.auto_type = True
    world.type_next()
    world.deliver("w1", 4, msg_id="M-4")
    return written(world)


SEARCHES = (
    Search(),
    Search(machine="delivery"),
    Search(topic="*.acked.*", newest=True, limit=2),
    Search(stream="delivery:", after=20, limit=5),
    Search(reason="seq_conflict"),
    Search(agent="w1", limit=1000),
    Search(agent="w2", newest=True, limit=7),
    Search(text="M-30"),
    Search(text="M", limit=3),
    Search(text="M", newest=True, limit=40),
    Search(text="w2", machine="agent", after=5),
    Search(text="corr"),
    Search(since=0.0, until=1e12, limit=30),
)


def answers(directory):
    with reading(directory) as log:
        return {
            "stories": {wanted: tell(log, wanted) for wanted in WANTED},
            "found": [search(log, wanted) for wanted in SEARCHES],
            "listed": [newest(log, count, agent=agent) for count in (1, 50) for agent in ("", "w1")],
            "held": newest(log, 50, state="acked"),
            "counted": msgspec.structs.replace(statistics(log), archived=0),
            "turn": [turn_of(log, position) for position in (1, 9, log.position)],
            "links": [tuple(row) for row in log.query("SELECT * FROM v_links ORDER BY position")],
        }


def test_every_answer_is_the_same_wherever_its_events_are(directory, world):
    before = answers(directory)
    assert before["found"][11] == [], "an event's body is searched, not its envelope"
    assert [at for at in range(11) if not before["found"][at]] == []
    assert all(before["listed"])
    for keep in (len(world.log) - world.seam, 5, 1):
        assert archiving.move(journal_of(directory), Mapper(REGISTRY), keep=keep).events
        assert answers(directory) == before
        with reading(directory) as log:
            assert statistics(log).archived == len(world.log) - keep
            assert verify(log).problems == []
            assert verify(log).state == world.broker.state


def test_what_is_in_both_parts_after_a_killed_archiving_is_told_and_counted_once(directory, monkeypatch):
    before = answers(directory)
    monkeypatch.setattr(recorders.JournalRecorder, "delete_upto", lambda *_: None)
    assert archiving.move(journal_of(directory), Mapper(REGISTRY), keep=5).events
    assert answers(directory) == before


def test_a_reader_goes_on_when_the_log_is_archived_meanwhile(directory):
    with reading(directory) as log:
        before = tell(log, "M1"), search(log, Search(machine="delivery"))
        archiving.move(journal_of(directory), Mapper(REGISTRY), keep=5)
        assert (tell(log, "M1"), search(log, Search(machine="delivery"))) == before
        assert statistics(log).archived == log.position - 5


def test_what_the_archive_does_not_know_is_unknown_and_a_prefix_that_both_parts_have_is_ambiguous(directory, world):
    archiving.move(journal_of(directory), Mapper(REGISTRY), keep=len(world.log) - world.seam)
    with reading(directory) as log:
        with pytest.raises(NotFoundError):
            tell(log, "nobody-knows")
        with pytest.raises(AmbiguousError):
            tell(log, "del_M")
