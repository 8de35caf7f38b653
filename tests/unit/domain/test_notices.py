"""An agent hears, once, that what it sent was not delivered."""

from __future__ import annotations

import pytest

from relaybroker.adapters.http.engine_calls import HttpCall
from relaybroker.domain import inputs
from relaybroker.domain.delivery import MAX_BODY_BYTES
from relaybroker.domain.reasons import SENTENCES, Reason


def direct(world, to, sender, seq, text="hi", **data):
    payload = {"type": "dm.received", "data": {"text": text, "agent_name": sender} | data}
    world.deliver(to, seq, payload=payload)


def notices(world, name):
    return [text for text in world.texts(name) if "was not delivered" in text]


def offered(world):
    return [item.event for item in world.events("delivery.offered.v1") if item.event.source == "notice"]


@pytest.fixture
def pair(world):
    """Two agents that are live."""
    world.spawn("w1")
    world.spawn("w2")
    return world


def test_a_sender_here_is_typed_one_notice_of_a_message_that_became_a_dead_letter(pair):
    """TRUE-END."""
    direct(pair, "w2", "w1", 1, "x" * (MAX_BODY_BYTES + 1))
    (text,) = notices(pair, "w1")
    assert text.endswith(f"]: Your message M1 to w2 was not delivered: {SENTENCES[Reason.TOO_LARGE]}")
    assert text.startswith(("Relay message from broker [notice_", "<system-reminder>"))
    assert notices(pair, "w2") == []
    pair.assert_fold_is_live()


def test_an_expired_message_is_told_too(pair):
    direct(pair, "w2", "w1", 1, expires_at=pair.now - 1)
    assert SENTENCES[Reason.EXPIRED] in notices(pair, "w1")[0]


@pytest.mark.parametrize(
    ("sender", "changes"),
    [
        ("alice", {}),  # not of this node
        ("w2", {}),  # its own echo
        ("w1", {"channel_name": "general"}),  # addressed to nobody in particular
    ],
)
def test_nobody_is_told_of_what_was_not_an_agents_own_to_somebody(pair, sender, changes):
    direct(pair, "w2", sender, 1, "x" * (MAX_BODY_BYTES + 1), **changes)
    assert offered(pair) == []


def test_never_twice_for_one_message_and_never_for_a_notice(pair):
    """TRUE-END."""
    direct(pair, "w2", "w1", 1, "x" * (MAX_BODY_BYTES + 1))
    pair.frame(
        type="context.update",
        event="delivery.failed",
        agent_ids=[pair.agent_ids["w1"]],
        data={"message_id": "M1", "target_agent_name": "w2", "reason": "ttl_expired"},
    )
    assert len(offered(pair)) == 1
    pair.crash()
    pair.start()
    pair.online()
    pair.tell(inputs.ReleaseRequested(request_id="r1", name="w1"))
    assert len(offered(pair)) == 1


def test_a_notice_that_waits_when_its_agent_ends_is_dropped_and_no_dead_letter(world):
    world.auto_ready = False
    world.spawn("w1")
    world.spawn("w2")
    direct(world, "w2", "w1", 1, "x" * (MAX_BODY_BYTES + 1))
    assert len(offered(world)) == 1
    session = world.broker.state.registration_of("w1").session_id
    world.report(inputs.ProgramExited, session, code=0, signal=None, last_output="", uptime_s=1.0, requested=False)
    (dropped,) = world.events("delivery.dropped.v1")
    assert dropped.event.settled
    assert [letter.source for letter in world.broker.state.dead_letters.values()] == ["engine"]
    world.assert_fold_is_live()


def published(world, to, message_id="77"):
    agent_id = world.agent_ids["w1"]
    world.tell(inputs.SendRequested(request_id="s1", to=to, text="hello", agent_id=agent_id))
    call = next(one for one in reversed(world.effects) if isinstance(one, HttpCall) and one.idempotency_key)
    world.tell(inputs.EngineAnswered(call_id=call.call_id, status=201, data={"id": message_id}))


def failed(world, target, reason="ttl_expired", message_id="77"):
    world.frame(
        type="context.update",
        event="delivery.failed",
        agent_ids=[world.agent_ids["w1"]],
        data={"message_id": message_id, "target_agent_name": target, "reason": reason},
    )


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("ttl_expired", "Nobody took it"),
        ("depth_cap", "mailbox at the engine is full"),
        ("odd", "The engine says: odd"),
    ],
)
def test_what_the_engine_could_not_deliver_is_told_to_the_agent_that_sent_it(pair, reason, words):
    published(pair, "far")
    failed(pair, "far", reason)
    failed(pair, "far", reason)
    (text,) = notices(pair, "w1")
    assert "Your message 77 to far was not delivered: " in text
    assert words in text
    pair.assert_fold_is_live()


def test_members_of_a_channel_and_the_operators_inbox_are_not_told_of(pair):
    published(pair, "#general")
    failed(pair, "far")
    published(pair, "desk", "78")
    failed(pair, "desk", message_id="78")
    failed(pair, "far", message_id="79")  # nobody here sent it
    assert offered(pair) == []


def test_a_message_that_was_pending_and_is_refused_later_is_told(pair):
    agent_id = pair.agent_ids["w1"]
    pair.tell(inputs.SendRequested(request_id="s1", to="ghost", text="hello", agent_id=agent_id))
    call = next(one for one in reversed(pair.effects) if isinstance(one, HttpCall) and one.idempotency_key)
    pair.tell(inputs.EngineUnanswered(call_id=call.call_id, detail="refused"))
    pair.advance(6)
    assert pair.replies["s1"].body["publish_pending"] is True
    call = [one for one in pair.effects if isinstance(one, HttpCall) and one.idempotency_key][-1]
    pair.tell(inputs.EngineAnswered(call_id=call.call_id, status=404, code="agent_not_found"))
    (text,) = notices(pair, "w1")
    assert f"to ghost was not delivered: {SENTENCES[Reason.RECIPIENT_NOT_FOUND]}" in text
    pair.assert_fold_is_live()


def test_an_answer_that_was_refused_at_once_needs_no_notice(pair):
    agent_id = pair.agent_ids["w1"]
    pair.tell(inputs.SendRequested(request_id="s1", to="ghost", text="hello", agent_id=agent_id))
    call = next(one for one in reversed(pair.effects) if isinstance(one, HttpCall) and one.idempotency_key)
    pair.tell(inputs.EngineAnswered(call_id=call.call_id, status=404, code="agent_not_found"))
    assert pair.replies["s1"].status == 404
    assert offered(pair) == []
