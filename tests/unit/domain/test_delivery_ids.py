"""A delivery id means one message, for ever."""

from __future__ import annotations

import pytest

from relaybroker.domain import inputs
from relaybroker.domain.delivery import MAX_BODY_BYTES


@pytest.fixture
def ready(world):
    """An online world with one agent."""
    world.spawn("w1")
    return world


def verify_all(world):
    """The verification windows end: what is acked leaves the memory."""
    for delivery in list(world.broker.state.deliveries.values()):
        world.report(inputs.TextVerified, delivery.session_id, delivery_id=delivery.typing_id, verification="echo")


@pytest.mark.parametrize("first", ["typed", "dead letter", "typed, and the broker was killed"])
def test_a_settled_delivery_id_for_another_message_is_neither_typed_nor_acked(ready, first):
    """F010 delivery_id_reused: not as the old one either; the conflict is announced, later messages go on."""
    ready.deliver("w1", 1, delivery_id="D", text="x" * (MAX_BODY_BYTES + 1) if first == "dead letter" else "one")
    verify_all(ready)
    assert ready.broker.state.deliveries == {}
    if "killed" in first:
        ready.crash()
        ready.start()
        ready.online()
    typed, acks = len(ready.texts("w1")), len(ready.acks("w1"))
    ready.deliver("w1", 2, msg_id="OTHER", delivery_id="D", text="two")
    assert (len(ready.texts("w1")), len(ready.acks("w1"))) == (typed, acks)
    refusal = ready.events("mailbox.frame_ignored.v1")[-1].event
    assert (refusal.reason, refusal.seq) == ("delivery_id_reused", 2)
    assert ready.notified[-1]["kind"] == "delivery_undeliverable"
    ready.deliver("w1", 3, text="three")
    ready.advance(30)
    lost = [(item.event.first, item.event.last) for item in ready.events("mailbox.range_lost.v1")]
    assert lost == [(2, 2)]
    assert ready.texts("w1")[-1].endswith("three")
    assert ready.acks("w1")[-1] == 3


def test_a_reused_id_in_the_gap_buffer_holds_nothing_up(ready):
    ready.deliver("w1", 1, delivery_id="D")
    ready.deliver("w1", 3, msg_id="OTHER", delivery_id="D")
    ready.deliver("w1", 4, text="four")
    ready.deliver("w1", 2)
    ready.advance(30)
    assert [item.event.reason for item in ready.events("mailbox.frame_ignored.v1")] == ["delivery_id_reused"]
    assert ready.texts("w1")[-1].endswith("four")
    assert ready.acks("w1")[-1] == 4
    ready.assert_fold_is_live()


def test_the_place_that_a_reused_id_left_open_can_be_filled(ready):
    ready.deliver("w1", 1, delivery_id="D")
    ready.deliver("w1", 2, msg_id="M2", delivery_id="D")
    ready.deliver("w1", 2, msg_id="M2", delivery_id="E", text="two")
    assert ready.texts("w1")[-1].endswith("two")
    assert ready.acks("w1")[-1] == 2


def test_a_fan_out_frame_with_such_an_id_changes_nothing_for_the_sequence(ready):
    """D7."""
    payload = {"type": "action.completed", "data": {"output": 1}}
    ready.deliver("w1", 0, msg_id="inv_1", delivery_id="D", payload=payload)
    verify_all(ready)
    ready.deliver("w1", 1, msg_id="M1", delivery_id="D", text="one")
    assert ready.texts("w1")[-1].endswith("one")
