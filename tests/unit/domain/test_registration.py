"""Agent registration: the frame, the way round over HTTP, names that exist, late answers."""

from __future__ import annotations

import msgspec
import pytest

from relaybroker.domain import inputs
from tests.world import SETTINGS


@pytest.fixture
def asked(world):
    """A spawn whose `agent.register` is on the wire and not answered."""
    world.tell(inputs.SpawnRequested(request_id="r1", spec=inputs.SpawnSpec(name="w1", cli="cat")))
    return world


def bound(world, agent_id="700"):
    world.answer("/v1/nodes/vm-01234567/agents", 201, {"agent_id": agent_id, "node_id": world.settings.node_id})


def deregistered(world):
    return [frame["agent_id"] for frame in world.sent("agent.deregister")]


def test_an_unanswered_frame_goes_on_over_http_and_the_agent_lives(asked):
    """3.3 FALLBACK, BINDING; S10 without the late reply."""
    asked.advance(8.1)
    assert asked.call("/v1/agents").body == {"name": "w1"}
    asked.answer("/v1/agents", 201, {"id": "700", "token": "sha256:a"})
    assert asked.call("/agents").body == {"agent_name": "w1"}
    bound(asked)
    asked.advance(0.3)
    assert asked.replies["r1"].status == 200
    assert asked.replies["r1"].body["agent_id"] == "700"
    assert deregistered(asked) == []
    asked.assert_fold_is_live()


def test_a_late_answer_to_the_frame_leaves_the_live_agent_alone(asked):
    """S10, R4, W-12: the token that it brings is noted as rotated."""
    asked.advance(8.1)
    late = asked.sent("agent.register")[-1]["id"]
    asked.answer("/v1/agents", 201, {"id": "700", "token": "sha256:a"})
    bound(asked)
    asked.advance(23)
    asked.frame(type="reply", id=late, ok=True, data={"agent_id": "700", "token": "sha256:b", "name": "w1"})
    assert deregistered(asked) == []
    assert asked.broker.state.registration_of("w1").fingerprint == "sha256:b"
    assert [body["cause"] for body in asked.notified if body["kind"] == "agent_token_rotated"] == ["late_register"]
    asked.assert_fold_is_live()


def test_a_late_answer_during_a_newer_registration_undoes_nothing(asked):
    """R4."""
    late = asked.sent("agent.register")[-1]["id"]
    asked.tell(inputs.ReleaseRequested(request_id="x1", name="w1"))
    asked.tell(inputs.SpawnRequested(request_id="r2", spec=inputs.SpawnSpec(name="w1", cli="cat")))
    asked.frame(type="reply", id=late, ok=True, data={"agent_id": "700", "token": "sha256:a", "name": "w1"})
    assert deregistered(asked) == []
    asked.accept("w1")
    asked.advance(0.3)
    assert asked.replies["r2"].status == 200


def test_a_late_answer_for_another_agent_id_is_undone(asked):
    late = asked.sent("agent.register")[-1]["id"]
    asked.tell(inputs.ReleaseRequested(request_id="x1", name="w1"))
    asked.spawn("w1")
    asked.frame(type="reply", id=late, ok=True, data={"agent_id": "999", "token": "sha256:a", "name": "w1"})
    assert deregistered(asked) == ["999"]


def test_a_socket_that_drops_in_the_middle_is_gone_around(asked):
    """3.1: `node_control_disconnected` may fall back."""
    asked.drop()
    asked.answer("/v1/agents", 201, {"id": "700", "token": "sha256:a"})
    bound(asked)
    asked.advance(0.3)
    assert asked.replies["r1"].status == 200
    asked.advance(3)
    asked.online()
    assert [row["agent_id"] for row in asked.sent("inventory.sync")[-1]["agents"]] == ["700"]


def test_a_refusal_by_the_engine_is_final(asked):
    """R9: no way round."""
    register = asked.sent("agent.register")[-1]
    asked.frame(type="error", id=register["id"], ok=False, code="node_capacity_exceeded", message="full")
    assert asked.replies["r1"].status == 409
    assert asked.calls("/v1/agents") == []


def test_a_failed_binding_is_a_failed_spawn_and_is_undone(asked):
    """RV-C7, R2."""
    asked.advance(8.1)
    asked.answer("/v1/agents", 201, {"id": "700", "token": "sha256:a"})
    asked.answer("/agents", 409, code="node_capacity_exceeded", message="full")
    assert asked.replies["r1"].status == 409
    assert deregistered(asked) == ["700"]
    assert asked.broker.state.registrations == {}


