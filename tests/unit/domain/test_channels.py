"""Channels of an agent: what the answer to its spawn says of them is so at the engine (F038, TRUE-ANSWER)."""

from __future__ import annotations

import itertools

import pytest

from relaybroker.adapters.http.api.views import agents
from relaybroker.domain import effects, inputs
from relaybroker.domain.rules.agents import CHANNELS_S, SPAWN_ANSWER_S
from relaybroker.domain.rules.channels import RETRY_FIRST_S, RETRY_MAX_S
from relaybroker.domain.state import decode, encode

MISSING = {"code": "channel_not_found", "message": 'Channel "ops" not found'}
TAKEN = {"code": "channel_already_exists", "message": 'Channel "ops" already exists'}


@pytest.fixture
def spawn(world):
    """Spawns w1 into channels; its program runs, and the engine has not answered for any channel."""

    def spawned(*channels, invocation_id=""):
        spec = inputs.SpawnSpec(name="w1", cli="cat", channels=channels)
        world.tell(inputs.SpawnRequested(request_id="r1", spec=spec, invocation_id=invocation_id))
        world.accept("w1")
        world.advance(0.3)
        return world

    return spawned


def shown(world):
    row = agents(world.broker.state, world.now)[0]
    return row.channels, row.channels_pending


def test_a_spawn_is_answered_when_the_agent_is_in_its_channels(spawn):
    world = spawn("general", "ops")
    assert world.events("agent.live.v1")
    assert "r1" not in world.replies
    assert shown(world) == (["general"], ["ops"])
    world.answer("/join", 200)
    assert world.replies["r1"].body["channels"] == ["general", "ops"]
    assert world.replies["r1"].body["warning"] is None
    assert "channels_pending" not in world.replies["r1"].body
    assert shown(world) == (["general", "ops"], [])
    world.assert_fold_is_live()


def test_a_channel_that_the_agent_leaves_while_it_starts_holds_up_nothing(world):
    world.tell(inputs.SpawnRequested(request_id="r1", spec=inputs.SpawnSpec(name="w1", cli="cat", channels=("ops",))))
    world.accept("w1")
    world.answer("/join", 200)
    act = {"act": "leave_channel", "arguments": {"channel": "general"}}
    world.tell(inputs.ActRequested(request_id="a1", agent_id=world.agent_ids["w1"], **act))
    world.answer("/leave", 204)
    world.advance(0.3)
    assert world.replies["r1"].body["channels"] == ["ops"]
    world.assert_fold_is_live()


def test_the_join_is_under_way_while_the_program_starts(world):
    world.tell(inputs.SpawnRequested(request_id="r1", spec=inputs.SpawnSpec(name="w1", cli="cat", channels=("ops",))))
    world.accept("w1")
    order = [type(effect) for effect in world.effects]
    join = next(n for n, effect in enumerate(world.effects) if effect == world.call("/join"))
    assert join < order.index(effects.StartProgram)
    world.answer("/join", 200)
    assert "r1" not in world.replies, "its program has not survived its first moments"
    world.advance(0.3)
    assert world.replies["r1"].body["channels"] == ["ops"]
    assert not world.events("agent.spawn_answered.v1")


def test_the_result_of_a_spawn_action_waits_for_the_channels(world):
    """node-protocol.md section 5.2: the caller may post at once."""
    world.frame(type="action.invoke", invocation_id="inv_1", action="spawn:cat", input={"name": "w1", "channel": "ops"})
    world.accept("w1")
    world.advance(0.3)
    assert not world.sent("action.result")
    world.answer("/join", 200)
    assert [frame["output"] for frame in world.sent("action.result")] == [{"spawned": True, "name": "w1"}]


def test_a_channel_that_does_not_exist_is_created(spawn):
    world = spawn("ops")
    world.answer("/join", 404, **MISSING)
    assert "r1" not in world.replies
    assert world.call("/v1/channels").body == {"name": "ops"}
    world.answer("/v1/channels", 201, {"name": "ops"})
    assert world.replies["r1"].body["channels"] == ["ops"]


def test_a_channel_that_somebody_else_creates_meanwhile_is_joined(spawn):
    """Two agents that are spawned into one new channel at once are both in it."""
    world = spawn("ops")
    world.answer("/join", 404, **MISSING)
    world.answer("/v1/channels", 409, **TAKEN)
    assert len(world.calls("/join")) == 2
    world.answer("/join", 200)
    assert world.replies["r1"].body["channels"] == ["ops"]


def test_a_channel_that_comes_and_goes_is_not_asked_for_without_a_pause(spawn):
    world = spawn("ops")
    for _ in range(4):
        world.answer("/join", 404, **MISSING)
        world.answer("/v1/channels", 409, **TAKEN)
        world.advance(RETRY_MAX_S)
    assert len(world.calls("/join")) == 5
    asked = [recorded.at for recorded in world.events("agent.channel_asked.v1")]
    assert len(set(asked)) >= 4


