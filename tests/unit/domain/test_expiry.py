"""Messages that expire are dropped with a reason and never typed after."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaybroker.domain import inputs
from relaybroker.domain.instants import epoch_seconds


def expiring(world, name, seq, when, **fields):
    payload = {"type": "message.created", "data": {"agent_name": "alice", "text": f"m{seq}", "expires_at": when}}
    world.deliver(name, seq, payload=payload, **fields)


def dropped(world):
    return [(item.event.reason, item.event.settled) for item in world.events("delivery.dropped.v1")]


def test_a_message_that_has_expired_when_it_arrives_is_dropped_and_counts(world):
    world.spawn("w1")
    expiring(world, "w1", 1, world.now - 1)
    world.deliver("w1", 2)
    assert dropped(world) == [("expired", True)]
    announced = [body for body in world.notified if body["kind"] == "delivery_dropped"]
    assert [(body["name"], body["reason"], body["event_ids"]) for body in announced] == [("w1", "expired", ["M1"])]
    assert world.acks("w1") == [1, 2]
    assert len(world.texts("w1")) == 1


def test_a_waiting_message_is_dropped_at_its_moment_and_never_typed(world):
    """Held because the program is not ready; what does not expire goes on waiting, in its place."""
    world.auto_ready = False
    world.spawn("w1")
    world.deliver("w1", 1)
    expiring(world, "w1", 2, world.now + 30)
    world.deliver("w1", 3)
    world.advance(29)
    assert dropped(world) == []
    world.advance(2)
    assert dropped(world) == [("expired", True)]
    assert world.acks("w1") == []
    world.assert_fold_is_live()

    session = world.broker.state.registration_of("w1").session_id
    world.report(inputs.ProgramReady, session, evidence="prompt")
    assert [text.rpartition(" ")[2] for text in world.texts("w1")] == ["hi", "hi"]
    assert world.acks("w1")[-1] == 3
    assert world.broker.state.expiries == {}


def test_nothing_is_typed_after_its_moment_although_no_timer_ran_in_between(world):
    """The broker was stopped, or slow: readiness comes together with the end."""
    world.auto_ready = False
    world.spawn("w1")
    expiring(world, "w1", 1, world.now + 5)
    world.now += 60
    session = world.broker.state.registration_of("w1").session_id
    world.report(inputs.ProgramReady, session, evidence="prompt")
    assert world.texts("w1") == []
    assert dropped(world) == [("expired", True)]


def test_a_message_with_the_host_expires_there(world):
    """The host has its moment, and hands it back untyped."""
    world.spawn("w1")
    world.auto_type = False
    expiring(world, "w1", 1, world.now + 5)
    world.deliver("w1", 2)
    effect = world.pending_text.pop(0)
    assert effect.expires_at == pytest.approx(world.now + 5)
    world.advance(6)
    assert dropped(world) == []
    world.not_typed(effect, reason="expired")
    world.type_next()
    assert dropped(world) == [("expired", True)]
    assert world.acks("w1")[-1] == 2
    world.assert_fold_is_live()


def test_what_has_been_typed_does_not_expire(world):
    world.spawn("w1")
    world.auto_type = False
    expiring(world, "w1", 1, world.now + 5)
    world.advance(6)
    world.type_next()
    assert dropped(world) == []
    assert world.acks("w1") == [1]


def test_a_restart_forgets_no_expiry(world):
    world.auto_ready = False
    world.spawn("w1")
    expiring(world, "w1", 1, world.now + 30)
    world.crash()
    world.start()
    world.online()
    world.advance(31)
    assert dropped(world) == [("expired", True)]


def test_a_late_failure_of_an_earlier_try_does_not_touch_the_new_one(world):
    """F028, attempt fencing: recorded, and the new try stays open."""
    world.spawn("w1")
    world.auto_type = False
    world.deliver("w1", 1)
    first = world.pending_text.pop(0)
    world.not_typed(first, reason="pty_write_failed")
    world.advance(10)
    assert [effect.attempt for effect in world.pending_text] == [2]

    world.not_typed(first, reason="pty_write_failed", typed="partly")
    assert world.events("host.report_ignored.v1")
    assert [delivery.state for delivery in world.broker.state.deliveries.values()] == ["injecting"]
    world.type_next()
    assert world.acks("w1") == [1]
    world.assert_fold_is_live()


@given(
    st.datetimes(min_value=dt.datetime(1970, 1, 2), max_value=dt.datetime(2099, 12, 31)),  # noqa: DTZ001
    st.integers(-14 * 60, 14 * 60),
    st.sampled_from(["seconds", "milliseconds", "microseconds"]),
)
def test_every_moment_of_rfc_3339_is_read(naive, minutes, precision):
    moment = naive.replace(tzinfo=dt.timezone(dt.timedelta(minutes=minutes)))
    text = moment.isoformat(timespec=precision)
    assert epoch_seconds(text) == pytest.approx(dt.datetime.fromisoformat(text).timestamp(), abs=1e-5)


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("1970-01-01T00:00:10Z", 10),
        ("2024-02-29t12:00:00.5+01:00", 1709204400.5),
        (1_767_261_600, 1_767_261_600),
        (1_767_261_600_500, 1_767_261_600.5),
        ("2024-02-29T12:00:00", 0),
        ("tomorrow", 0),
        ("2024-13-01T00:00:00Z", 0),
        ("١٩٧٠-01-01T00:00:10Z", 0),
        (True, 0),
        (-5, 0),
        (10**40, 0),
        (float("nan"), 0),
        (None, 0),
        ([1], 0),
    ],
)
def test_a_moment_is_read_or_counts_as_none(value, moment):
    assert epoch_seconds(value) == moment
