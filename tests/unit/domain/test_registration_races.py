"""Registrations that overlap: with an inventory, with each other, with late and lost answers, with a link that comes and goes."""

from __future__ import annotations

import pytest

from relaybroker.adapters.http.api.event_frames import frame_of
from relaybroker.domain import inputs
from relaybroker.domain.agent import REGISTER_S, AgentState

NODE = "/v1/nodes/vm-01234567/agents"


def ask(world, name="w1", request_id="r1", **more):
    """A spawn whose `agent.register` is on the wire, if there is a link; the id of that frame."""
    world.tell(inputs.SpawnRequested(request_id=request_id, spec=inputs.SpawnSpec(name=name, cli="cat"), **more))
    registers = world.sent("agent.register")
    return registers[-1]["id"] if registers else ""


def answer(world, register, **data):
    world.frame(type="reply", id=register, ok=True, data=data)


def refuse(world, register, code):
    world.frame(type="error", id=register, ok=False, code=code, message="no")


def deregistered(world):
    return [frame["agent_id"] for frame in world.sent("agent.deregister")]


def listed(world):
    return [row["agent_id"] for row in world.sent("inventory.sync")[-1]["agents"]]


def end(world, name, code=0):
    session_id = world.broker.state.registration_of(name).session_id
    world.report(
        inputs.ProgramExited,
        session_id,
        code=code,
        signal=None,
        last_output="bye",
        uptime_s=1.0,
        requested=False,
    )


# --- the inventory ------------------------------------------------------------------------------------------------------


def test_no_inventory_goes_out_while_an_answer_may_name_an_agent_that_it_would_leave_out(world):
    """R1, ROSTER: the engine takes an agent that is not listed for gone, also one that it registered a moment ago."""
    world.spawn("other")
    world.advance(1)
    register = ask(world)
    before = len(world.sent("inventory.sync"))
    end(world, "other")
    world.advance(3)
    assert len(world.sent("inventory.sync")) == before
    answer(world, register, agent_id="700", token="sha256:a")
    world.advance(0.1)
    assert listed(world) == ["700"]


def test_an_endless_series_of_registrations_does_not_keep_an_inventory_waiting(world):
    """BOUNDED: 30 s at most."""
    world.spawn("other")
    world.advance(1)
    ask(world)
    end(world, "other")
    before = len(world.sent("inventory.sync"))
    for number in range(2, 8):
        world.advance(6)
        ask(world, f"w{number}", f"r{number}")
    assert len(world.sent("inventory.sync")) > before


def test_a_registration_that_failed_unanswered_is_followed_by_an_inventory_without_it(world):
    """R2, R6: the engine may have done what it did not answer."""
    world.advance(3)
    before = len(world.sent("inventory.sync"))
    ask(world, source="sidecar")
    world.advance(8.1)
    assert world.replies["r1"].status == 504
    world.advance(0.1)
    assert len(world.sent("inventory.sync")) == before + 1
    assert listed(world) == []


def test_a_binding_of_unknown_outcome_is_followed_by_an_inventory_without_it(world):
    """R2: with a token that was brought along, and an engine that bound the agent and lost the answer three times."""
    world.advance(3)
    before = len(world.sent("inventory.sync"))
    spec = inputs.SpawnSpec(name="w1", cli="cat", supplied_token="sha256:s")
    world.tell(inputs.SpawnRequested(request_id="r1", spec=spec))
    for _ in range(3):
        world.tell(inputs.EngineUnanswered(call_id=world.call("/agents").call_id, detail="timeout"))
        world.advance(2.1)
    assert world.replies["r1"].status == 503
    assert len(world.sent("inventory.sync")) == before + 1


def test_a_refused_registration_needs_no_inventory(world):
    """The engine said that nothing happened."""
    world.advance(3)
    before = len(world.sent("inventory.sync"))
    refuse(world, ask(world), "node_capacity_exceeded")
    world.advance(3)
    assert len(world.sent("inventory.sync")) == before