def test_a_refusal_is_said_and_final(spawn):
    world = spawn("ops", "lab")
    world.answer("/ops/join", 403, code="forbidden", message="not yours")
    world.answer("/lab/join", 200)
    body = world.replies["r1"].body
    assert (body["success"], body["channels"]) == (True, ["lab"])
    assert body["warning"] == "not in #ops: forbidden not yours"
    assert shown(world) == (["lab"], [])
    world.advance(3600)
    assert len(world.calls("/ops/join")) == 1


def test_an_engine_that_does_not_answer_is_asked_again_and_the_caller_is_told(spawn):
    world = spawn("ops")
    call_id = world.call("/join").call_id
    world.tell(inputs.EngineUnanswered(call_id=call_id, detail="timeout"))
    world.advance(CHANNELS_S)
    body = world.replies["r1"].body
    assert (body["channels"], body["channels_pending"]) == ([], ["ops"])
    assert "not in #ops yet" in body["warning"]
    assert len(world.calls("/join")) == 2
    world.answer("/join", 200)
    assert shown(world) == (["ops"], [])
    assert [body["channels"] for body in world.notified if body["kind"] == "channel_subscribed"] == [["ops"]]
    world.assert_fold_is_live()


def test_retries_of_a_join_slow_down_to_one_a_minute(spawn):
    world = spawn("ops")
    for _ in range(20):
        world.answer("/join", 503, code="unavailable")
        world.advance(RETRY_MAX_S)
    asked = [recorded.at for recorded in world.events("agent.channel_asked.v1")]
    pauses = [round(later - earlier) for earlier, later in itertools.pairwise(asked)]
    assert pauses[0] >= RETRY_FIRST_S
    assert set(pauses[6:]) == {RETRY_MAX_S}


def test_the_answer_comes_within_its_bound_however_long_the_registration_took(world):
    """local-api.md section 1.1: every route answers within 25 s."""
    world.tell(inputs.SpawnRequested(request_id="r1", spec=inputs.SpawnSpec(name="w1", cli="cat", channels=("ops",))))
    began = world.now
    world.advance(8.1)
    world.advance(13.0)
    world.answer("/v1/agents", 201, {"id": "700", "token": "sha256:a"})
    world.answer("/agents", 201, {"agent_id": "700", "node_id": world.settings.node_id})
    while "r1" not in world.replies:
        world.advance(0.25)
    assert world.now - began <= SPAWN_ANSWER_S + 0.25


def test_a_program_that_dies_while_its_channels_are_open_is_a_failed_spawn(spawn):
    world = spawn("ops")
    session = world.broker.state.registration_of("w1").session_id
    ending = {"code": 3, "signal": None, "last_output": "", "uptime_s": 1.0, "requested": False}
    world.report(inputs.ProgramExited, session, **ending)
    assert world.replies["r1"].status == 500
    world.answer("/join", 200)
    assert world.broker.state.calls == {}


def test_a_release_while_the_channels_are_open_ends_both_requests(spawn):
    world = spawn("ops")
    world.tell(inputs.ReleaseRequested(request_id="x1", name="w1"))
    assert world.replies["r1"].status == 409
    assert world.replies["x1"].status == 200


def test_a_restart_asks_again_for_the_channels_that_were_open(spawn):
    world = spawn("ops", "lab")
    world.answer("/lab/join", 200)
    world.crash()
    world.start()
    world.advance(0.1)
    assert len(world.calls("/ops/join")) == 2
    assert len(world.calls("/lab/join")) == 1
    world.answer("/ops/join", 200)
    assert shown(world) == (["ops", "lab"], [])
    world.assert_fold_is_live()


def test_a_crash_between_acceptance_and_the_joins_loses_none(world):
    """D14: from every prefix of the log."""
    world.tell(inputs.SpawnRequested(request_id="r1", spec=inputs.SpawnSpec(name="w1", cli="cat", channels=("ops",))))
    world.accept("w1")
    topics = [recorded.event.topic for recorded in world.log]
    for cut in range(topics.index("agent.registration_accepted.v1") + 1, len(topics) + 1):
        again = type(world)()
        again.log, again.boots, again.now = world.log[:cut], 1, world.now
        again.agent_ids, again.sessions = dict(world.agent_ids), dict(world.sessions)
        again.crash()
        again.start()
        again.advance(0.1)
        again.answer("/ops/join", 200)
        assert again.broker.state.registration_of("w1").channels["ops"].joined, topics[cut - 1]


def test_memberships_are_in_the_snapshot(spawn):
    world = spawn("ops")
    assert decode(encode(world.broker.state)) == world.broker.state


def test_the_engine_hears_of_a_release_before_the_caller_does(world):
    world.spawn("w1")
    world.effects.clear()
    world.tell(inputs.ReleaseRequested(request_id="x1", name="w1"))
    order = [
        effect.frame["type"] if isinstance(effect, effects.SendFrame) else "reply"
        for effect in world.effects
        if isinstance(effect, effects.Reply)
        or (isinstance(effect, effects.SendFrame) and effect.frame["type"] == "agent.deregister")
    ]
    assert order == ["agent.deregister", "reply"]
