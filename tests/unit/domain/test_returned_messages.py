"""Messages that went back to the engine, and what becomes of their place in the sequence (domain/mailbox.py)."""

from __future__ import annotations

import msgspec

from relaybroker.domain import inputs
from relaybroker.domain.mailbox import Mailbox
from tests.world import SETTINGS


def _exit(world, name):
    """The agent's program ends before anything more is typed."""
    session = world.broker.state.registration_of(name).session_id
    while world.pending_text:
        text = world.pending_text.pop(0)
        world.report(
            inputs.TextNotTyped, session, delivery_id=text.delivery_id, attempt=1, reason="worker_exited", typed="no"
        )
    world.report(inputs.ProgramExited, session, code=1, signal=None, last_output="", uptime_s=9.0, requested=False)
    world.sessions.pop(session, None)


def _returned(world, *seqs):
    """These messages were taken, and go back because the program ended."""
    world.spawn("w1")
    world.auto_type = False
    for seq in seqs:
        world.deliver("w1", seq)
    _exit(world, "w1")
    world.auto_type = True
    world.spawn("w1")


def test_a_returned_message_that_the_engine_passes_by_is_a_hole(world):
    """F008 lost: it expired at the engine meanwhile; those behind it are not held up for ever."""
    _returned(world, 1, 2)
    world.deliver("w1", 3)
    assert world.acks("w1") == []
    world.advance(9)
    assert [item.event.tries for item in world.events("mailbox.resync_asked.v1")] == [1, 2]
    world.advance(2)
    assert [(item.event.first, item.event.last) for item in world.events("mailbox.range_lost.v1")] == [(1, 2)]
    assert len(world.texts("w1")) == 1
    world.assert_fold_is_live()


def test_a_returned_message_that_is_offered_in_time_is_typed_and_nothing_is_lost(world):
    """D9: the ordinary case."""
    _returned(world, 1)
    world.deliver("w1", 2)
    world.deliver("w1", 1)
    world.advance(60)
    assert world.acks("w1")[-1] == 2
    assert len(world.texts("w1")) == 2
    assert world.events("mailbox.range_lost.v1") == []


def test_nothing_is_lost_while_the_engine_offers_nothing(world):
    """A returned message without successors waits as long as it takes."""
    _returned(world, 1)
    world.advance(3600)
    assert world.events("mailbox.range_lost.v1") == []
    world.deliver("w1", 1)
    assert world.acks("w1") == [1]


def test_a_returned_message_that_came_under_another_number_is_a_duplicate_under_its_own(world):
    """F005, D6."""
    _returned(world, 1)
    world.deliver("w1", 2, msg_id="M1")
    world.deliver("w1", 1, msg_id="M1")
    assert len(world.texts("w1")) == 1
    assert world.acks("w1")[-1] == 2
    world.assert_fold_is_live()


def test_a_doubtful_message_is_marked_under_whatever_number_it_comes_again(make_world):
    """F033: "possible-duplicate" belongs to the message, not to the number."""
    world = make_world(msgspec.structs.replace(SETTINGS, in_doubt="at_least_once"))
    world.start()
    world.online()
    world.spawn("w1")
    world.auto_type = False
    world.deliver("w1", 1)
    world.pending_text.clear()
    world.host_id, world.sessions, world.reports, world.unconfirmed = "host_2", {}, 0, []
    world.tell(inputs.HostLost(detail="eof"))
    world.advance(1)
    world.auto_type = True
    world.spawn("w1")
    world.deliver("w1", 2, msg_id="M1")
    (text,) = world.texts("w1")
    assert "possible-duplicate" in text


def test_a_doubt_goes_on_with_the_number_under_which_the_message_is_open():
    """F033: its first number is filled as a duplicate while the message waits under the second."""
    box = Mailbox("100", base=0)
    box.admit(1, "M1", "", "delivery:1")
    box.give_back(1, 1, doubtful="M1")
    box.admit(2, "M1", "", "delivery:2")
    box.skip(1, "M1")
    assert box.doubtful == {2: "M1"}
    box.settle(2)
    assert (box.doubtful, box.floor) == ({}, 2)


def test_a_gap_that_is_filled_by_a_duplicate_waits_for_nothing():
    """B9: a deadline that nothing is done about would wake the loop for ever."""
    box = Mailbox("100", base=0)
    box.admit(1, "M1", "", "delivery:1")
    box.give_back(1, 1, doubtful="")
    box.admit(2, "M1", "", "delivery:2")
    box.passed(2, 50.0)
    assert box.deadline == 51.0
    box.skip(1, "M1")
    assert box.deadline is None


def test_a_gap_is_not_declared_lost_before_a_link_that_was_away_could_fill_it(world):
    """F007, D7: the ten seconds begin when the engine can offer its rows again."""
    world.spawn("w1")
    world.deliver("w1", 1)
    world.deliver("w1", 3)
    world.drop()
    world.advance(100)
    world.online()
    world.advance(0.9)
    assert world.events("mailbox.range_lost.v1") == []
    world.deliver("w1", 2)
    assert world.acks("w1")[-1] == 3


def test_a_gap_is_not_declared_lost_before_an_agent_that_was_away_could_fill_it(world):
    """F007, D7: the ten seconds begin when the agent is back."""
    world.spawn("w1")
    world.deliver("w1", 1)
    world.deliver("w1", 3)
    _exit(world, "w1")
    world.advance(100)
    world.spawn("w1")
    world.advance(0.5)
    assert world.events("mailbox.range_lost.v1") == []
    world.deliver("w1", 2)
    assert world.acks("w1")[-1] == 3
