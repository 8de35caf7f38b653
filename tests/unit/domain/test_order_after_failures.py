"""A message that the terminal did not take does not change the order of those behind it."""

from __future__ import annotations

import pytest

from relaybroker.domain import delivery, inputs


@pytest.fixture
def three(world):
    """Three messages of one moment are with the host, none is typed."""
    world.spawn("w1")
    world.auto_type = False
    for seq in (1, 2, 3):
        world.deliver("w1", seq, text=str(seq))
    assert len(world.pending_text) == 3
    return world


def _fail(world, reason):
    """The host hands back the delivery that it has had for longest."""
    text = world.pending_text.pop(0)
    world.report(
        inputs.TextNotTyped,
        text.session_id,
        delivery_id=text.delivery_id,
        attempt=text.attempt,
        reason=reason,
        typed="no",
    )


def _type_all(world):
    world.auto_type = True
    while world.pending_text:
        world.type_next()
    world.advance(20)
    return [text[-1] for text in world.texts("w1")]


def test_those_behind_a_failed_one_come_back_and_are_typed_in_order(three):
    """ORDER, F079."""
    _fail(three, "pty_write_failed")
    _fail(three, "out_of_turn")
    _fail(three, "out_of_turn")
    assert _type_all(three) == ["1", "2", "3"]
    assert three.acks("w1")[-1] == 3
    three.assert_fold_is_live()


def test_nothing_more_goes_to_the_host_before_it_has_answered_for_all(three):
    """ORDER: what is sent meanwhile would overtake, or be overtaken."""
    _fail(three, "pty_write_failed")
    three.deliver("w1", 4, text="4")
    three.advance(30)
    assert len(three.pending_text) == 2
    three.type_next()
    three.type_next()
    assert len(three.pending_text) == 2
    three.assert_fold_is_live()


def test_waiting_behind_another_message_is_no_failed_attempt(three):
    """F080 attempts_exhausted: counted are the tries that the terminal refused."""
    for _ in range(delivery.MAX_WRITES - 1):
        _fail(three, "pty_write_failed")
        _fail(three, "out_of_turn")
        _fail(three, "out_of_turn")
        three.advance(30)
        assert len(three.pending_text) == 3
    three.type_next()
    _fail(three, "pty_write_failed")
    _fail(three, "out_of_turn")
    three.advance(30)
    assert three.events("delivery.dead_lettered.v1") == []
    assert _type_all(three) == ["1", "2", "3"]


def test_what_a_dialog_hands_back_is_held_for_that_and_costs_no_timers(three):
    """F094 blocked_by_dialog."""
    session = three.broker.state.registration_of("w1").session_id
    three.report(inputs.ProgramBlocked, session, pattern="trust")
    for _ in range(3):
        _fail(three, "blocked_by_dialog")
    assert [item.event.reason for item in three.events("delivery.held.v1")] == ["blocked_by_dialog"] * 3
    three.advance(600)
    three.report(inputs.ProgramUnblocked, session)
    assert _type_all(three) == ["1", "2", "3"]
