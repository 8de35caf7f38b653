"""Restart policies of agents (local-api.md section 5.7; F108, F111, B01)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from relaybroker.domain import effects, inputs
from relaybroker.domain.events import Harness
from relaybroker.domain.inputs import RestartPolicy
from relaybroker.domain.soundness import contradictions
from tests.world import SETTINGS, World

POLICY = RestartPolicy(max_restarts=3, cooldown_s=2.0, max_consecutive_failures=2)


def dies(world: World, name: str, *, code: int | None = None, signal: int | None = 9, requested: bool = False) -> None:
    """The program of this agent ends."""
    registration = world.broker.state.registration_of(name)
    assert registration is not None
    world.report(
        inputs.ProgramExited,
        registration.session_id,
        code=code,
        signal=signal,
        last_output="bye",
        uptime_s=1.0,
        requested=requested,
    )


def starts(world: World) -> list[effects.StartProgram]:
    return [effect for effect in world.effects if isinstance(effect, effects.StartProgram)]


def told(world: World, *kinds: str) -> list[dict[str, Any]]:
    return [frame for frame in world.notified if frame["kind"] in kinds]


def state_of(world: World, name: str) -> str:
    registration = world.broker.state.registration_of(name)
    return registration.state if registration is not None else "gone"


@pytest.fixture
def restarting(world: World) -> World:
    """A world with one agent whose program has been killed."""
    world.spawn("w1", restart=POLICY)
    world.advance(1)
    dies(world, "w1")
    return world


def test_a_killed_program_is_started_again_under_the_same_identity(restarting):
    agent_id = restarting.agent_ids["w1"]
    assert state_of(restarting, "w1") == "restarting"
    restarting.advance(10)
    assert state_of(restarting, "w1") == "live"
    first, second = starts(restarting)
    assert second.session_id != first.session_id
    assert (second.name, second.agent_id, second.argv) == ("w1", agent_id, first.argv)
    assert not restarting.sent("agent.deregister")
    assert len(restarting.sent("agent.register")) == 1
    assert restarting.broker.state.counters.restarted == 1
    restarting.assert_fold_is_live()


def test_without_a_policy_a_killed_program_stays_ended(world):
    world.spawn("w1")
    dies(world, "w1")
    world.advance(100)
    assert (state_of(world, "w1"), len(starts(world))) == ("gone", 1)


@pytest.mark.parametrize(
    "end", [{"code": 0, "signal": None}, {"requested": True}], ids=["it ended well", "it was told to end"]
)
def test_only_a_failure_is_followed_by_a_restart(world, end):
    world.spawn("w1", restart=POLICY)
    dies(world, "w1", **end)
    world.advance(100)
    assert (state_of(world, "w1"), len(starts(world))) == ("gone", 1)
    assert not told(world, "agent_permanently_dead")


def test_clients_hear_of_the_restart_in_place_of_the_exit(restarting):
    restarting.advance(10)
    heard = told(
        restarting, "agent_restarting", "agent_restarted", "agent_exited", "agent_exit", "worker_ready", "agent_spawned"
    )
    assert [frame["kind"] for frame in heard] == [
        "agent_spawned",
        "worker_ready",
        "agent_restarting",
        "agent_restarted",
        "worker_ready",
    ]
    planned = heard[2]
    assert (planned["code"], planned["signal"], planned["restart_count"]) == (None, "9", 1)
    assert planned["reason"] == "worker_exited"
    assert 1600 <= planned["delay_ms"] <= 2400
    assert (heard[3]["restart_count"], heard[3]["pid"]) == (1, 4711)


def test_pauses_double_with_each_failure_in_a_row_and_never_exceed_a_minute(world):
    world.spawn("w1", restart=RestartPolicy(max_restarts=9, cooldown_s=20.0, max_consecutive_failures=9))
    for _ in range(4):
        dies(world, "w1")
        world.advance(61)
        assert state_of(world, "w1") == "live"
        world.broker.state.workers[world.broker.state.registration_of("w1").session_id].ready_at = world.now
    first, second, third, fourth = (frame["delay_ms"] / 1000 for frame in told(world, "agent_restarting"))
    assert 16 <= first <= 24
    assert 32 <= second <= 48
    assert third <= 60
    assert fourth == 60


def test_messages_wait_for_the_restarted_program_in_order_and_are_typed_once(world):
    world.spawn("w1", restart=POLICY)
    first_session = world.broker.state.registration_of("w1").session_id
    world.deliver("w1", 1, text="before")
    dies(world, "w1")
    world.deliver("w1", 2, text="second")
    world.deliver("w1", 3, text="third")
    waiting = [delivery for delivery in world.broker.state.deliveries.values() if delivery.state == "held"]
    assert {str(delivery.reason) for delivery in waiting} == {"agent_restarting"}
    assert contradictions(world.broker.state) == []
    world.advance(10)
    assert [text.partition("before")[1] for text in world.typed[first_session]] == ["before"]
    second, third = world.texts("w1")
    assert "second" in second
    assert "third" in third
    assert world.acks("w1")[-1] == 3
    assert contradictions(world.broker.state) == []
    world.assert_fold_is_live()


def test_messages_that_waited_for_the_program_that_failed_wait_for_the_next(world):
    world.auto_ready = False
    world.spawn("w1", restart=POLICY, task="begin")
    world.deliver("w1", 1, text="early")
    dies(world, "w1")
    world.auto_ready = True
    world.advance(10)
    task, early = world.texts("w1")
    assert "begin" in task
    assert "early" in early
    assert not told(world, "delivery_dropped", "message_delivery_failed")


def test_a_task_that_was_typed_is_not_typed_again(world):
    world.spawn("w1", restart=POLICY, task="begin")
    dies(world, "w1")
    world.advance(10)
    assert world.texts("w1") == []


def test_a_text_that_was_being_typed_is_settled_as_at_every_end(world):
    world.auto_type = False
    world.spawn("w1", restart=POLICY)
    world.deliver("w1", 1, text="half")
    world.deliver("w1", 2, text="half too")
    dies(world, "w1")
    letters = list(world.broker.state.dead_letters.values())
    assert {str(letter.reason) for letter in letters} == {"ambiguous"}
    assert contradictions(world.broker.state) == []
    world.auto_type = True
    world.advance(10)
    assert world.texts("w1") == []
    world.assert_fold_is_live()


def test_what_the_policy_gives_back_is_asked_for_again_for_the_restarted_program(make_world):
    world = make_world(msgspec.structs.replace(SETTINGS, in_doubt="at_least_once"))
    world.start()
    world.online()
    world.auto_type = False
    world.spawn("w1", restart=POLICY)
    world.deliver("w1", 1, text="half")
    registered = len(world.sent("node.register"))
    world.pending_text.clear()  # it ends with the program
    dies(world, "w1")
    world.advance(5)
    assert len(world.sent("node.register")) > registered, "the engine offers again what it has"
    world.auto_type = True
    world.deliver("w1", 1, text="half")
    (text,) = world.texts("w1")
    assert "possible-duplicate" in text
    assert contradictions(world.broker.state) == []


@pytest.mark.parametrize("spec", [{}, {"model": "opus"}], ids=["the default one", "another one"])
def test_a_model_that_was_switched_to_is_that_of_the_restarted_program(world, spec):
    world.broker._harness_of = lambda _argv, _name="": Harness(profile="claude", model_flag="--model")
    world.spawn("w1", cli="claude -c", restart=POLICY, **spec)
    world.tell(inputs.ModelSwitched(request_id="m", name="w1", model="haiku"))
    dies(world, "w1")
    world.advance(10)
    assert starts(world)[-1].argv == ("claude", "--model", "haiku", "-c")


def test_a_session_keeps_its_name_over_restarts(restarting):
    registration = restarting.broker.state.registration_of("w1")
    before = told(restarting, "agent_spawned")[0]["sessionId"]
    restarting.advance(10)
    assert registration.session == before
    assert told(restarting, "worker_ready")[-1]["sessionId"] == before


def test_a_released_agent_does_not_come_back(restarting):
    """F108."""
    restarting.deliver("w1", 1)
    restarting.tell(inputs.ReleaseRequested(request_id="bye", name="w1"))
    assert restarting.replies["bye"].status == 200
    restarting.advance(200)
    assert (state_of(restarting, "w1"), len(starts(restarting))) == ("gone", 1)
    assert len(restarting.sent("agent.deregister")) == 1
    assert [frame["kind"] for frame in told(restarting, "agent_released", "agent_exited", "agent_restarted")] == [
        "agent_released"
    ]
    assert contradictions(restarting.broker.state) == []
    restarting.assert_fold_is_live()


def test_an_agent_that_was_restarted_and_runs_well_is_not_counted_dead_by_its_old_exits(world):
    """F111: the failures in a row begin anew after a stable run, and only after that."""
    world.spawn("w1", restart=RestartPolicy(max_restarts=100, cooldown_s=1.0, max_consecutive_failures=1))
    for _ in range(5):
        dies(world, "w1")
        world.advance(10)
        assert state_of(world, "w1") == "live"
        world.advance(60)
    dies(world, "w1")
    world.advance(5)
    assert state_of(world, "w1") == "live"
    dies(world, "w1")
    assert state_of(world, "w1") == "gone"


def test_all_restarts_together_are_limited_however_long_the_program_runs(world):
    world.spawn("w1", restart=RestartPolicy(max_restarts=2, cooldown_s=1.0, max_consecutive_failures=9))
    for _ in range(3):
        dies(world, "w1")
        world.advance(100)
    assert state_of(world, "w1") == "gone"
    assert [frame["kind"] for frame in told(world, "agent_exited", "agent_exit", "agent_permanently_dead")] == [
        "agent_exited",
        "agent_exit",
        "agent_permanently_dead",
    ]
    assert told(world, "agent_permanently_dead")[0]["reason"] == "restart_limit"
    assert world.events("agent.given_up.v1")[0].event.restarts == 2
    world.assert_fold_is_live()


def test_a_start_again_that_does_not_succeed_counts_as_a_failure(restarting):
    restarting.answers_starts = False
    restarting.advance(120)
    assert state_of(restarting, "w1") == "gone"
    assert [frame["restart_count"] for frame in told(restarting, "agent_restarting")] == [1, 2]
    assert len(told(restarting, "agent_permanently_dead")) == 1


def test_the_name_is_taken_while_its_program_is_restarted(restarting):
    restarting.tell(inputs.SpawnRequested(request_id="again", spec=inputs.SpawnSpec(name="W1", cli="cat")))
    assert restarting.replies["again"].body["code"] == "agent_exists"


def test_a_lost_host_is_a_failure_of_each_of_its_programs(world):
    world.spawn("w1", restart=POLICY)
    world.spawn("w2")
    world.host_id, world.reports = "host_2", 0
    world.sessions.clear()
    world.tell(inputs.HostLost(detail="eof"))
    world.advance(10)
    assert (state_of(world, "w1"), state_of(world, "w2")) == ("live", "gone")
    assert told(world, "agent_restarting")[0]["reason"] == "worker_lost"


def test_the_count_and_the_pause_survive_a_killed_broker(restarting):
    """B01."""
    restarting.deliver("w1", 1, text="waits")
    due = restarting.broker.state.workers[restarting.broker.state.registration_of("w1").session_id].starts_at
    restarting.crash()
    restarting.start()
    restarting.online()
    assert restarting.broker.next_deadline() <= due
    assert len(starts(restarting)) == 1
    restarting.advance(10)
    assert len(starts(restarting)) == 2
    assert ["waits" in text for text in restarting.texts("w1")] == [True]
    dies(restarting, "w1")
    assert told(restarting, "agent_restarting")[-1]["restart_count"] == 2
    restarting.assert_fold_is_live()


def test_the_broker_goes_on_from_a_log_that_ends_anywhere_in_a_restart(world):
    world.spawn("w1", restart=POLICY)
    world.deliver("w1", 1, text="typed")
    world.auto_type = False
    world.deliver("w1", 2, text="in doubt")
    begin = len(world.log)
    dies(world, "w1")
    world.deliver("w1", 3, text="waits")
    world.advance(10)
    for cut in range(begin, len(world.log) + 1):
        again = World()
        again.log, again.agent_ids = world.log[:cut], world.agent_ids
        again.boots, again.now, again.reports = 7, world.now, world.reports
        again.crash()
        session = again.broker.state.registration_of("w1").session_id
        again.sessions = {session: "ready"} if again.broker.state.workers[session].pid else {}
        again.start()
        again.advance(120)
        assert contradictions(again.broker.state) == [], cut
        assert state_of(again, "w1") == "live", cut
        again.assert_fold_is_live()


def test_the_program_that_is_started_again_is_told_how_to_answer_once_more(world):
    world.spawn("w1", restart=POLICY)
    world.deliver("w1", 1)
    assert world.broker.state.registration_of("w1").hinted
    dies(world, "w1")
    assert not world.broker.state.registration_of("w1").hinted


def test_a_spawn_whose_program_ends_at_once_fails_and_is_not_repeated(world):
    world.tell(inputs.SpawnRequested(request_id="r1", spec=inputs.SpawnSpec(name="w1", cli="false", restart=POLICY)))
    world.accept("w1")
    dies(world, "w1", code=1, signal=None)
    assert world.replies["r1"].body["code"] == "spawn_failed"
    world.advance(100)
    assert len(starts(world)) == 1


def test_a_broker_that_stops_ends_an_agent_that_waits_for_its_restart(restarting):
    restarting.tell(inputs.ShutdownRequested(reason="test", agents_too=True))
    restarting.advance(10)
    assert restarting.exit is not None
    assert len(starts(restarting)) == 1
    assert state_of(restarting, "w1") == "gone"


def test_a_remote_spawn_cannot_set_a_policy_and_the_log_says_that_it_was_not_read(world):
    wanted = {"name": "w1", "restart_policy": {"enabled": True}}
    world.frame(type="action.invoke", invocation_id="inv_1", action="spawn:cat", input=wanted)
    assert world.broker.state.registration_of("w1").spec.restart is None
    assert world.events("action.running.v1")[0].event.unread == ("restart_policy",)


def test_what_may_have_been_typed_waits_for_the_host_when_the_broker_is_back_before_it(world: World):
    """F031: no dead letter by time; the host's answer settles it, whatever then becomes of the program."""
    world.spawn("w1", restart=POLICY)
    world.auto_type = False
    world.deliver("w1", 1, text="half")
    world.crash()
    carry_out, attaches = world._carry_out, []

    def without_host(effect: Any) -> None:
        (attaches.append if isinstance(effect, effects.AttachHost) else carry_out)(effect)

    world._carry_out = without_host  # type: ignore[method-assign]
    world.start()
    world.online()
    world.advance(20)
    (waiting,) = world.broker.state.deliveries.values()
    assert (waiting.ended, world.broker.state.dead_letters, world.acks("w1")) == (False, {}, [])
    world._carry_out = carry_out  # type: ignore[method-assign]
    carry_out(attaches[0])
    world.type_next()
    dies(world, "w1")
    world.advance(10)
    assert (state_of(world, "w1"), world.broker.state.dead_letters) == ("live", {})
    assert len(world.typed) == 1
    assert world.acks("w1")[-1] == 1
