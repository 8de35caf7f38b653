"""A session file in a user's test."""

from __future__ import annotations

import pytest

from relaybroker.domain import delivery
from relaybroker.replay.exporting import export
from relaybroker.replay.policies import BadPolicyError
from relaybroker.replay.session import SessionError
from tests.log_at_hand import LogAtHand


@pytest.fixture
def session(simulated_broker, tmp_path):
    """A message that may have been typed, under the policy `ask`."""
    broker = simulated_broker
    broker.spawn("w1")
    broker.deliver("w1", "perhaps")
    broker.wait(lambda: broker.events("delivery.injecting.v1"))
    broker.kill_terminals()
    broker.advance(minutes=1)
    path = tmp_path / "session.jsonl"
    with path.open("wb") as file:
        export(LogAtHand(broker.events()), file)
    return path


def test_a_session_that_is_decided_the_same_passes(replay_session, session):
    outcome = replay_session(session)
    assert outcome.differences == []
    assert replay_session(session, until=5).state.position == 5


def test_a_changed_rule_fails_with_the_place(replay_session, session, monkeypatch):
    monkeypatch.setattr("relaybroker.domain.rules.deliveries.INJECT_WINDOW", 0)
    assert delivery.INJECT_WINDOW
    with pytest.raises(
        AssertionError, match=r"decided differently\n#\d+ \(line \d+.*FrameArrived: decided differently"
    ):
        replay_session(session)


def test_another_policy_is_answered_with_what_would_differ(replay_session, session):
    assert replay_session(session, what_if=["in_doubt=at_most_once"]).differences
    assert replay_session(session, what_if=["max_agents=9"]).state.dead_letters
    with pytest.raises(BadPolicyError):
        replay_session(session, what_if=["colour=red"])


def test_a_file_that_is_cut_off_or_no_session_fails(replay_session, session, tmp_path):
    session.write_bytes(b"".join(session.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(AssertionError, match="cut off"):
        replay_session(session)
    (tmp_path / "other").write_text("hello\n")
    with pytest.raises(SessionError):
        replay_session(tmp_path / "other")
