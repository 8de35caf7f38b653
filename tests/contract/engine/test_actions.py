"""engine-contract.md section 8: actions, placement, spawn, release, results, time-outs."""

import hashlib

import pytest


@pytest.fixture
async def caller(world):
    return await world.agent("caller")


async def invoke(world, caller, name, given=None):
    return await world.post(f"/v1/actions/{name}/invoke", {"input": given or {}}, token=caller.token)


async def shown(world, invocation):
    return (await world.get(f"/v1/actions/{invocation['action_name']}/invocations/{invocation['invocation_id']}")).data


def invokes(node):
    return [frame["invocation_id"] for frame in node.of("action.invoke")]


async def ended(world, invocation):
    async def settled():
        state = await shown(world, invocation)
        return state if state["status"] in ("completed", "failed") else None

    return await world.until(settled)


async def test_a_capability_becomes_an_action_that_its_node_carries_out(world, caller):
    home = await world.direct(caller)
    node = await world.node(capabilities=["echo", "spawn:claude", "release", "relay:delivery-cursor-v1"])
    assert [row["name"] for row in (await world.get("/v1/actions")).data] == ["echo"]
    invocation = (await invoke(world, caller, "echo", {"a": 1})).data
    assert (invocation["status"], invocation["dispatched_node_id"], invocation["handler_node_id"]) == (
        "dispatched", node.id, node.id,
    )  # fmt: skip
    frame = await node.first(lambda sent: sent["type"] == "action.invoke")
    assert frame == {
        "v": 1, "type": "action.invoke", "invocation_id": invocation["invocation_id"], "action": "echo", "input": {"a": 1},
    }  # fmt: skip
    await node.send(type="action.result", invocation_id=invocation["invocation_id"], output={"b": None})
    notice = await home.first(lambda sent: sent.get("payload", {}).get("type") == "action.completed")
    assert (notice["seq"], notice["msg_id"]) == (0, invocation["invocation_id"])
    assert notice["delivery_id"] == f"evt_action_completed_{invocation['invocation_id']}_{caller.id}"
    assert notice["payload"]["data"] == {
        "invocation_id": invocation["invocation_id"], "action_name": "echo", "status": "completed", "output": {"b": None},
        "error": None,
    }  # fmt: skip
    assert (await shown(world, invocation))["output"] == {"b": None}


async def test_a_null_output_completes_and_a_second_result_changes_nothing(world, caller):
    node = await world.node(capabilities=["echo"])
    invocation = (await invoke(world, caller, "echo")).data
    await node.send(type="action.result", invocation_id=invocation["invocation_id"], output=None)
    await node.send(type="action.result", invocation_id=invocation["invocation_id"], error="too late")
    await node.settle()
    completed = await shown(world, invocation)
    assert (completed["status"], completed["output"], completed["error"]) == ("completed", None, None)


async def test_the_result_of_another_node_is_ignored(world, caller):
    await world.node("one", ["echo"])
    other = await world.node("two")
    invocation = (await invoke(world, caller, "echo")).data
    await other.send(type="action.result", invocation_id=invocation["invocation_id"], output=1)
    await other.settle()
    assert (await shown(world, invocation))["status"] == "dispatched"


async def test_an_error_fails_the_invocation(world, caller):
    home, node = await world.direct(caller), await world.node(capabilities=["echo"])
    invocation = (await invoke(world, caller, "echo")).data
    await node.send(type="action.result", invocation_id=invocation["invocation_id"], error="broken")
    assert (await ended(world, invocation))["error"] == "broken"
    notice = await home.first(lambda sent: sent.get("payload", {}).get("type") == "action.failed")
    assert (notice["payload"]["data"]["error"], notice["payload"]["data"]["output"]) == ("broken", None)


async def test_unknown_actions_and_callers_without_an_agent_are_refused(world, caller):
    assert (await invoke(world, caller, "none")).code == "action_not_found"
    answer = await world.post("/v1/actions/none/invoke", {})
    assert (answer.status, answer.code) == (403, "agent_token_required")
    assert (await world.get("/v1/actions/none/invocations/inv_1")).status == 404


async def test_an_action_that_is_not_for_the_caller_is_denied_and_the_caller_told(world, caller):
    home = await world.direct(caller)
    await world.node(capabilities=["echo"])
    await world.post(
        "/v1/actions", {"name": "echo", "description": "d", "handler_node": "host-1", "available_to": ["other"]}
    )
    answer = await invoke(world, caller, "echo")
    assert (answer.status, answer.code) == (403, "action_denied")
    notice = await home.first(lambda sent: sent.get("payload", {}).get("type") == "action.denied")
    assert (notice["seq"], notice["msg_id"], notice["payload"]["data"]["caller_name"]) == (0, "echo", "caller")