# --- answers ------------------------------------------------------------------------------------------------------------


def test_a_broken_answer_that_names_a_living_agent_does_not_end_it(world):
    """R4, FAIL-CLOSED."""
    agent_id = world.spawn("other")
    answer(world, ask(world), agent_id=agent_id)
    assert world.replies["r1"].status == 409
    assert deregistered(world) == []


def test_a_broken_answer_that_names_a_new_agent_is_undone(world):
    """3.1: `invalid_agent_register_reply_data`."""
    answer(world, ask(world), agent_id="700")
    assert world.replies["r1"].status == 409
    assert deregistered(world) == ["700"]


def test_a_late_answer_proves_that_the_name_is_ours(world):
    """3.4: the engine has an agent of this name because this very registration made it."""
    register = ask(world)
    world.advance(8.1)
    answer(world, register, agent_id="700", token="sha256:a")
    world.answer("/v1/agents", 409, code="agent_already_exists")
    assert world.calls("/v1/agents/w1") == []
    assert world.call("/takeover").body["expected_agent_id"] == "700"
    world.answer("/takeover", 404, code="not_found")
    world.answer("/rotate-token", 200, {"name": "w1", "token": "sha256:b"})
    world.answer(NODE, 201, {"agent_id": "700", "node_id": world.settings.node_id})
    world.advance(0.3)
    assert world.replies["r1"].body["agent_id"] == "700"
    assert deregistered(world) == []
    world.assert_fold_is_live()


def test_a_late_answer_that_was_kept_for_a_registration_that_failed_is_undone_by_the_inventory(world):
    """R2, R4: nothing is deregistered while the name is being registered; afterwards the engine hears that nobody is here."""
    late = ask(world)
    world.tell(inputs.ReleaseRequested(request_id="x1", name="w1"))
    ask(world, request_id="r2", source="sidecar")
    answer(world, late, agent_id="700", token="sha256:a")
    assert deregistered(world) == []
    before = len(world.sent("inventory.sync"))
    world.advance(8.2)
    assert world.replies["r2"].status == 504
    assert len(world.sent("inventory.sync")) == before + 1
    assert listed(world) == []


def test_a_creation_that_nobody_waits_for_is_undone(world):
    """R2: the answer over HTTP calls the agent `id`."""
    ask(world)
    world.advance(8.1)
    call_id = world.call("/v1/agents").call_id
    world.tell(inputs.ReleaseRequested(request_id="x1", name="w1"))
    data = {"id": "700", "token": "sha256:a"}
    world.tell(inputs.EngineAnswered(call_id=call_id, status=201, data=data))
    assert deregistered(world) == ["700"]


def test_a_late_look_registers_nothing_and_undoes_nothing(world):
    """It speaks of an agent that somebody else may have."""
    refuse(world, ask(world), "agent_already_exists")
    call_id = world.call("/v1/agents/w1").call_id
    world.tell(inputs.ReleaseRequested(request_id="x1", name="w1"))
    world.tell(inputs.EngineAnswered(call_id=call_id, status=200, data={"id": "700", "status": "online"}))
    assert deregistered(world) == []
    assert world.events("agent.late_registration_refused.v1") == []


def test_an_undone_registration_is_left_to_the_inventory_while_the_link_is_down(world):
    """N1: nothing goes out before the bring-up; that one lists nobody."""
    ask(world)
    world.drop()
    call_id = world.call("/v1/agents").call_id
    world.tell(inputs.ReleaseRequested(request_id="x1", name="w1"))
    world.tell(inputs.EngineAnswered(call_id=call_id, status=201, data={"id": "700", "token": "sha256:a"}))
    assert len(world.events("agent.late_registration_refused.v1")) == 1
    assert deregistered(world) == []
    world.advance(3)
    world.online()
    assert listed(world) == []


