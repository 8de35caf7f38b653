"""Keys of spawns (local-api.md section 1.1; U10)."""

from __future__ import annotations

from typing import Any

import pytest

from relaybroker.domain import effects, inputs, message
from relaybroker.domain.inputs import SpawnSpec
from relaybroker.domain.soundness import contradictions
from tests.world import World


def spawn(world: World, request_id: str, name: str = "w1", key: str = "k", **fields: Any) -> None:
    spec = SpawnSpec(name=name, cli="cat", **fields)
    world.tell(inputs.SpawnRequested(request_id=request_id, spec=spec, key=key))


def begun(world: World, request_id: str, name: str = "w1", key: str = "k") -> str:
    """A spawn that the engine has accepted and whose program the host does not start; its session."""
    world.answers_starts = False
    spawn(world, request_id, name, key)
    world.accept(name)
    registration = world.broker.state.registration_of(name)
    assert registration is not None
    return registration.session_id


def spawned(world: World, request_id: str, name: str = "w1", key: str = "k") -> None:
    spawn(world, request_id, name, key)
    world.accept(name)
    world.advance(1)


def starts(world: World) -> int:
    return sum(isinstance(effect, effects.StartProgram) for effect in world.effects)


def test_the_same_key_again_gets_the_stored_answer_and_starts_nothing(world: World):
    spawned(world, "a")
    spawn(world, "b", env_ref="kept elsewhere")
    assert world.replies["b"].body == world.replies["a"].body | {"replayed": True}
    assert (world.replies["b"].status, starts(world)) == (200, 1)
    world.tell(inputs.ReleaseRequested(request_id="r", name="w1"))
    spawn(world, "c")
    assert world.replies["c"].body == world.replies["b"].body
    assert starts(world) == 1, "nor when the agent is gone"
    world.assert_fold_is_live()


def test_the_same_key_waits_while_the_first_spawn_runs(world: World):
    session = begun(world, "a")
    spawn(world, "b")
    assert not {"a", "b"} & world.replies.keys()
    world.report(inputs.ProgramStarted, session, pid=4711)
    world.advance(1)
    assert "replayed" not in world.replies["a"].body
    assert world.replies["b"].body == world.replies["a"].body | {"replayed": True}
    assert contradictions(world.broker.state) == []
    world.assert_fold_is_live()


@pytest.mark.parametrize("change", [{"name": "w2"}, {"task": "other"}, {"env_names": ("A",)}])
def test_the_same_key_with_another_spawn_is_a_conflict(world: World, change: dict[str, Any]):
    spawned(world, "a")
    spawn(world, "b", **change)
    assert (world.replies["b"].status, world.replies["b"].body["code"]) == (409, "idempotency_conflict")
    assert starts(world) == 1


def test_a_key_holds_across_a_crash(world: World):
    """Whoever lost the answer asks again with the same key."""
    spawned(world, "a")
    world.crash()
    world.start()
    spawn(world, "b")
    assert world.replies["b"].body == world.replies["a"].body | {"replayed": True}


def test_a_spawn_that_failed_for_a_reason_that_may_pass_can_be_asked_for_again(world: World):
    session = begun(world, "a")
    spawn(world, "b")
    world.report(inputs.ProgramNotStarted, session, reason="spawn_failed", detail="no memory")
    answers = [world.replies[one] for one in ("a", "b")]
    assert [(one.status, one.body["code"], "replayed" in one.body) for one in answers] == [
        (500, "spawn_failed", False),
        (500, "spawn_failed", True),
    ]
    world.answers_starts = True
    spawned(world, "c")
    assert world.replies["c"].status == 200
    world.assert_fold_is_live()


def test_a_definite_failure_is_an_answer_too(world: World):
    session = begun(world, "a")
    world.report(inputs.ProgramNotStarted, session, reason="cli_not_found", detail="cat")
    spawn(world, "b")
    assert (world.replies["b"].status, world.replies["b"].body["code"]) == (400, "cli_not_found")
    assert world.replies["b"].body["replayed"] is True


def test_a_spawn_that_was_refused_uses_up_no_key(world: World):
    world.spawn("w1")
    spawn(world, "a")
    assert world.replies["a"].body["code"] == "agent_exists"
    world.tell(inputs.ReleaseRequested(request_id="r", name="w1"))
    spawned(world, "b")
    assert world.replies["b"].status == 200


def test_keys_of_spawns_are_bounded_and_none_is_forgotten_before_its_time(world: World, monkeypatch: Any):
    """BOUNDED."""
    monkeypatch.setattr(message, "KEYS_KEPT", 2)
    for number in range(2):
        spawned(world, f"a{number}", f"w{number}", f"k{number}")
    spawn(world, "late", "w9", "k9")
    assert (world.replies["late"].status, world.replies["late"].body["code"]) == (429, "queue_full")
    world.advance(message.KEY_S)
    spawn(world, "later", "w9", "k9")
    assert list(world.broker.state.spawn_keys) == ["k1", "k9"]
    world.assert_fold_is_live()
