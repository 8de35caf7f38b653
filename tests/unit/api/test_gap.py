"""When a cursor needs a `replay_gap`, for every cursor around the edges (local-api.md section 1.4)."""

from __future__ import annotations

import pytest

from relaybroker.adapters.http.api.event_stream import durable_so_far, gap, stored
from relaybroker.domain.announcements import AgentBlocked, Announced
from relaybroker.domain.state import State


def log(first, last, *, at_ms=1000):
    state = State(epoch="ep_1", started_at=1.0)
    what = AgentBlocked(name="w1", pattern="")
    state.announcements = [Announced(seq, "ep_1", at_ms / 1000, what) for seq in range(first, last + 1)]
    state.notified = last
    return state


@pytest.mark.parametrize(
    ("first", "last", "since", "reason", "dropped"),
    [
        (1, 5, 0, None, 0),
        (1, 5, 5, None, 0),
        (1, 5, 6, "cursor_ahead", 0),
        (1, 5, 2**64 - 1, "cursor_ahead", 0),
        (3, 5, 2, None, 0),
        (3, 5, 1, "retention", 1),
        (3, 5, 0, "retention", 2),
    ],
)
def test_a_gap_is_there_exactly_when_something_is_missing(first, last, since, reason, dropped):
    missing = gap(log(first, last), since, last, None)
    assert (missing and missing["reason"]) == reason
    if missing:
        assert (missing["droppedCount"], missing["seq"], missing["oldestAvailable"]) == (dropped, first - 1, first)


def test_with_nothing_stored_a_gap_points_to_the_first_event_to_come():
    missing = gap(State(epoch="ep_1"), 7, 0, None)
    assert missing is not None
    assert (missing["reason"], missing["seq"], missing["oldestAvailable"]) == ("cursor_ahead", 0, 1)
    assert gap(State(epoch="ep_1"), 0, 0, None) is None


def test_the_epoch_of_the_client_decides_before_its_number():
    missing = gap(log(1, 5), 5, 5, "ep_0")
    assert missing is not None
    assert missing["reason"] == "epoch_changed"
    assert gap(log(1, 5), 5, 5, "ep_1") is None


@pytest.mark.parametrize("first", [1, 3])
def test_stored_events_are_exactly_those_between(first):
    state = log(first, 9)
    for since in range(12):
        for upto in range(first, 10):
            wanted = [seq for seq in range(first, upto + 1) if seq > since]
            assert [body["seq"] for body in stored(state, since, upto, 100)] == wanted
            assert [body["seq"] for body in stored(state, since, upto, 2)] == wanted[:2]


def test_what_former_runs_stored_is_durable_and_what_this_run_did_may_not_be():
    assert durable_so_far(log(1, 5, at_ms=999)) == 5
    assert durable_so_far(log(1, 5, at_ms=1000)) == 0
    assert durable_so_far(State()) == 0