def test_an_engine_that_refuses_to_undo_gets_an_inventory(world):
    """R2, R6."""
    late = ask(world)
    world.tell(inputs.ReleaseRequested(request_id="x1", name="w1"))
    world.advance(3)
    answer(world, late, agent_id="700", token="sha256:a")
    before = len(world.sent("inventory.sync"))
    refuse(world, world.sent("agent.deregister")[-1]["id"], "node_control_failed")
    world.advance(2.1)
    assert len(world.sent("inventory.sync")) == before + 1


# --- proof --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def older(world):
    """An engine without takeovers that lost an answer about a name which this node had once; its own id comes with it."""
    agent_id = world.spawn("w1")
    world.tell(inputs.ReleaseRequested(request_id="x1", name="w1"))
    ask(world, request_id="r2")
    world.advance(8.1)
    world.answer("/v1/agents", 409, code="agent_already_exists")
    world.answer("/takeover", 404, code="not_found")
    return world, agent_id


def test_an_older_engine_rotates_the_token_of_an_agent_that_is_bound_here(older):
    """2.13, F073."""
    world, agent_id = older
    assert world.calls("/rotate-token") == []
    world.answer(NODE, 200, [{"agent_id": agent_id, "agent_name": "w1"}])
    assert world.call("/rotate-token").capture == f"agent:{agent_id}"


def test_an_agent_that_was_ours_and_lives_on_another_node_now_is_left_alone(older):
    """F062, 3.4, FAIL-CLOSED: an older engine would rotate its token without a question."""
    world, agent_id = older
    world.answer(NODE, 200, [])
    world.answer("/v1/agents/w1", 200, {"id": agent_id, "status": "online"})
    assert world.replies["r2"].status == 409
    assert world.calls("/rotate-token") == []


def test_an_agent_that_was_ours_and_that_nobody_runs_is_taken_back(older):
    """F073."""
    world, agent_id = older
    world.answer(NODE, 404, code="node_not_found")
    world.answer("/v1/agents/w1", 200, {"id": agent_id, "status": "offline"})
    world.answer("/takeover", 404, code="not_found")
    assert world.call("/rotate-token").capture == f"agent:{agent_id}"


def test_where_it_lives_is_asked_once(older):
    """BOUNDED: no answer is no proof."""
    world, _ = older
    world.tell(inputs.EngineUnanswered(call_id=world.call(NODE).call_id, detail="timeout"))
    assert world.replies["r2"].status == 503
    assert world.calls("/rotate-token") == []


def test_the_newest_of_two_agent_ids_counts_as_ours(world):
    """A name whose agent id changed and changed back."""
    for agent_id in ("1", "2", "1"):
        world.agent_ids["w1"] = agent_id
        world.spawn("w1")
        world.tell(inputs.ReleaseRequested(request_id=f"x{len(world.log)}", name="w1"))
    refuse(world, ask(world, request_id="r9"), "agent_already_exists")
    assert world.call("/takeover").body["expected_agent_id"] == "1"


# --- outages and ends -----------------------------------------------------------------------------------------------------


def test_a_spawn_whose_link_comes_in_time_has_the_whole_time_for_its_registration(world):
    """F047: 5 s are for the wait, not for the engine."""
    world.drop()
    ask(world)
    world.advance(4.9)
    world.online()
    world.advance(3)
    assert "r1" not in world.replies
    world.accept("w1")
    world.advance(0.3)
    assert world.replies["r1"].status == 200


def test_a_spawn_whose_link_comes_in_time_is_still_answered_within_its_bound(world):
    """N4: counted from the request."""
    world.drop()
    ask(world)
    world.advance(4.9)
    world.online()
    world.advance(REGISTER_S - 4.8)
    assert world.replies["r1"].status == 504


