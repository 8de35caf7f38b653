"""The simulated and the live broker have one interface: senders, channels, threads and refusals are what they are at the engine."""

from __future__ import annotations

import pytest

from relaybroker.testing.refusal import Refused


def test_agents_and_people_talk_in_channels_threads_and_directly(any_broker):
    broker = any_broker
    for name in ("w1", "w2"):
        broker.spawn(name)
    broker.person("planner")
    asked = broker.deliver("w1", "are you there?", sender="planner")
    broker.expect_typed("w1", f"Relay message from planner [{asked}]: are you there?")
    broker.expect_acked(asked)
    answered = broker.send(f"thread:{asked}", "I am", sender="w1")
    assert (answered["sent_as"], answered["relaycast_published"]) == ("w1", True)
    broker.deliver("w1", "and now?", sender="planner", thread=asked)
    broker.expect_typed("w1", f"thread:{asked}]: and now?")

    broker.send("#general", "to all", sender="w1")
    broker.expect_typed("w2", "Relay message from w1 in #general [")
    broker.join("w2", "lab")
    broker.join("planner", "lab")
    broker.deliver("#lab", "for members", sender="planner")
    broker.expect_typed("w2", "Relay message from planner in #lab [")
    broker.send("w2", "from the operator")
    broker.expect_typed("w2", "from the operator")
    assert not any("to all" in text or "for members" in text for text in broker.typed("w1"))

    broker.hold("w2")
    broker.send("w2", "for later", sender="w1")
    broker.crash()
    broker.restart()
    assert broker.fetch("w2") == []  # a person holds it
    broker.wait(lambda: broker.flush("w2"), what="it was held")
    broker.unhold("w2")
    broker.expect_typed("w2", "for later")
    assert sum("for later" in text for text in broker.typed("w2")) == 1

    for misuse, code in (
        (lambda: broker.send("w2", "x", sender="planer"), "sender_not_found"),
        (lambda: broker.send("w3", "x"), "recipient_not_found"),
        (lambda: broker.send("#nowhere", "x"), "recipient_not_found"),
        (lambda: broker.send("w2", "x", thread="999"), "message_not_found"),
        (lambda: broker.send("w2", "x" * 17_000), "body_too_large"),
        (lambda: broker.deliver("w3", "x"), "agent_not_found"),
        (lambda: broker.deliver("#nowhere", "x"), "channel_not_found"),
        (lambda: broker.deliver("w1", "x", sender="nobody"), "agent_not_found"),
        (lambda: broker.deliver("w1", "x", thread="999"), "message_not_found"),
        (lambda: broker.fetch("w3"), "agent_not_found"),
        (broker.restart, "already_running"),
    ):
        with pytest.raises(Refused) as refused:
            misuse()
        assert refused.value.code == code


def test_what_waits_is_fetched_and_a_sender_is_told(simulated_broker):
    broker = simulated_broker
    for name in ("w1", "w2"):
        broker.spawn(name)
    broker.show_dialog("w2")
    broker.send("w2", "read me", sender="w1")
    broker.wait(lambda: broker.state.deliveries)
    assert [one["text"] for one in broker.fetch("w2")] == ["read me"]
    assert broker.fetch("w2") == []
    broker.answer_dialog("w2")
    broker.advance(minutes=1)
    assert broker.typed("w2") == []
    broker.deliver("w2", "x" * 17_000, sender="w1")
    broker.expect_typed("w1", "was not delivered")


@pytest.mark.relaybroker(sed=1)
def test_an_unknown_key_of_the_marker_is_an_error(request):
    with pytest.raises(pytest.UsageError, match="this test gives it sed"):
        request.getfixturevalue("simulated_broker")