async def test_handlers_must_exist_and_be_one(world, caller):
    await world.node(capabilities=["echo"])
    for fields, code in (
        ({}, "invalid_action_handler"),
        ({"handler_agent": "caller", "handler_node": "host-1"}, "invalid_action_handler"),
        ({"handler_node": "nowhere"}, "node_not_found"),
        ({"handler_node": "host-1"}, "capability_mismatch"),
        ({"handler_agent": "nobody"}, "agent_not_found"),
    ):
        assert (await world.post("/v1/actions", {"name": "x", "description": "d"} | fields)).code == code
    body = {"name": "x", "description": "d", "handler_agent": "caller"}
    other = await world.agent("other")
    assert (await world.post("/v1/actions", body, token=other.token)).code == "forbidden"
    assert (await world.post("/v1/actions", body, token=caller.token)).status == 201


async def test_the_first_owner_keeps_an_action(world, caller):
    one = await world.node("one", ["echo"])
    await world.node("two", ["echo"])
    assert (await world.get("/v1/actions/echo")).data["handler_node_id"] == one.id


async def test_an_agent_handler_gets_the_work_and_completes_it_over_rest(world, caller):
    node = await world.node()
    ada = await node.agent("ada")
    await world.post("/v1/actions", {"name": "sum", "description": "d", "handler_agent": "ada"}, token=ada.token)
    invocation = (await invoke(world, caller, "sum", {"n": 1})).data
    frame = await node.first(lambda sent: sent["type"] == "action.invoke")
    assert (frame["agent_id"], frame["agent_name"], frame["action"]) == (ada.id, "ada", "sum")
    path = f"/v1/actions/sum/invocations/{invocation['invocation_id']}/complete"
    assert (await world.post(path, {"output": 1}, token=caller.token)).code == "forbidden"
    done = (await world.post(path, {"output": 2, "duration_ms": 7}, token=ada.token)).data
    assert (done["status"], done["output"], done["duration_ms"], done["caller_name"]) == ("completed", 2, 7, "caller")


async def test_rest_cannot_complete_what_a_node_handles(world, caller):
    await world.node(capabilities=["echo"])
    invocation = (await invoke(world, caller, "echo")).data
    path = f"/v1/actions/echo/invocations/{invocation['invocation_id']}/complete"
    assert (await world.post(path, {"output": 1}, token=caller.token)).code == "node_owned_invocation"


async def test_work_for_a_node_without_a_socket_waits_and_is_sent_at_register_and_heartbeat(world, caller):
    node = await world.node(capabilities=["echo"])
    await node.close()

    async def offline():
        return (await world.get("/v1/nodes/host-1")).data["status"] == "offline"

    await world.until(offline)
    one = (await invoke(world, caller, "echo", {"n": 1})).data
    two = (await invoke(world, caller, "echo", {"n": 2})).data
    assert one["status"] == "pending"
    again = await world.connect(node.name, node.id, node.token)
    await again.beat()
    assert invokes(again) == [one["invocation_id"], two["invocation_id"]]


async def test_only_so_many_invocations_wait_for_a_node(world, caller):
    node = await world.node(capabilities=["echo"])
    await node.close()

    async def refused():
        return (await invoke(world, caller, "echo")).status == 503

    await world.until(refused)
    assert (await invoke(world, caller, "echo")).code == "handler_unavailable"


# --- placement --------------------------------------------------------------------------------------------------------------


SPAWN = {"name": "w", "cli": "claude", "task": "t"}


async def test_a_spawn_goes_to_the_least_loaded_node_then_the_emptiest_then_the_first_name(world, caller):
    nodes = {name: await world.node(name, ["spawn:claude"]) for name in ("c", "b", "a")}
    await nodes["a"].beat(load=0.5)
    await nodes["b"].beat(load=0.1, active_agents=3)
    await nodes["c"].beat(load=0.1, active_agents=1)
    invocation = (await invoke(world, caller, "spawn", SPAWN)).data
    assert (invocation["action_name"], invocation["dispatched_node_id"]) == ("spawn", nodes["c"].id)
    await nodes["c"].beat(load=0.1, active_agents=3)
    assert (await invoke(world, caller, "spawn", SPAWN)).data["dispatched_node_id"] == nodes["b"].id
    frame = await nodes["c"].first(lambda sent: sent["type"] == "action.invoke")
    assert (frame["action"], frame["input"]) == ("spawn:claude", SPAWN)


