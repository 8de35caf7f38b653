"""engine-contract.md sections 2.3 and 5: enrolment, register, heartbeat, liveness."""

import re


async def roster(world, name="host-1"):
    return (await world.get(f"/v1/nodes/{name}")).data


async def test_enrolment_answers_the_public_node_with_a_fresh_token(world):
    node_id = "node_98a708e72b85fee32b13b9d44e328e95"
    data = await world.enrol("host-1", node_id=node_id, capabilities=["echo"], version="relay-broker/9.1.6")
    assert re.fullmatch(r"nt_live_[0-9a-f]{48}", data.pop("token"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", data.pop("created_at"))
    assert data == {
        "id": node_id, "name": "host-1", "kind": "ws", "role": "broker", "delivery_adapter": "ws.node.v1", "delivery": None,
        "capabilities": [{"name": "echo"}], "tags": [], "version": "relay-broker/9.1.6", "status": "offline", "live": False,
        "handlers_live": False, "load": 0, "active_agents": 0, "max_agents": 0, "last_heartbeat_at": None,
    }  # fmt: skip


async def test_a_known_name_keeps_its_id_and_gets_a_new_token(world):
    first = await world.enrol("host-1", node_id="node_a")
    second = await world.enrol("host-1", node_id="node_b")
    assert second["id"] == first["id"] == "node_a"
    assert second["token"] != first["token"]


async def test_the_name_of_another_live_node_is_not_stolen(world):
    node = await world.node()
    answer = await world.post("/v1/nodes", {"name": node.name, "node_id": "node_other"})
    assert (answer.status, answer.code) == (409, "node_name_conflict")
    await node.close()
    await world.until(lambda: offline(world))
    assert (await world.enrol(node.name, node_id="node_other"))["id"] == node.id


async def offline(world, name="host-1"):
    return (await roster(world, name))["status"] == "offline"


async def test_a_direct_node_takes_one_agent_only(world):
    answer = await world.post("/v1/nodes", {"name": "d", "role": "direct", "max_agents": 2})
    assert (answer.status, answer.code) == (400, "direct_node_capacity_exceeded")
    answer = await world.post("/v1/nodes", {"name": "d", "kind": "http_push"})
    assert (answer.status, answer.code) == (400, "invalid_node_delivery")


async def test_secrets_in_a_delivery_setting_are_not_shown(world):
    data = await world.enrol(
        "p", kind="poll", delivery={"url": "x", "api_key": "hidden", "deep": {"authToken": "hidden"}}
    )
    assert data["delivery"] == {"url": "x", "api_key": "[redacted]", "deep": {"authToken": "[redacted]"}}


async def test_register_with_a_foreign_node_id_is_refused(world):
    node = await world.node()
    reply = await node.ask(
        type="node.register", name="x", node_id="node_foreign", capabilities=[], max_agents=0, tags=[], version="1"
    )
    assert (reply["ok"], reply["code"]) == (False, "node_id_mismatch")


async def test_register_under_the_name_of_another_node_is_refused(world):
    await world.enrol("taken")
    node = await world.node()
    node.name = "taken"
    assert (await node.register())["code"] == "node_name_conflict"


async def test_register_stores_the_manifest_and_replies_with_the_public_node(world):
    node = await world.node(capabilities=["spawn:claude", "echo"], max_agents=3)
    reply = await node.register(["spawn:codex"], 4)
    assert list(reply) == ["v", "id", "type", "ok", "data"]
    data = reply["data"]
    assert data["capabilities"] == [{"name": "spawn:codex"}]
    assert (data["status"], data["live"], data["handlers_live"], data["max_agents"]) == ("online", True, True, 4)
    assert "token" not in data


async def test_a_direct_node_stays_without_capabilities_and_with_one_agent(world):
    node = await world.direct(await world.agent("ada"))
    data = (await node.register(["echo"], 7))["data"]
    assert (data["capabilities"], data["max_agents"], data["active_agents"], data["handlers_live"]) == ([], 1, 1, False)
    await node.beat(active_agents=9, handlers_live=True)
    data = await roster(world, node.name)
    assert (data["active_agents"], data["handlers_live"], data["status"]) == (1, False, "online")


async def test_a_heartbeat_alone_brings_a_node_online(world):
    data = await world.enrol("host-1")
    node = await world.connect("host-1", data["id"], data["token"])
    assert await offline(world)
    await node.beat(load=0.25, active_agents=2, node_id=node.id)
    data = await roster(world)
    assert (data["status"], data["load"], data["active_agents"], data["handlers_live"]) == ("online", 0.25, 2, True)


async def test_a_heartbeat_of_another_node_is_refused(world):
    node = await world.node()
    reply = await node.ask(type="node.heartbeat", node_id="node_foreign", load=0.0, active_agents=0, handlers_live=True)
    assert reply["code"] == "node_id_mismatch"


async def test_a_heartbeat_refreshes_the_roster(world):
    node = await world.node(capabilities=["spawn:claude"])
    await node.beat(capabilities=[{"name": "spawn:codex"}], version="test/2", max_agents=5)
    data = await roster(world)
    assert (data["capabilities"], data["version"], data["max_agents"]) == ([{"name": "spawn:codex"}], "test/2", 5)


async def test_a_second_socket_supersedes_the_first_whose_late_close_changes_nothing(world):
    first = await world.node()
    ada = await first.agent("ada")
    second = await world.again(first)
    await second.ask(type="inventory.sync", agents=[{"agent_id": ada.id, "name": "ada"}])
    assert await first.closed() == 1000
    await second.settle()
    assert not await offline(world)
    assert await world.status(ada) == "active"


async def test_the_close_of_the_socket_takes_the_node_and_its_agents_offline_and_location_stays(world):
    node = await world.node()
    ada = await node.agent("ada")
    await node.close()
    await world.until(lambda: offline(world))
    assert await world.status(ada) == "offline"
    assert [row["agent_name"] for row in (await world.get("/v1/nodes/host-1/agents")).data] == ["ada"]


async def test_a_silent_node_is_offline_after_the_time_out(open_world):
    world = await open_world(node_timeout_s=0.3)
    node = await world.node()
    ada = await node.agent("ada")
    await world.until(lambda: offline(world))

    async def agent_offline():
        return await world.status(ada) == "offline"

    await world.until(agent_offline)
    assert not node.socket.closed


async def test_deregister_takes_the_node_offline_and_its_token_stays_valid(world):
    node = await world.node()
    await node.send(type="node.deregister")
    await node.settle()
    assert await offline(world)
    await node.close()
    assert (await (await world.connect(node.name, node.id, node.token)).register())["ok"]


async def test_nodes_are_listed_by_capability_and_name(world):
    await world.node("one", ["echo"])
    await world.node("two", ["spawn:claude"])

    async def names(query):
        return [item["name"] for item in (await world.get(f"/v1/nodes{query}")).data if item["role"] == "broker"]

    assert await names("") == ["one", "two"]
    assert await names("?capability=echo") == ["one"]
    assert await names("?name=two") == ["two"]
    assert (await world.get("/v1/nodes/%23one")).data["name"] == "one"
    assert (await world.get("/v1/nodes/three")).code == "node_not_found"


async def test_deleting_an_agent_ends_its_direct_socket(world):
    ada = await world.agent("ada")
    node = await world.direct(ada)
    assert (await world.call("DELETE", "/v1/agents/ada")).status == 204
    assert await node.closed() == 1000
    assert (await world.get(f"/v1/nodes/direct-{ada.id}")).code == "node_not_found"
    assert (await world.call("DELETE", "/v1/agents/ada")).code == "agent_not_found"
