"""Local messages that wait for the engine go to it by priority; what is accepted is never evicted, and nobody blocks the others."""

from __future__ import annotations

import pytest

from relaybroker.adapters.http.engine_calls import HttpCall
from relaybroker.domain import inputs
from relaybroker.domain import message as message_machine
from relaybroker.domain.message import HOLDS_LINE_TRIES, RETRY_MAX_S
from relaybroker.domain.rules import send_answers


def send(world, text, *, to="w9", **fields):
    world.tell(inputs.SendRequested(request_id=f"req_{text}", to=to, text=text, **fields))


def calls(world):
    return [one for one in world.effects if isinstance(one, HttpCall) and one.idempotency_key]


def published(world):
    """Texts in the order in which the engine was asked for them, with repetitions."""
    return [call.body["text"] for call in calls(world)]


def under_way(world):
    return [message for message in world.broker.state.messages.values() if message.state == "publishing"]


def answer(world, status=201, text=""):
    """The engine answers the newest open call (for this text); with status 0 nobody does."""
    call_id = max((one for one in under_way(world) if text in ("", one.text)), key=lambda one: one.tried_at).call_id
    if status:
        world.tell(inputs.EngineAnswered(call_id=call_id, status=status, data={"id": call_id}))
    else:
        world.tell(inputs.EngineUnanswered(call_id=call_id, detail="connection refused"))


def drain(world):
    while under_way(world):
        answer(world)


@pytest.fixture
def outage(world):
    """The engine is away: the first message of the broker to w9, and one of w1 and of w2, were answered by nobody."""
    for name in ("w1", "w2"):
        world.spawn(name)
    for text, sender in [("first", ""), ("w1 normal", "w1"), ("w2 least", "w2")]:
        send(world, text, sender=sender, **({"priority": 4} if sender == "w2" else {}))
    for text in published(world):
        answer(world, 0, text)
    return world


# --- in one line ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [0, 503])
def test_urgent_messages_go_before_normal_ones_that_wait(world, failure):
    """F039: but the one that the engine may have already keeps its place."""
    send(world, "first")
    for text, priority in [
        ("normal", 2),
        ("least", 4),
        ("urgent", 0),
        ("high", 1),
        ("urgent too", 0),
        ("normal too", 2),
    ]:
        send(world, text, priority=priority)
    answer(world, failure)
    world.advance(1)
    drain(world)
    order = ["first", "first", "urgent", "urgent too", "high", "normal", "normal too", "least"]
    assert published(world) == order
    assert (world.broker.state.messages, world.broker.state.lines) == ({}, {})
    world.assert_fold_is_live()


def test_a_message_that_was_tried_is_not_overtaken_in_its_line(world):
    """It may be at the engine: then another one before it would have come after it."""
    send(world, "least", priority=4)
    answer(world, 0)
    send(world, "urgent", priority=0)
    world.advance(RETRY_MAX_S)
    answer(world)
    assert published(world)[-2:] == ["least", "urgent"]


def test_the_order_of_a_line_survives_a_restart(world):
    send(world, "first")
    send(world, "normal")
    send(world, "urgent", priority=0)
    world.crash()
    world.start()
    send(world, "high", priority=1)
    world.advance(0.1)
    drain(world)
    assert published(world) == ["first", "first", "urgent", "high", "normal"]
    world.assert_fold_is_live()


def test_without_a_priority_a_channel_waits_longer_than_a_person(world):
    """local-api 6.1: 3 for channels, 2 otherwise; 0 to 4 as given."""
    world.broker.state.own.agent_id = ""
    for text, to in [("channel", "#general"), ("person", "w9"), ("high", "#dev")]:
        send(world, text, to=to, **({"priority": 1} if text == "high" else {}))
    assert [message.priority for message in world.broker.state.messages.values()] == [3, 2, 1]
    world.broker.state.own.agent_id = "900"
    world.advance(6)
    assert published(world) == ["high", "person", "channel"]


def test_a_queue_that_is_full_refuses_the_newest_whatever_its_priority(world, monkeypatch):
    """F039 queue_full: nothing accepted is evicted."""
    monkeypatch.setattr(message_machine, "MAX_OPEN", 5)
    for number in range(5):
        send(world, f"m{number}")
    send(world, "urgent", priority=0)
    assert (world.replies["req_urgent"].status, world.replies["req_urgent"].body["code"]) == (429, "queue_full")
    drain(world)
    assert published(world) == [f"m{number}" for number in range(5)]


# --- between lines ----------------------------------------------------------------------------------------------------------


def test_lines_go_side_by_side_while_the_engine_answers(world):
    world.spawn("w1")
    send(world, "least", priority=4)
    send(world, "other", sender="w1")
    send(world, "elsewhere", to="#general")
    assert published(world) == ["least", "other", "elsewhere"]


def test_after_an_outage_the_most_urgent_of_all_senders_comes_first(outage):
    """F039: for one target one at a time, so that the engine takes them in this order."""
    send(outage, "urgent", sender="w2", priority=0)
    send(outage, "high", priority=1)
    before = len(published(outage))
    outage.advance(RETRY_MAX_S)
    assert len(under_way(outage)) == 1
    drain(outage)
    assert published(outage)[before:] == ["first", "high", "w1 normal", "w2 least", "urgent"]
    outage.assert_fold_is_live()