async def test_nodes_without_the_capability_room_handlers_or_life_get_no_spawn(world, caller):
    await world.node("wrong", ["spawn:codex"])
    sleepy = await world.node("sleepy", ["spawn:claude"])
    await sleepy.beat(handlers_live=False)
    full = await world.node("full", ["spawn:claude"], max_agents=1)
    await full.agent("x")
    gone = await world.node("gone", ["spawn:claude"])
    await gone.send(type="node.deregister")
    await gone.settle()
    answer = await invoke(world, caller, "spawn", SPAWN)
    assert (answer.status, answer.code) == (503, "handler_unavailable")
    assert (await invoke(world, caller, "spawn", {"name": "w"})).code == "invalid_request"


async def test_a_spawn_under_way_holds_its_slot(world, caller):
    node = await world.node(capabilities=["spawn:claude"], max_agents=1)
    first = (await invoke(world, caller, "spawn", SPAWN)).data
    assert (await invoke(world, caller, "spawn", SPAWN)).code == "handler_unavailable"
    await node.send(type="action.result", invocation_id=first["invocation_id"], error="no")
    await node.settle()
    assert (await invoke(world, caller, "spawn", SPAWN)).status == 201


async def test_a_spawn_can_be_addressed_to_one_node(world, caller):
    node = await world.node("one", ["spawn:claude"], max_agents=1)
    other = await world.node("two", ["spawn:codex"])
    assert (await invoke(world, caller, "spawn", SPAWN | {"node": "none"})).code == "node_not_found"
    assert (await invoke(world, caller, "spawn", SPAWN | {"target_node": "two"})).code == "capability_mismatch"
    await other.close()

    async def offline():
        return (await world.get("/v1/nodes/two")).data["status"] == "offline"

    await world.until(offline)
    queued = (await invoke(world, caller, "spawn", SPAWN | {"cli": "codex", "target": "two"})).data
    assert queued["status"] == "pending"
    assert (await invoke(world, caller, "spawn", SPAWN | {"target": "one"})).data["dispatched_node_id"] == node.id
    assert (await invoke(world, caller, "spawn", SPAWN | {"target": "one"})).status == 503


async def test_self_means_the_node_of_the_caller(world, caller):
    node = await world.node(capabilities=["spawn:claude"])
    ada = await node.agent("ada")
    assert (await invoke(world, ada, "spawn", SPAWN | {"target": "self"})).data["dispatched_node_id"] == node.id
    answer = await invoke(world, caller, "spawn", SPAWN | {"target": "self"})
    assert (answer.status, answer.code) == (409, "placement_self_unavailable")


async def test_a_spawn_forwards_no_null(world, caller):
    """Sidecars in the field refuse `"model": null`."""
    node = await world.node(capabilities=["spawn:claude"])
    await world.post("/v1/agents/spawn", SPAWN | {"model": None})
    await invoke(world, caller, "spawn", SPAWN | {"name": "w2", "model": None, "channel": None})
    await node.first(lambda sent: sent["type"] == "action.invoke" and sent["input"]["name"] == "w2")
    assert [frame["input"] for frame in node.of("action.invoke")] == [SPAWN | {"metadata": {}}, SPAWN | {"name": "w2"}]


async def test_the_spawn_route_forwards_exactly_the_input_of_the_contract(world):
    node = await world.node(capabilities=["spawn:claude"])
    answer = await world.post("/v1/agents/spawn", SPAWN | {"model": "opus", "metadata": {"a": 1}})
    assert answer.status == 201
    frame = await node.first(lambda sent: sent["type"] == "action.invoke")
    assert frame["input"] == SPAWN | {"model": "opus", "metadata": {"a": 1, "model": "opus"}}
    for wrong in ({"cli": "vi"}, {"task": ""}, {"name": ""}):
        assert (await world.post("/v1/agents/spawn", SPAWN | wrong)).code == "invalid_request"


# --- results that do not come -----------------------------------------------------------------------------------------------


async def test_an_unavailable_handler_sends_the_spawn_to_another_node_and_fails_without_one(world, caller):
    home = await world.direct(caller)
    one, two = await world.node("one", ["spawn:claude"]), await world.node("two", ["spawn:claude"])
    invocation = (await invoke(world, caller, "spawn", SPAWN)).data
    result = {"type": "action.result", "invocation_id": invocation["invocation_id"], "error": "handler_unavailable"}
    await one.send(**result)
    await two.first(lambda sent: sent.get("invocation_id") == invocation["invocation_id"])
    assert (await world.get("/v1/nodes/one")).data["handlers_live"] is False
    await two.send(**result)
    notice = await home.first(lambda sent: sent.get("payload", {}).get("type") == "action.failed")
    assert notice["payload"]["data"]["error"] == "handler_unavailable"


