"""The broker for users' tests: what it does to a broker shows, and a broken promise fails the test."""

from __future__ import annotations

import pytest

from relaybroker.domain.mailbox import Mailbox
from relaybroker.testing.refusal import Refused
from relaybroker.testing.simulated import SimulatedBroker
from relaybroker.testing.simulation.checks import Violation
from tests.growth import DOUBLED, grows_by


@pytest.fixture
def broker(simulated_broker):
    simulated_broker.spawn("w1")
    return simulated_broker


def test_the_same_seed_is_the_same_run():
    def log_of(seed):
        made = SimulatedBroker(seed=seed)
        made.spawn("w1")
        made.expect_acked(made.deliver("w1", "hello"))
        return [(one.stream, one.at, one.event) for one in made.events()]

    assert log_of(1) == log_of(1) != log_of(2)


def test_a_broken_promise_fails_the_test_where_it_breaks(monkeypatch):
    """D2, ACK-FLOOR: the floor runs ahead of what is settled."""
    broker = SimulatedBroker()
    broker.spawn("w1")
    monkeypatch.setattr(Mailbox, "settle", lambda self, seq: setattr(self, "floor", self.floor + 2))
    broker.deliver("w1", "one")
    with pytest.raises(Violation):
        broker.advance(minutes=1)


def test_the_log_is_there_after_a_crash_and_folds_to_the_live_state(broker):
    broker.crash_at_next_commit()
    message = broker.deliver("w1", "hello")
    broker.wait(lambda: not broker.is_up)
    with pytest.raises(Refused) as refused:
        _ = broker.state
    assert refused.value.code == "not_running"
    broker.restart()
    broker.expect_acked(message)
    assert [text for text in broker.typed("w1") if "hello" in text] == broker.typed("w1")
    assert [one.event.boot_id for one in broker.events("broker.started.v1")] == ["bo_1", "bo_2"]


def test_what_is_refused_says_why(broker):
    for ask, code in (
        (lambda: broker.spawn("w1"), "agent_exists"),
        (lambda: broker.exit_agent("w9"), "agent_not_found"),
        (lambda: broker.redeliver(broker.deliver("w1", "x")), "not_found"),
    ):
        with pytest.raises(Refused) as refused:
            ask()
        assert refused.value.code == code


def test_what_does_not_come_true_is_told_with_its_story(broker):
    broker.hold("w1")
    message = broker.deliver("w1", "held")
    with pytest.raises(AssertionError, match=r"not within 5 simulated s: acknowledged\nHELD \(manual_flush\)"):
        broker.expect_acked(message, within_s=5)
    with pytest.raises(AssertionError, match="w1 is typed 'held'"):
        broker.expect_typed("w1", "held", within_s=5)
    with pytest.raises(AssertionError, match="not acked"):
        broker.expect_outcome(message, "acked", within_s=2)
    assert broker.flush("w1") == 1
    broker.expect_acked(message)


def test_texts_are_expected_in_their_order(broker):
    broker.expect_acked(broker.deliver("w1", "one"), broker.deliver("w1", "two"))
    broker.expect_typed("w1", "one", "two")
    with pytest.raises(AssertionError):
        broker.expect_typed("w1", "two", "one", within_s=1)


def test_a_dead_letter_is_redelivered(broker):
    message = broker.deliver("w1", "perhaps")
    broker.wait(lambda: broker.events("delivery.injecting.v1"))
    broker.kill_terminals()
    broker.advance(minutes=1)
    (letter,) = broker.dead_letters()
    assert (letter.reason, letter.in_doubt) == ("ambiguous", True)
    broker.spawn("w1")
    with pytest.raises(Refused) as refused:
        broker.redeliver(message)
    assert refused.value.code == "ambiguous"
    broker.redeliver(message, force=True)
    broker.expect_typed("w1", "perhaps")
    assert "possible-duplicate" in broker.typed("w1")[-1]
    assert broker.dead_letters() == []


def test_everything_comes_to_rest_after_faults(broker):
    broker.spawn("w2")
    broker.disconnect()
    answers = [broker.deliver(name, f"text {number}") for number in range(20) for name in ("w1", "w2")]
    broker.advance(minutes=3)
    broker.occupy("w1")
    broker.show_dialog("w2")
    broker.reconnect()
    broker.settle()
    assert all(broker.is_acked(message) for message in answers)
    broker.release("w2")
    broker.exit_agent("w1")
    broker.advance(30)
    assert not broker.state.live_registrations()


@pytest.mark.parametrize("reason", ["agent_busy", "agent_suspended", "composer_unclear", "human_driving"])
def test_whoever_has_the_terminal_holds_messages_until_it_is_free(broker, reason):
    broker.occupy("w1", reason, patience_s=1e6)
    message = broker.deliver("w1", "for later")
    broker.expect_outcome(message, "held", reason)
    broker.advance(minutes=5)
    assert broker.typed("w1") == []
    broker.free("w1")
    broker.expect_acked(message)
    broker.expect_typed("w1", "for later")


def test_a_shell_is_shown_its_messages_whoever_types_in_it(broker):
    broker.spawn("sh", cli="bash", task="make")
    broker.occupy("sh", "human_driving")
    message = broker.deliver("sh", "look at this")
    broker.expect_acked(message)
    assert [step.event for step in broker.expect_outcome(message, "acked").steps].count("delivery.injected.v1") == 1
    evidence = [one.event.evidence for one in broker.events("delivery.injected.v1")]
    assert evidence == ["composer", "shown"]


def test_a_text_that_stands_is_seen_and_acknowledged_when_it_went_in(broker):
    """PROOF, F084."""
    broker.swallow_enter("w1")
    message = broker.deliver("w1", "stands")
    behind = broker.deliver("w1", "waits")
    broker.advance(minutes=2)
    assert not broker.is_acked(message)
    assert broker.events("worker.blocked.v1")[-1].event.pattern == "unsubmitted draft"
    broker.submit("w1")
    broker.expect_acked(message, behind)
    assert len(broker.typed("w1")) == 2


def test_a_text_that_a_person_changed_is_in_doubt(broker):
    """F085."""
    broker.swallow_enter("w1")
    message = broker.deliver("w1", "stands")
    broker.advance(minutes=2)
    broker.answer_dialog("w1")
    letter = broker.expect_dead_letter(message, "ambiguous")
    assert letter.in_doubt


def test_agents_send_once_however_often_they_ask(broker):
    broker.spawn("w2")
    first = broker.send("w2", "hello", sender="w1", key="k1")
    assert broker.send("w2", "hello", sender="w1", key="k1") == first | {"replayed": True}
    assert [one.text for one in broker.published()] == ["hello"]
    broker.expect_typed("w2", "hello")


def traffic(messages):
    broker = SimulatedBroker()
    names = ("ann", "bob", "cleo")
    for name in names:
        broker.spawn(name)
    sent = []
    for number in range(messages):
        sent.append(broker.deliver(names[number % 3], f"message {number}"))
        broker.advance(minutes=3)
        if number == 100:
            broker.crash()
            broker.restart()
    broker.expect_acked(*sent)
    broker.verify()
    return broker


def test_a_day_of_traffic_costs_as_much_as_half_a_day_twice():
    assert grows_by(traffic, 240) <= DOUBLED
