"""Outbound messages: published once, in the order in which they were handed in, under the caller's key, and announced once."""

from __future__ import annotations

import pytest

from relaybroker.adapters.http.engine_calls import HttpCall
from relaybroker.domain import inputs
from relaybroker.domain import message as message_machine


def send(world, request_id="s1", to="#general", text="hello", **fields):
    world.tell(inputs.SendRequested(request_id=request_id, to=to, text=text, **fields))


def publishes(world):
    return [one for one in world.effects if isinstance(one, HttpCall) and one.idempotency_key]


def answer(world, call, status=201, **fields):
    world.tell(inputs.EngineAnswered(call_id=call.call_id, status=status, **fields))


def unanswered(world, call):
    world.tell(inputs.EngineUnanswered(call_id=call.call_id, detail="connection refused"))


def announced(world):
    return [body for body in world.notified if body["kind"] == "relay_inbound"]


# --- the caller's key -----------------------------------------------------------------------------------------------------


def test_the_same_key_again_gets_the_stored_answer_and_sends_nothing(world):
    """U10, local-api 1.1."""
    send(world, key="k")
    answer(world, publishes(world)[0], data={"id": "77"})
    send(world, "s2", key="k")
    assert world.replies["s2"].status == 200
    assert world.replies["s2"].body == world.replies["s1"].body | {"replayed": True}
    assert len(publishes(world)) == 1
    world.assert_fold_is_live()


def test_the_same_key_waits_while_the_first_call_runs(world):
    send(world, key="k")
    send(world, "s2", key="k")
    assert "s2" not in world.replies
    answer(world, publishes(world)[0], data={"id": "77"})
    assert "replayed" not in world.replies["s1"].body
    assert world.replies["s2"].body == world.replies["s1"].body | {"replayed": True}
    world.assert_fold_is_live()


@pytest.mark.parametrize("change", [{"text": "other"}, {"to": "#dev"}, {"sender": "human:x"}, {"mode": "steer"}])
def test_the_same_key_with_another_body_is_a_conflict(world, change):
    send(world, key="k")
    send(world, "s2", key="k", **change)
    assert (world.replies["s2"].status, world.replies["s2"].body["code"]) == (409, "idempotency_conflict")
    assert len(publishes(world)) == 1


def test_a_key_holds_across_a_crash_before_and_after_the_answer(world):
    """U10, U14, F034: whoever lost the answer asks again with the same key."""
    send(world, key="k")
    world.crash()
    world.start()
    send(world, "s2", key="k")
    world.advance(0.1)
    answer(world, publishes(world)[-1], data={"id": "77"})
    world.crash()
    world.start()
    send(world, "s3", key="k")
    assert world.replies["s2"].body["message_id"] == world.replies["s3"].body["message_id"] == "77"
    assert len({call.idempotency_key for call in publishes(world)}) == 1


def test_a_refusal_is_an_answer_too(world):
    send(world, to="ghost", key="k")
    answer(world, publishes(world)[0], 404, code="agent_not_found")
    send(world, "s2", to="ghost", key="k")
    assert (world.replies["s2"].status, world.replies["s2"].body["code"]) == (404, "recipient_not_found")
    assert world.replies["s2"].body["replayed"] is True
    assert len(publishes(world)) == 1


def test_an_answer_that_was_pending_is_brought_up_to_date(world):
    """TRUE-ANSWER: what is known now, not what was known then."""
    send(world, key="k")
    unanswered(world, publishes(world)[0])
    world.advance(6)
    assert world.replies["s1"].body["publish_pending"] is True
    send(world, "s2", key="k")
    assert world.replies["s2"].body["publish_pending"] is True
    answer(world, publishes(world)[-1], data={"id": "77"})
    send(world, "s3", key="k")
    assert world.replies["s3"].body["message_id"] == "77"


def test_keys_are_bounded_and_none_is_forgotten_before_its_time(world, monkeypatch):
    """BOUNDED: at least 600 s; beyond the number the oldest goes, and a newcomer is refused while none may go."""
    monkeypatch.setattr(message_machine, "KEYS_KEPT", 3)
    for number in range(3):
        send(world, f"s{number}", to=f"#c{number}", key=f"k{number}")
        answer(world, publishes(world)[-1], data={"id": str(number)})
    send(world, "s3", key="k3")
    assert (world.replies["s3"].status, world.replies["s3"].body["code"]) == (429, "queue_full")
    world.advance(message_machine.KEY_S)
    send(world, "s4", key="k4")
    assert set(world.broker.state.sends) == {"k1", "k2", "k4"}
    world.advance(24 * 3600)
    send(world, "s5", key="k5")
    assert "k1" not in world.broker.state.sends
    world.assert_fold_is_live()


# --- threads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thread", ["http_0c1d", "#general", "direct:a:b", "²", "9" * 40])
def test_a_thread_id_that_is_none_of_the_engine_goes_out_as_a_plain_message(world, thread):
    """F037."""
    send(world, thread_id=thread)
    call = publishes(world)[0]
    assert call.path == "/v1/channels/general/messages"
    answer(world, call, data={"id": "77"})
    assert world.replies["s1"].body["thread_used"] is False


def test_a_thread_that_the_engine_does_not_know_costs_no_message(world):
    """F037: it looks like an id of the engine, and is none."""
    send(world, thread_id="123")
    assert publishes(world)[0].path == "/v1/messages/123/replies"
    answer(world, publishes(world)[0], 404, code="message_not_found")
    plain = publishes(world)[1]
    assert (plain.path, plain.body["text"]) == ("/v1/channels/general/messages", "hello")
    world.crash()
    world.start()
    world.advance(0.1)
    again = publishes(world)[2]
    assert (again.path, again.idempotency_key) == (plain.path, plain.idempotency_key)
    answer(world, again, data={"id": "77"})
    assert world.events("message.published.v1")
    world.assert_fold_is_live()