def test_a_binding_to_another_node_is_given_back(asked):
    asked.advance(8.1)
    asked.answer("/v1/agents", 201, {"id": "700", "token": "sha256:a"})
    asked.answer("/agents", 201, {"agent_id": "700", "node_id": "node_of_somebody"})
    assert asked.call("/agents/w1").method == "DELETE"
    assert asked.replies["r1"].status == 409


def test_http_is_tried_three_times_and_then_fails(asked):
    """3.4."""
    asked.advance(8.1)
    for _ in range(3):
        asked.answer("/v1/agents", 503, code="unavailable")
        asked.advance(2.1)
    assert len(asked.calls("/v1/agents")) == 3
    assert asked.replies["r1"].status == 503


def test_a_rate_limit_pauses_registrations_over_http(asked):
    """3.4: 429 -> no try for 60 s."""
    asked.advance(8.1)
    asked.answer("/v1/agents", 429, code="rate_limit_exceeded")
    assert asked.replies["r1"].status == 503
    asked.tell(inputs.SpawnRequested(request_id="r2", spec=inputs.SpawnSpec(name="w2", cli="cat")))
    asked.advance(8.1)
    assert len(asked.calls("/v1/agents")) == 1
    assert asked.replies["r2"].status == 503


def exists(world):
    register = world.sent("agent.register")[-1]
    world.frame(type="error", id=register["id"], ok=False, code="agent_already_exists", message="taken")


def test_a_name_that_somebody_holds_is_left_alone(asked):
    """F062, F066 FAIL-CLOSED."""
    exists(asked)
    asked.answer("/v1/agents/w1", 200, {"id": "700", "status": "online"})
    assert asked.replies["r1"].status == 409
    assert "agent_already_exists" in asked.replies["r1"].body["message"]
    assert asked.calls("/takeover") + asked.calls("/rotate-token") == []


@pytest.mark.parametrize("answer", [{"status": 200, "data": {"id": "700"}}, {"status": 500}])
def test_unknown_state_counts_as_live(asked, answer):
    """F066: the probe is bounded and proves nothing by failing."""
    exists(asked)
    asked.answer("/v1/agents/w1", **answer)
    assert asked.replies["r1"].status in (409, 503)
    assert asked.calls("/takeover") == []


def test_a_name_that_nobody_runs_is_taken_over_with_proof(asked):
    """F066, F067."""
    exists(asked)
    asked.answer("/v1/agents/w1", 200, {"id": "700", "status": "offline"})
    assert asked.call("/takeover").body["expected_agent_id"] == "700"
    asked.answer("/takeover", 200, {"agent_id": "700", "token": "sha256:t"})
    bound(asked)
    asked.advance(0.3)
    assert asked.replies["r1"].body["agent_id"] == "700"


def test_our_own_former_agent_is_taken_over_without_asking_whose_it_is(world):
    """F073, 2.13: the log shows that the agent id is ours."""
    agent_id = world.spawn("w1")
    world.tell(inputs.ReleaseRequested(request_id="x1", name="w1"))
    world.tell(inputs.SpawnRequested(request_id="r2", spec=inputs.SpawnSpec(name="w1", cli="cat")))
    exists(world)
    assert world.calls("/v1/agents/w1") == []
    assert world.call("/takeover").body["expected_agent_id"] == agent_id


def test_an_agent_for_which_only_a_frame_came_is_not_ours(world):
    """FAIL-CLOSED: the engine is asked whether somebody runs it."""
    world.agent_ids["w1"] = "700"
    world.deliver("w1", 1)
    world.tell(inputs.SpawnRequested(request_id="r1", spec=inputs.SpawnSpec(name="w1", cli="cat")))
    exists(world)
    world.answer("/v1/agents/w1", 200, {"id": "700", "status": "online"})
    assert world.replies["r1"].status == 409
    assert world.calls("/takeover") == []


def test_an_engine_without_that_route_is_asked_to_rotate(asked):
    """F068: decided by the code, not by the status."""
    exists(asked)
    asked.answer("/v1/agents/w1", 200, {"id": "700", "status": "offline"})
    asked.answer("/takeover", 404, code="not_found")
    assert asked.call("/rotate-token").capture == "agent:700"
    asked.answer("/rotate-token", 200, {"name": "w1", "token": "sha256:t"})
    bound(asked)
    asked.advance(0.3)
    assert asked.replies["r1"].status == 200


def test_an_agent_that_is_not_found_is_reported_as_that(asked):
    """F068."""
    exists(asked)
    asked.answer("/v1/agents/w1", 200, {"id": "700", "status": "offline"})
    asked.answer("/takeover", 404, code="agent_not_found", message="gone")
    assert asked.replies["r1"].status == 409
    assert "agent_not_found" in asked.replies["r1"].body["message"]
    assert asked.calls("/rotate-token") == []