async def test_without_a_result_the_same_invocation_is_sent_again(open_world):
    world = await open_world(redispatch_after_s=0.2)
    caller = await world.agent("caller")
    node = await world.node(capabilities=["echo"])
    ada = await node.agent("ada")
    await world.post("/v1/actions", {"name": "sum", "description": "d", "handler_agent": "ada"}, token=ada.token)
    invocation = (await invoke(world, caller, "sum")).data

    async def twice():
        return invokes(node).count(invocation["invocation_id"]) >= 2

    await world.until(twice)


async def test_a_spawn_without_a_result_goes_to_a_node_that_was_not_tried(open_world):
    world = await open_world(redispatch_after_s=0.2)
    caller = await world.agent("caller")
    one, two = await world.node("one", ["spawn:claude"]), await world.node("two", ["spawn:claude"])
    invocation = (await invoke(world, caller, "spawn", SPAWN)).data
    assert invocation["dispatched_node_id"] == one.id
    await two.first(lambda sent: sent.get("invocation_id") == invocation["invocation_id"])
    await two.send(type="action.result", invocation_id=invocation["invocation_id"], output={"spawned": True})
    assert (await ended(world, invocation))["dispatched_node_id"] == two.id


async def test_a_release_without_a_result_is_left_as_it_is(open_world):
    world = await open_world(redispatch_after_s=0.1)
    node = await world.node()
    await node.agent("ada")
    await world.node("probe", ["echo"])
    caller = await world.agent("caller")
    released = (await world.post("/v1/agents/release", {"name": "ada"})).data
    probe = (await invoke(world, caller, "echo")).data

    async def probe_waits():
        return (await shown(world, probe))["status"] == "pending"

    await world.until(probe_waits)
    assert invokes(node) == [released["invocation_id"]]


async def test_the_end_of_a_node_sends_its_open_work_elsewhere(world, caller):
    one, two = await world.node("one", ["spawn:claude"]), await world.node("two", ["spawn:claude"])
    invocation = (await invoke(world, caller, "spawn", SPAWN)).data
    assert invocation["dispatched_node_id"] == one.id
    await one.close()
    await two.first(lambda sent: sent.get("invocation_id") == invocation["invocation_id"])


# --- release ----------------------------------------------------------------------------------------------------------------


async def test_a_release_frees_the_slot_and_leaves_a_note(world):
    node = await world.node(max_agents=1)
    ada = await node.agent("ada")
    invocation = (await world.post("/v1/agents/release", {"name": "ada", "reason": "done"})).data
    frame = await node.first(lambda sent: sent["type"] == "action.invoke")
    assert (frame["action"], frame["input"]) == ("release", {"name": "ada", "reason": "done", "delete_agent": False})
    await node.send(type="action.result", invocation_id=invocation["invocation_id"], output={"released": True})
    await node.settle()
    after = (await world.get("/v1/agents/ada")).data
    assert (after["status"], after["metadata"]["release"]["reason"]) == ("offline", "done")
    assert (await world.get("/v1/nodes/host-1/agents")).data == []
    assert (await world.get("/v1/nodes/host-1")).data["active_agents"] == 0
    assert (await node.agent("ada")).id == ada.id


async def test_a_release_may_delete_the_agent(world):
    node = await world.node()
    await node.agent("ada")
    invocation = (await world.post("/v1/agents/release", {"name": "ada", "delete_agent": True})).data
    assert invocation["status"] == "dispatched"
    await node.send(type="action.result", invocation_id=invocation["invocation_id"], output={})
    await node.settle()
    assert (await world.get("/v1/agents/ada")).code == "agent_not_found"


async def test_what_is_on_no_node_cannot_be_released(world, caller):
    answer = await world.post("/v1/agents/release", {"name": "caller"})
    assert (answer.status, answer.code) == (409, "agent_not_node_bound")
    assert (await world.post("/v1/agents/release", {"name": "nobody"})).code == "agent_not_found"
    assert (await invoke(world, caller, "release", {})).code == "invalid_release_request"


async def test_deleting_an_agent_without_a_live_node_completes_at_once_for_the_right_token_only(world):
    node = await world.node()
    ada = await node.agent("ada")
    await node.ask(type="agent.deregister", agent_id=ada.id)
    body = {"name": "ada", "reason": "gone", "delete_agent": True, "expected_token_hash": "0" * 64}
    answer = await world.post("/v1/agents/release", body)
    assert (answer.status, answer.code) == (409, "agent_identity_mismatch")
    assert await world.status(ada) == "offline"
    body["expected_token_hash"] = hashlib.sha256(ada.token.encode()).hexdigest()
    answer = await world.post("/v1/agents/release", body)
    assert (answer.status, answer.data["status"], answer.data["action_name"]) == (201, "completed", "release")
    assert (await world.get("/v1/agents/ada")).code == "agent_not_found"