def test_the_answer_says_what_became_of_thread_mode_and_sender(world):
    """TRUE-ANSWER: a reply at the engine has no mode, a person no identity of its own there."""
    send(world, thread_id="123", mode="steer", sender="human:ann")
    answer(world, publishes(world)[0], data={"id": "77"})
    body = world.replies["s1"].body
    assert (body["thread_used"], body["mode_used"], body["sent_as"]) == (True, "wait", "desk")


# --- order ----------------------------------------------------------------------------------------------------------------


def test_one_sender_to_one_target_keeps_its_order_over_an_outage(world):
    """What was handed in first is published first."""
    send(world, "s1", text="one")
    send(world, "s2", text="two")
    unanswered(world, publishes(world)[0])
    world.advance(3)
    send(world, "s3", text="three")
    assert {call.body["text"] for call in publishes(world)} == {"one"}
    for number, text in enumerate(("one", "two", "three")):
        assert publishes(world)[-1].body["text"] == text
        answer(world, publishes(world)[-1], data={"id": str(number)})
    assert [world.replies[f"s{n}"].body["message_id"] for n in (1, 2, 3)] == ["0", "1", "2"]
    world.assert_fold_is_live()


def test_different_targets_and_senders_do_not_wait_for_each_other(world):
    world.spawn("w1")
    send(world, "s1")
    send(world, "s2", to="#dev")
    send(world, "s3", sender="w1")
    assert len(publishes(world)) == 3


def test_a_message_that_the_engine_chokes_on_holds_up_the_others_for_a_while_only(world):
    """NO-STALL."""
    send(world, "s1", text="poison")
    send(world, "s2", text="two")
    for _ in range(message_machine.HOLDS_LINE_TRIES):
        world.advance(message_machine.RETRY_MAX_S)
        assert {call.body["text"] for call in publishes(world)} == {"poison"}
        answer(world, publishes(world)[-1], 500, code="internal_error")
    assert publishes(world)[-1].body["text"] == "two"


# --- announcements --------------------------------------------------------------------------------------------------------


def test_a_message_to_three_agents_is_announced_once(world):
    """F119."""
    for name in ("a1", "a2", "a3"):
        world.spawn(name)
        world.deliver(name, 1, msg_id="M1")
    assert [body["event_id"] for body in announced(world)] == ["M1"]
    assert len([body for body in world.notified if body["kind"] == "delivery_queued"]) == 3


def test_a_reaction_is_no_message_and_hides_none(world):
    """F119, S7: the receipt may come before the message that it is about."""
    world.spawn("a1")
    data = {"message_id": "M1", "emoji": "+1", "agent_name": "bob"}
    world.deliver("a1", 0, msg_id="M1", delivery_id="evt_1", payload={"type": "message.reacted", "data": data})
    assert announced(world) == []
    world.deliver("a1", 1, msg_id="M1")
    assert [body["event_id"] for body in announced(world)] == ["M1"]


# --- the end ----------------------------------------------------------------------------------------------------------------


def test_a_caller_who_waits_when_the_broker_stops_hears_that_the_message_is_stored(world):
    """U14, TRUE-ANSWER: an error would make it send the message again."""
    send(world)
    world.tell(inputs.ShutdownRequested(reason="SIGTERM"))
    assert world.replies["s1"].status == 200
    assert world.replies["s1"].body["publish_pending"] is True


# --- strict sends ---------------------------------------------------------------------------------------------------------


def test_a_strict_send_as_somebody_who_does_not_live_here_is_refused_with_the_nearest_names(world):
    world.spawn("planner")
    send(world, sender="planer", strict=True)
    reply = world.replies["s1"]
    assert (reply.status, reply.body["code"], reply.body["nearest"]) == (404, "sender_not_found", ["planner"])
    assert publishes(world) == []
    send(world, "s2", sender="planner", strict=True)
    assert publishes(world)[0].auth == f"agent:{world.agent_ids['planner']}"


def test_a_strict_reply_goes_to_its_thread_or_nowhere(world):
    send(world, to="alice", thread_id="999", strict=True)
    answer(world, publishes(world)[0], 404, code="message_not_found")
    assert (world.replies["s1"].status, world.replies["s1"].body["code"]) == (404, "message_not_found")
    assert len(publishes(world)) == 1
    send(world, "s2", thread_id="not-an-id", strict=True)
    assert (world.replies["s2"].status, world.replies["s2"].body["code"]) == (404, "message_not_found")
    world.assert_fold_is_live()


def test_a_text_that_no_terminal_may_get_is_refused_before_it_is_sent(world):
    send(world, text="é" * 8193)
    assert (world.replies["s1"].status, world.replies["s1"].body["code"]) == (413, "body_too_large")
    send(world, "s2", text="x" * 16384)
    assert len(publishes(world)) == 1


def test_what_the_engine_does_not_have_is_refused_and_holds_up_nothing(world):
    """501 is not an engine that is ill: nobody waits for it to be built."""
    send(world, to="w1", attachments=("f1",))
    answer(world, publishes(world)[0], 501, code="not_implemented", message="This engine keeps no files")
    assert (world.replies["s1"].status, world.replies["s1"].body["code"]) == (502, "engine_error")
    send(world, "s2", to="w1")
    assert len(publishes(world)) == 2