def test_a_token_that_was_brought_along_is_bound_and_never_rotated(world):
    """3.2: no agent.register."""
    spec = inputs.SpawnSpec(name="w1", cli="cat", supplied_token="sha256:s")
    world.tell(inputs.SpawnRequested(request_id="r1", spec=spec))
    assert world.sent("agent.register") == []
    assert world.call("/agents").capture == "supplied:sha256:s"
    bound(world)
    world.advance(0.3)
    assert world.replies["r1"].body["agent_id"] == "700"
    assert world.broker.state.registration_of("w1").fingerprint == "sha256:s"


def test_a_deregistration_that_waits_is_dropped_when_the_agent_is_registered_again(world):
    """3.5: the engine keeps agent ids by name; it would end the new agent."""
    agent_id = world.spawn("w1")
    world.drop()
    world.tell(inputs.ReleaseRequested(request_id="x1", name="w1"))
    assert world.replies["x1"].body["release_pending"] is True
    world.advance(3)
    world.tell(inputs.LinkOpened(dial=world.broker.state.link.dial))
    world.tell(inputs.SpawnRequested(request_id="r2", spec=inputs.SpawnSpec(name="w1", cli="cat")))
    register = world.sent("node.register")[-1]
    world.frame(type="reply", id=register["id"], ok=True, data={})
    kinds = [frame["type"] for frame in world.frames if frame["type"].startswith("agent.")]
    assert kinds[-2:] == ["agent.deregister", "agent.register"]
    world.drop()
    world.answer("/v1/agents", 409, code="agent_already_exists")
    world.answer("/takeover", 200, {"agent_id": agent_id, "token": "sha256:t"})
    bound(world, agent_id)
    world.advance(4)
    world.online()
    assert [row["agent_id"] for row in world.sent("inventory.sync")[-1]["agents"]] == [agent_id]
    world.assert_fold_is_live()


def test_a_second_release_during_an_outage_says_that_the_engine_is_not_told_yet(world):
    """F105, F106."""
    world.spawn("w1")
    world.drop()
    for request_id in ("x1", "x2"):
        world.tell(inputs.ReleaseRequested(request_id=request_id, name="w1"))
        assert world.replies[request_id].body["release_pending"] is True
    world.advance(3)
    world.online()
    assert len(world.sent("agent.deregister")) == 1


def test_an_engine_that_refuses_a_deregistration_gets_an_inventory_without_the_agent(world):
    """R6, F106."""
    world.spawn("w1")
    world.advance(2)
    world.tell(inputs.ReleaseRequested(request_id="x1", name="w1"))
    world.advance(0.5)
    before = len(world.sent("inventory.sync"))
    dereg = world.sent("agent.deregister")[-1]
    world.frame(type="error", id=dereg["id"], ok=False, code="node_control_failed", message="try later")
    world.advance(2.1)
    assert world.sent("inventory.sync")[before:][-1]["agents"] == []


def test_a_sidecars_spawn_has_no_way_round(world):
    """3.2: no fallback, an error to the sidecar."""
    spec = inputs.SpawnSpec(name="w1", cli="cat")
    world.tell(inputs.SpawnRequested(request_id="r1", spec=spec, source="sidecar"))
    world.advance(8.1)
    assert world.replies["r1"].status == 504
    assert world.calls("/v1/agents") == []


def test_everything_is_answered_within_its_deadline(make_world):
    """N4: with an engine that swallows every call too."""
    world = make_world(msgspec.structs.replace(SETTINGS))
    world.start()
    world.online()
    world.tell(inputs.SpawnRequested(request_id="r1", spec=inputs.SpawnSpec(name="w1", cli="cat")))
    world.advance(22.1)
    assert world.replies["r1"].status == 504
    assert world.broker.state.registrations == {}
    assert world.broker.state.link.pending == {}


def test_a_program_that_was_withheld_is_a_failed_spawn_with_its_reason(world):
    """The host was never asked; a word that comes when it runs changes nothing."""
    world.answers_starts = False
    world.tell(inputs.SpawnRequested(request_id="r1", spec=inputs.SpawnSpec(name="w1", cli="cat")))
    world.accept("w1")
    session = world.broker.state.registration_of("w1").session_id
    world.tell(inputs.ProgramWithheld(session_id=session, reason="mcp_injection_failed", detail="no answer"))
    assert (world.replies["r1"].status, world.replies["r1"].body["code"]) == (500, "mcp_injection_failed")
    world.answers_starts = True
    world.spawn("w2")
    other = world.broker.state.registration_of("w2").session_id
    world.tell(inputs.ProgramWithheld(session_id=other, reason="mcp_injection_failed", detail="late"))
    assert world.broker.state.workers[other].state != "exited"
    world.assert_fold_is_live()