def test_an_urgent_message_whose_pause_is_not_over_is_tried_before_a_less_urgent_one_that_is_due(world):
    """The engine may be back; if it is not, the less urgent one is tried, too, and nobody is held up."""
    world.spawn("w1")
    send(world, "urgent", priority=0)
    for _ in range(6):
        answer(world, 0)
        world.advance(RETRY_MAX_S)
    answer(world, 0)
    world.advance(1)
    send(world, "normal", sender="w1")
    assert published(world)[-1] == "urgent"
    answer(world, 0)
    assert published(world)[-1] == "normal"
    answer(world)
    assert published(world)[-1] == "urgent", "the engine is there: no further pause"
    assert world.broker.next_deadline() is not None


def test_an_equally_urgent_one_is_not_tried_before_its_time(world):
    """An outage costs each line its own tries, not those of all others as well."""
    world.spawn("w1")
    send(world, "older")
    for pause in (0.5, 1.0, 1.9):
        answer(world, 0)
        world.advance(pause)
    send(world, "newer", sender="w1")
    assert published(world)[-2:] == ["older", "newer"]
    assert [message.text for message in under_way(world)] == ["newer"]


def test_an_answer_of_any_kind_ends_the_doubt(world):
    """The engine does not know the thread: it is there, and others need not go one at a time."""
    world.spawn("w1")
    send(world, "threaded", thread_id="123")
    answer(world, 0)
    world.advance(1)
    world.tell(inputs.EngineAnswered(call_id=under_way(world)[0].call_id, status=404, code="message_not_found"))
    send(world, "other", sender="w1")
    assert [message.text for message in under_way(world)] == ["threaded", "other"]


@pytest.mark.parametrize("status", [429, 503])
def test_what_the_engine_turned_away_waits_as_it_was_told_and_others_go_meanwhile(world, status):
    """NO-STALL; and a pause that the engine asked for is kept."""
    world.spawn("w1")
    send(world, "urgent", priority=0)
    answer(world, status)
    send(world, "normal", sender="w1")
    assert published(world) == ["urgent", "normal"]
    answer(world)
    assert published(world) == ["urgent", "normal"]
    world.advance(1)
    assert published(world) == ["urgent", "normal", "urgent"]


def test_a_message_that_the_engine_always_fails_on_holds_up_nobody(world):
    world.spawn("w1")
    send(world, "poison", priority=0)
    for text in ("behind it", "behind it too"):
        send(world, text)
    send(world, "of another", sender="w1")
    for _ in range(HOLDS_LINE_TRIES + 3):
        for message in under_way(world):
            answer(world, 500 if message.text == "poison" else 201, message.text)
        world.advance(RETRY_MAX_S)
    assert [message.text for message in world.broker.state.messages.values()] == ["poison"]


def test_a_target_that_waits_holds_no_other_target_up(outage):
    send(outage, "elsewhere", to="#general")
    assert published(outage)[-1] == "elsewhere"


def test_no_more_than_so_many_are_with_the_engine_and_the_next_is_the_most_urgent(world, monkeypatch):
    """BOUNDED: what is beyond that waits where priority orders it."""
    monkeypatch.setattr(message_machine, "AT_ONCE", 3)
    for number in range(5):
        send(world, f"m{number}", to=f"#c{number}")
    send(world, "urgent", to="w9", priority=0)
    assert published(world) == ["m0", "m1", "m2"]
    world.advance(20)
    answer(world, text="m1")
    assert published(world)[3:] == ["urgent"]
    drain(world)
    assert published(world) == ["m0", "m1", "m2", "urgent", "m3", "m4"]
    world.assert_fold_is_live()


def test_of_equally_urgent_ones_the_oldest_goes_first(world, monkeypatch):
    monkeypatch.setattr(message_machine, "AT_ONCE", 1)
    for text, to in [("a1", "#a"), ("b1", "#b"), ("a2", "#a")]:
        send(world, text, to=to)
        world.advance(0.1)
    drain(world)
    assert published(world) == ["a1", "b1", "a2"]


# --- what others are told ---------------------------------------------------------------------------------------------------


def test_a_priority_that_stands_out_is_told_to_the_readers_in_the_engines_words(world):
    """The engine's numbers run the other way: labels only, and what the caller says in `data` stands."""
    for text, fields in [
        ("now", {"priority": 0}),
        ("soon", {"priority": 1, "thread_id": "123"}),
        ("plain", {"priority": 2}),
        ("mine", {"priority": 0, "data": {"priority": "low"}}),
    ]:
        send(world, text, to=f"#{text}", **fields)
    expected = [{"priority": "urgent"}, {"priority": "high"}, None, {"priority": "low"}]
    assert [call.body.get("data") for call in calls(world)] == expected


def test_a_key_is_for_one_priority_and_keys_from_before_priorities_stay_valid(world):
    """local-api 1.1: the fingerprint of a request without one is what it always was."""
    old = inputs.SendRequested(request_id="a", to="w", text="x", data={"b": 1, "a": [2]}, key="k")
    assert send_answers.fingerprint(old) == "761bb63f7270424732c4de3678887cad"
    send(world, "x", key="k", priority=1)
    world.tell(inputs.SendRequested(request_id="again", to="w9", text="x", key="k", priority=2))
    assert world.replies["again"].body["code"] == "idempotency_conflict"
