"""When local clients are told that a program is ready (local-api.md section 3.1)."""

import msgspec
import pytest

from relaybroker.domain import inputs
from relaybroker.domain.worker import READY_AFTER_S, STARTUP_S
from tests.world import SETTINGS, World

JOIN = "/join"


def announced(world, *kinds):
    return [body["kind"] for body in world.notified if body["kind"] in kinds]


def spawn(world):
    """An agent that the engine lets into its channel at once."""
    world.spawn("w1", channels=("ops",))
    world.answer(JOIN, 200)


def test_a_program_that_is_ready_at_once_is_announced_behind_the_answer_to_its_spawn(world):
    spawn(world)
    assert [reply.status for reply in world.replies.values()] == [200]
    assert announced(world, "agent_spawned", "worker_ready") == ["agent_spawned"]

    world.advance(READY_AFTER_S)
    assert announced(world, "agent_spawned", "worker_ready") == ["agent_spawned", "worker_ready"]
    world.advance(2 * STARTUP_S)
    assert announced(world, "worker_ready") == ["worker_ready"]


def test_a_spawn_that_waits_for_its_channels_is_answered_before_its_program_is_announced(world):
    world.spawn("w1", channels=("ops",))
    world.advance(1.0)
    assert not world.replies
    assert announced(world, "worker_ready") == []

    world.answer(JOIN, 200)
    assert [reply.status for reply in world.replies.values()] == [200]
    assert announced(world, "worker_ready") == []
    world.advance(READY_AFTER_S)
    assert announced(world, "worker_ready") == ["worker_ready"]


def test_a_program_that_takes_its_time_is_announced_when_it_is_ready(world):
    world.auto_ready = False
    spawn(world)
    world.advance(3.0)
    world.report(inputs.ProgramReady, world.broker.state.registration_of("w1").session_id, evidence="prompt")
    (body,) = [body for body in world.notified if body["kind"] == "worker_ready"]
    assert (body["evidence"], body.get("reason")) == ("prompt", None)


def test_a_screen_that_nobody_recognises_is_announced_before_clients_give_up_and_nothing_is_typed(world):
    world.auto_ready = False
    spawn(world)
    world.deliver("w1", 1)
    world.advance(STARTUP_S)
    (body,) = [body for body in world.notified if body["kind"] == "worker_ready"]
    assert (body["evidence"], body["reason"]) == ("startup_timeout", "startup_timeout")
    assert world.texts("w1") == []

    world.report(inputs.ProgramReady, world.broker.state.registration_of("w1").session_id, evidence="prompt")
    assert announced(world, "worker_ready") == ["worker_ready"]
    assert len(world.texts("w1")) == 1


def test_a_dialog_is_no_start_that_takes_too_long(world):
    world.auto_ready = False
    spawn(world)
    world.report(inputs.ProgramBlocked, world.broker.state.registration_of("w1").session_id, pattern="login")
    world.advance(3 * STARTUP_S)
    assert announced(world, "agent_blocked", "worker_ready") == ["agent_blocked"]


def test_an_agent_that_is_gone_is_not_announced(world):
    spawn(world)
    world.tell(inputs.ReleaseRequested(request_id="r9", name="w1"))
    world.advance(2 * STARTUP_S)
    assert announced(world, "worker_ready") == []


def test_an_announcement_that_a_crash_prevented_is_made_up_for(world):
    spawn(world)
    world.crash()
    world.start()
    world.online()
    world.advance(READY_AFTER_S)
    assert announced(world, "worker_ready") == ["worker_ready"]
    world.assert_fold_is_live()


@pytest.fixture
def older():
    made = World(msgspec.structs.replace(SETTINGS, ready_after_s=0.0))
    made.start()
    made.online()
    return made


def test_a_log_from_before_the_announcement_has_it_with_the_report(older):
    older.spawn("w1")
    assert sorted(announced(older, "agent_spawned", "worker_ready")) == ["agent_spawned", "worker_ready"]
    older.advance(2 * STARTUP_S)
    assert older.events("worker.announced.v1") == []
