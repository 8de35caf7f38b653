"""Agents that are spawned for one task (local-api.md section 5.1; F141)."""

from __future__ import annotations

import pytest

from relaybroker.domain import effects, inputs
from relaybroker.domain.inputs import RestartPolicy, SpawnRequested, SpawnSpec
from tests.world import World


def idles(world: World, name: str) -> None:
    registration = world.broker.state.registration_of(name)
    assert registration is not None
    world.advance(30)
    world.report(inputs.ProgramIdle, registration.session_id, idle_s=30.0)


def is_here(world: World, name: str) -> bool:
    return world.broker.state.registration_of(name) is not None


def test_an_agent_is_released_when_its_program_is_idle_after_its_task(world):
    world.spawn("w1", task="begin", exit_after_task=True)
    idles(world, "w1")
    assert not is_here(world, "w1")
    assert world.events("agent.leaving.v1")[0].event.reason == "task_done"
    assert len(world.sent("agent.deregister")) == 1
    assert [frame["kind"] for frame in world.notified if frame["kind"] in ("agent_released", "agent_exited")] == [
        "agent_released"
    ]
    world.assert_fold_is_live()


def test_an_agent_without_the_option_stays(world):
    world.spawn("w1", task="begin")
    idles(world, "w1")
    assert is_here(world, "w1")


def test_silence_before_the_task_is_not_the_end_of_it(world):
    world.auto_type = False
    world.spawn("w1", task="begin", exit_after_task=True)
    idles(world, "w1")
    assert is_here(world, "w1")
    world.type_next()
    assert is_here(world, "w1")
    idles(world, "w1")
    assert not is_here(world, "w1")


def test_an_agent_for_which_messages_wait_gets_them_first(world):
    world.spawn("w1", task="begin", exit_after_task=True)
    world.auto_type = False
    world.deliver("w1", 1, text="one more thing")
    idles(world, "w1")
    assert is_here(world, "w1")
    world.type_next()
    idles(world, "w1")
    assert not is_here(world, "w1")
    assert world.acks("w1") == [1]


def test_a_program_that_works_in_silence_is_not_done(world):
    world.spawn("w1", task="begin", exit_after_task=True)
    session = world.broker.state.registration_of("w1").session_id
    world.report(inputs.ProgramOccupied, session, reason="agent_busy", detail="", patience_s=0.0)
    idles(world, "w1")
    assert is_here(world, "w1")
    world.report(inputs.ProgramFreed, session)
    idles(world, "w1")
    assert not is_here(world, "w1")


def test_the_task_is_remembered_by_the_next_broker(world):
    world.spawn("w1", task="begin", exit_after_task=True)
    world.crash()
    world.start()
    world.online()
    idles(world, "w1")
    assert not is_here(world, "w1")


@pytest.mark.parametrize(
    "spec",
    [{}, {"task": "  "}, {"task": "t", "idle_threshold_s": 0.0}, {"task": "t", "restart": RestartPolicy()}],
    ids=["no task", "an empty one", "never idle", "started again without it"],
)
def test_it_is_refused_where_it_cannot_work(world, spec):
    wanted = SpawnSpec(name="w1", cli="cat", exit_after_task=True, **spec)
    world.tell(SpawnRequested(request_id="r1", spec=wanted))
    assert (world.replies["r1"].status, world.replies["r1"].body["field"]) == (400, "exit_after_task")
    assert world.broker.state.registrations == {}
    assert not [effect for effect in world.effects if isinstance(effect, effects.StartProgram)]


@pytest.mark.parametrize("given", [{"spawn_mode": "single_shot"}, {"agent": {"spawnMode": "task_exit"}}])
def test_a_spawn_action_may_ask_for_it(world, given):
    wanted = {"name": "w1", "task": "begin"} | given
    world.frame(type="action.invoke", invocation_id="inv_1", action="spawn:cat", input=wanted)
    assert world.broker.state.registration_of("w1").spec.exit_after_task


def test_a_spawn_action_for_one_task_without_a_task_fails(world):
    wanted = {"name": "w1", "spawn_mode": "task_exit"}
    world.frame(type="action.invoke", invocation_id="inv_1", action="spawn:cat", input=wanted)
    assert world.events("action.done.v1")[0].event.error == "spawn_failed"
    assert "there is no task" in world.events("action.done.v1")[0].event.detail
    assert not is_here(world, "w1")
