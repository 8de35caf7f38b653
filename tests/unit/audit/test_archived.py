"""`why` tells what is archived as it told it before."""

from __future__ import annotations

import pytest

from relaybroker.adapters.eventstore import archiving
from relaybroker.adapters.eventstore.mapper import Mapper
from relaybroker.audit.finding import AmbiguousError, NotFoundError
from relaybroker.audit.log import journal_of, reading
from relaybroker.audit.story import tell
from relaybroker.audit.verification import verify
from relaybroker.domain import inputs
from relaybroker.domain.events import REGISTRY, UPCASTERS

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


def stories(directory):
    with reading(directory) as log:
        return {wanted: tell(log, wanted) for wanted in WANTED}


def test_every_story_is_the_same_wherever_its_events_are(directory, world):
    before = stories(directory)
    (recent,) = before.pop("M-4")
    for keep in (len(world.log) - world.seam, 5, 1):
        assert archiving.move(journal_of(directory), Mapper(REGISTRY, UPCASTERS), keep=keep).events
        assert {key: told for key, told in stories(directory).items() if key != "M-4"} == before
        with reading(directory) as log:
            (told,) = tell(log, "M-4")
            assert (told.verdict, told.state) == (recent.verdict, recent.state)
            assert verify(log).problems == []
            assert verify(log).state == world.broker.state


def test_what_the_archive_does_not_know_is_unknown_and_a_prefix_that_both_parts_have_is_ambiguous(directory, world):
    archiving.move(journal_of(directory), Mapper(REGISTRY, UPCASTERS), keep=len(world.log) - world.seam)
    with reading(directory) as log:
        with pytest.raises(NotFoundError):
            tell(log, "nobody-knows")
        with pytest.raises(AmbiguousError):
            tell(log, "del_M")
