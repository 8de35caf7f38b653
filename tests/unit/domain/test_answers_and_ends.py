"""Answers of the engine are matched by id alone (N3), and every way out of an agent leaves the same state behind (R8)."""

import pytest

from relaybroker.domain import effects, inputs


def answer(world, request_id, name, agent_id):
    data = {"agent_id": agent_id, "token": f"sha256:{agent_id}", "name": name}
    world.frame(type="reply", id=request_id, ok=True, data=data)


def asked(world, name):
    world.tell(inputs.SpawnRequested(request_id=f"r_{name}", spec=inputs.SpawnSpec(name=name, cli="cat")))
    return world.sent("agent.register")[-1]["id"]


def started(world):
    return [effect.name for effect in world.effects if isinstance(effect, effects.StartProgram)]


def test_an_answer_with_the_name_and_without_the_id_of_a_request_is_no_answer(world):
    """N3, RV-C13: the name in the data says nothing about which request is answered."""
    request_id = asked(world, "w1")
    for wrong in ("", "w1", "agent_register_of_somebody", request_id[:-1], request_id.upper()):
        answer(world, wrong, "w1", "100")
    assert started(world) == []
    assert world.broker.state.registration_of("w1").state == "registering"
    answer(world, request_id, "w1", "100")
    assert started(world) == ["w1"]


def test_of_two_requests_each_answer_goes_to_the_one_whose_id_it_has(world):
    """N3: whatever name the answer carries."""
    first, second = asked(world, "w1"), asked(world, "w2")
    answer(world, second, "w1", "200")
    assert started(world) == ["w2"]
    assert world.broker.state.registration_of("w2").agent_id == "200"
    assert world.broker.state.registration_of("w1").state == "registering"
    answer(world, first, "w2", "100")
    assert world.broker.state.registration_of("w1").agent_id == "100"


def test_an_answer_is_taken_once(world):
    """N3: the same id again changes nothing of what it brought."""
    request_id = asked(world, "w1")
    answer(world, request_id, "w1", "100")
    answer(world, request_id, "w1", "999")
    assert started(world) == ["w1"]
    assert world.broker.state.registration_of("w1").agent_id == "100"
    assert "999" not in world.broker.state.agents


def left_behind(world):
    """Whatever the state still knows of an agent that is gone, but its place in the sequence and its story."""
    state = world.broker.state
    return {
        "registrations": list(state.registrations),
        "names": dict(state.names),
        "agents": dict(state.agents),
        "workers": list(state.workers),
        "deliveries": list(state.deliveries),
        "pending": [one for one in state.link.pending.values() if one.subject.startswith("agent:")],
        "calls": dict(state.calls),
        "acts": dict(state.acts),
        "unfinished": list(state.unfinished),
        "early": [one for registration in state.registrations.values() for one in registration.early],
    }


@pytest.mark.parametrize("way", ["release", "action", "exit", "host lost", "while registering"])
def test_every_way_out_of_an_agent_leaves_the_same_state_behind(world, way):
    """R8."""
    world.auto_type = False
    empty = left_behind(world)
    if way == "while registering":
        asked(world, "w1")
    else:
        world.spawn("w1", channels=("dev",), task="work")
        world.deliver("w1", 1)
        world.deliver("w1", 2)
    session = world.broker.state.registration_of("w1").session_id
    match way:
        case "release" | "while registering":
            world.tell(inputs.ReleaseRequested(request_id="x", name="w1"))
        case "action":
            frame = {"action": "release", "invocation_id": "inv_1", "input": {"name": "w1"}}
            world.frame(type="action.invoke", **frame)
        case "exit":
            ended = {"code": 0, "signal": None, "last_output": "", "uptime_s": 9.0, "requested": False}
            world.report(inputs.ProgramExited, session, **ended)
        case "host lost":
            world.host_id, world.sessions = "host_2", {}
            world.tell(inputs.HostLost(detail="eof"))
    world.advance(10.0)
    for call in world.calls("/dev/join")[-1:]:
        world.tell(inputs.EngineAnswered(call_id=call.call_id, status=200, data={}))
    assert left_behind(world) == empty
    world.assert_fold_is_live()
