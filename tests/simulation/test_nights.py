"""A night on hold, with the engine's real hour: whatever holds the messages and whatever the clock does, they are there in the morning."""

from __future__ import annotations

import itertools
import os

import pytest

from relaybroker.testing.simulated import SimulatedBroker
from relaybroker.testing.simulation import engine

HOURS = 9


def by_a_person(broker):
    broker.hold("w1")
    return lambda: broker.unhold("w1")


def by_a_dialog(broker):
    broker.show_dialog("w1")
    return lambda: broker.answer_dialog("w1")


def by_a_program_that_works(broker):
    broker.occupy("w1", patience_s=0.0)
    return lambda: broker.free("w1")


def by_somebody_at_the_keyboard(broker):
    broker.occupy("w1", "human_driving", patience_s=0.0)
    return lambda: broker.free("w1")


def nothing(_broker):
    pass


def forward(broker):
    broker.set_clock(hours=3)


def back(broker):
    broker.set_clock(hours=-3)


def by_years(broker):
    """A machine without a clock that keeps time gets the right time from the network."""
    broker.set_clock(hours=14 * 8766)


def back_by_years(broker):
    broker.set_clock(hours=-50 * 8766)


def to_and_fro(broker):
    for hours in (30, -50, 26):
        broker.set_clock(hours=hours)
        broker.advance(minutes=2)


def with_a_crash(broker):
    broker.crash()
    broker.set_clock(hours=5)
    broker.restart()


HOLDS = (by_a_person, by_a_dialog, by_a_program_that_works, by_somebody_at_the_keyboard)
HAPPENINGS = (nothing, forward, back, by_years, back_by_years, to_and_fro, with_a_crash)
NIGHTS = [
    (hold, happens, shares_clock)
    for number, (hold, happens) in enumerate(itertools.product(HOLDS, HAPPENINGS))
    for shares_clock in (True, False)
    if shares_clock == bool(number % 2) or os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
]
"""Every hold with every happening: with an engine here or elsewhere, at night with both."""


@pytest.mark.parametrize(("hold", "happens", "shares_clock"), NIGHTS)
def test_what_was_held_over_night_is_typed_in_the_morning_and_nothing_is_dropped(hold, happens, shares_clock):
    """D13, NO-LOSS, ONE-OWNER."""
    broker = SimulatedBroker(engine=engine.Traits(shares_clock=shares_clock))
    broker.spawn("w1")
    lift = hold(broker)
    sent = [broker.deliver("w1", "in the evening")]
    broker.advance(minutes=30)
    sent.append(broker.deliver("w1", "before it"))
    broker.advance(seconds=5)
    happens(broker)
    broker.advance(seconds=5)
    sent.append(broker.deliver("w1", "after it"))
    broker.advance(hours=HOURS)
    assert broker.typed("w1") == []
    assert broker.events("delivery.dropped.v1") == []
    lift()
    broker.expect_acked(*sent)
    broker.expect_typed("w1", "in the evening", "before it", "after it")
    assert len(broker.typed("w1")) == 3, "each once"
    assert broker.dead_letters() == []


def test_who_is_released_in_the_morning_leaves_letters_and_no_losses():
    broker = SimulatedBroker()
    broker.spawn("w1")
    broker.hold("w1")
    sent = [broker.deliver("w1", text) for text in ("one", "two")]
    broker.advance(hours=HOURS)
    broker.release("w1")
    for message in sent:
        assert broker.expect_dead_letter(message, "agent_released").from_custody
    assert broker.events("delivery.dropped.v1") == []
