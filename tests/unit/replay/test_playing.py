"""Deciding again: the same core decides the same, another rule or policy shows where it differs."""

from __future__ import annotations

import msgspec
import pytest

from relaybroker.domain.broker import Broker
from relaybroker.domain.turn import Decision
from relaybroker.replay import telling
from relaybroker.replay.playing import Player
from relaybroker.replay.policies import BadPolicyError, changed
from tests.growth import DOUBLED, grows_by
from tests.unit.replay.conftest import reopened, session_bytes
from tests.world import World


def test_the_same_core_decides_a_session_the_same(world, written):
    outcome = Player(reopened(written)).play()
    assert outcome.differences == []
    assert outcome.complete
    assert outcome.events == len(world.log)
    assert outcome.state == world.fold()


def test_a_session_can_be_stopped_at_any_position_and_shows_the_state_there(world, written):
    for position in (1, 7, len(world.log) // 2, len(world.log)):
        state = Player(reopened(written)).play(position).state
        expected = World()
        expected.log = world.log[:position]
        assert state == expected.fold()
        assert next(telling.state(state)).startswith(f"#{position} ")


class _Forgetful(Broker):
    """A core with one rule changed: it acknowledges nothing that it was not told about twice."""

    def handle(self, item, now):
        decision = super().handle(item, now)
        return Decision([one for one in decision.events if one.event.topic != "delivery.acked.v1"], decision.effects)


def test_a_changed_decision_is_found_at_its_place_and_hides_no_other(world, written):
    outcome = Player(reopened(written), make=_Forgetful).play()
    places = [one.causation for one in world.log if one.event.topic == "delivery.acked.v1"]
    assert len(outcome.differences) == len(set(places)) > 1
    for difference, place in zip(outcome.differences, places, strict=True):
        assert difference.kind == "decided"
        assert place.endswith(f"@{difference.position}")
        lines = list(telling.difference(difference))
        assert any(line.startswith("  - #") and "delivery.acked.v1" in line for line in lines)
        assert not any(line.startswith("  + ") for line in lines)


class _Failing(Broker):
    def handle(self, item, now):
        if type(item).__name__ == "HostLost":
            raise AssertionError("a bug")
        return super().handle(item, now)


def test_a_core_that_fails_is_a_difference_and_not_the_end(written):
    (difference,) = Player(reopened(written), make=_Failing).play().differences
    assert (difference.kind, difference.cause, difference.error) == ("raised", "HostLost", "AssertionError: a bug")
    assert any("a bug" in line for line in telling.difference(difference))


def test_something_that_is_due_too_early_is_found_although_the_recording_has_nothing_there(world, written, monkeypatch):
    monkeypatch.setattr("relaybroker.domain.link.HEARTBEAT_S", 7.0)
    differences = Player(reopened(written)).play().differences
    early = [one for one in differences if one.kind == "due"]
    assert early
    routine = [one for one in early if any("due" in side for side in one.recorded)]
    assert routine
    for one in routine:
        (before,), (now,) = one.recorded, one.decided
        assert now["due"] < before["due"] <= world.log[one.position - 1].at
        assert any(line.startswith("  - due") for line in telling.difference(one))


def test_what_is_due_before_an_input_is_found_although_the_recording_has_nothing_there(monkeypatch):
    world = World()
    world.start()
    world.online()
    world.advance(11)
    world.frame(type="ping")
    written = session_bytes(world)
    assert Player(reopened(written)).play().differences == []
    monkeypatch.setattr("relaybroker.domain.link.HEARTBEAT_S", 7.0)
    (early,) = (one for one in Player(reopened(written)).play().differences if one.recorded == [])
    assert (early.kind, early.decided[0]["topic"]) == ("due", "link.heartbeat_due.v1")
    assert early.at == world.log[-1].at - 4.0


def test_what_if_shows_what_another_policy_would_have_decided(written):
    outcome = Player(reopened(written), settings=changed(["in_doubt=at_least_once"])).play()
    assert outcome.differences
    text = "\n".join(line for one in outcome.differences for line in telling.difference(one))
    assert "- #" in text
    assert "delivery.dead_lettered.v1" in text
    assert "policy at_least_once" in text


def test_what_if_the_policy_were_the_recorded_one_nothing_is_otherwise(written):
    assert Player(reopened(written), settings=changed(["in_doubt=ask"])).play().differences == []


@pytest.mark.parametrize("pair", ["in_doubt", "in_doubt=perhaps", "node_id=n", "max_agents=many", "=1"])
def test_a_policy_that_does_not_exist_is_refused(pair):
    with pytest.raises(BadPolicyError):
        changed([pair])


def test_policies_are_read_by_their_type():
    from tests.world import SETTINGS

    settings = changed(["max_agents=3", "remote_args=true", "default_channels=a, b"])(SETTINGS)
    assert (settings.max_agents, settings.remote_args, settings.default_channels) == (3, True, ("a", "b"))
    assert msgspec.structs.replace(settings, max_agents=0, remote_args=False, default_channels=("general",)) == SETTINGS


def test_playing_a_session_costs_what_its_length_is():
    sessions = {}
    for deliveries in (300, 600):
        world = World()
        world.start()
        world.online()
        world.spawn("w1")
        for seq in range(1, deliveries + 1):
            world.deliver("w1", seq)
        sessions[deliveries] = session_bytes(world)

    def play(deliveries):
        outcome = Player(reopened(sessions[deliveries])).play()
        assert outcome.differences == []
        assert outcome.events > 5 * deliveries

    assert grows_by(play, 300) <= DOUBLED