def test_a_release_that_the_engine_waits_for_is_pending_also_after_a_failed_respawn(world):
    """F106, U20: the name says what still holds it."""
    agent_id = world.spawn("w1")
    world.drop()
    world.tell(inputs.ReleaseRequested(request_id="x1", name="w1"))
    ask(world)
    while "r1" not in world.replies:
        world.tell(inputs.LinkDialFailed(dial=world.broker.state.link.dial, status=503, detail="no"))
        world.advance(1)
    assert world.broker.state.registration_of("w1").state == AgentState.DEREGISTERING
    world.tell(inputs.ReleaseRequested(request_id="x2", name="w1"))
    assert world.replies["x2"].body["release_pending"] is True
    world.advance(31)
    world.online()
    assert deregistered(world) == [agent_id]
    assert world.broker.state.registration_of("w1") is None
    world.assert_fold_is_live()


@pytest.mark.parametrize("killed", ["before the report", "before the effects", "after the effects"])
def test_an_exit_is_told_once_wherever_the_broker_is_killed(world, killed):
    """F112, LOG-FIRST, ONE-END: the host repeats its report, the log knows it, the engine hears it."""
    agent_id = world.spawn("w1")
    world.advance(1)
    session_id = world.broker.state.registration_of("w1").session_id
    world.reports += 1
    exited = inputs.ProgramExited(
        host_id=world.host_id,
        report=world.reports,
        session_id=session_id,
        code=3,
        signal=None,
        last_output="bye",
        uptime_s=1.0,
        requested=False,
    )
    world.unconfirmed.append(exited)
    world.sessions[session_id] = "exited"
    if killed == "before the effects":
        world.log.extend(world.broker.handle(exited, world.now).events)
    elif killed == "after the effects":
        world.tell(exited)
        world.unconfirmed.append(exited)  # the confirmation was lost
    world.crash()
    world.start()
    world.online()
    world.advance(3)
    assert len(world.events("worker.exited.v1")) == 1
    assert len(world.events("agent.leaving.v1")) == 1
    exits = [body for body in _clients_log(world) if body["kind"] == "agent_exited"]
    assert len(exits) == 1
    assert deregistered(world).count(agent_id) <= 1
    assert listed(world) == []
    assert world.unconfirmed == []
    world.assert_fold_is_live()


def _clients_log(world):
    """What `/ws` replays to a client that comes back: it is of the log, so no kill loses or doubles it."""
    return [frame_of(announced) for announced in world.fold().announcements]


def test_an_exit_that_nobody_reported_leaves_nothing_behind(world):
    """F128: the host does not have the session any more, and its report never came."""
    agent_id = world.spawn("w1", task="say hello")
    world.deliver("w1", 1)
    world.tell(inputs.SendRequested(request_id="m1", to="#general", text="hi", sender="w1"))
    world.sessions.clear()
    world.pending_text.clear()
    world.tell(inputs.HostLost(detail="eof"))
    world.advance(1)
    state = world.broker.state
    assert (state.registrations, state.names, state.agents, state.workers, state.deliveries) == ({}, {}, {}, {}, {})
    assert deregistered(world) == [agent_id]
    assert state.link.pending.keys() == {
        key for key, request in state.link.pending.items() if request.kind != "agent.register"
    }
    world.advance(3)
    assert listed(world) == []


def test_a_program_that_closed_its_terminal_is_a_failed_spawn_that_leaves_nothing(world):
    """F102, CLEAN-FAIL: process, lists, supervisor and registration."""
    world.auto_ready = False
    register = ask(world)
    answer(world, register, agent_id="700", token="sha256:a")
    session_id = world.broker.state.registration_of("w1").session_id
    world.report(
        inputs.ProgramExited,
        session_id,
        code=None,
        signal=9,
        last_output="",
        uptime_s=0.1,
        requested=False,
        cause="terminal_closed",
    )
    assert world.replies["r1"].body["code"] == "spawn_failed"
    assert "closed its terminal" in world.replies["r1"].body["message"]
    assert deregistered(world) == ["700"]
    assert (world.broker.state.registrations, world.broker.state.workers, world.sessions) == ({}, {}, {})
    world.advance(3)
    assert listed(world) == []
