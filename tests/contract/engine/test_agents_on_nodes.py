"""engine-contract.md section 6: registration, take-over, inventory, bindings."""


async def test_registration_replies_with_exactly_three_keys_and_joins_general(world):
    node = await world.node()
    reply = await node.ask(type="agent.register", name="ada", session_ref="s-1", resumable=True, invocation_id="inv_x")
    assert set(reply["data"]) == {"agent_id", "token", "name"}
    shown = (await world.get("/v1/agents/ada")).data
    assert [channel["name"] for channel in shown["channels"]] == ["general"]
    assert shown["metadata"]["fleet"]["node_id"] == node.id
    assert shown["metadata"]["fleet"]["invocation_id"] == "inv_x"
    assert (shown["type"], shown["status"]) == ("agent", "active")
    binding = (await world.get("/v1/nodes/host-1/agents")).data[0]
    assert (binding["session_ref"], binding["status"], binding["node_role"]) == ("s-1", "active", "broker")


async def test_registration_can_leave_general_alone(world):
    node = await world.node()
    await node.agent("ada", auto_join_general=False)
    assert (await world.get("/v1/agents/ada")).data["channels"] == []


async def test_presence_is_not_release(world):
    """F069: an agent that is set to offline, by itself or by the workspace, keeps its token, its name and its place."""
    node = await world.node()
    ada = await node.agent("ada")
    assert (await world.post("/v1/agents/disconnect", token=ada.token)).status == 200
    assert (await world.call("PATCH", "/v1/agents/ada", {"status": "offline"})).status == 200
    assert (await world.get("/v1/agent", token=ada.token)).data["id"] == ada.id
    assert (await world.post("/v1/agents", {"name": "ada"})).code == "agent_already_exists"
    assert [bound["agent_name"] for bound in (await world.get("/v1/nodes/host-1/agents")).data] == ["ada"]
    reply = await node.ask(type="inventory.sync", agents=[{"agent_id": ada.id, "name": "ada"}])
    assert reply["ok"]
    assert (await world.get("/v1/agents/ada")).data["status"] == "active"


async def test_declared_metadata_changes_no_key_of_others(world):
    """F071, the engine's half: a request holds only the declared keys; what was not sent stays, also under other names."""
    await world.agent("ada", metadata={"team": "blue", "seat": 4})
    await world.call("PATCH", "/v1/agents/ada", {"metadata": {"seat": 5}})
    await world.call("PATCH", "/v1/agents/ada", {"persona": "terse"})
    shown = (await world.get("/v1/agents/ada")).data
    assert {key: shown["metadata"][key] for key in ("team", "seat")} == {"team": "blue", "seat": 5}
    assert shown["persona"] == "terse"


async def test_a_full_node_refuses_a_second_agent_and_a_freed_slot_takes_it(world):
    node = await world.node(max_agents=1)
    ada = await node.agent("ada")
    refusal = await node.ask(type="agent.register", name="bob")
    assert (refusal["ok"], refusal["code"]) == (False, "node_capacity_exceeded")
    assert (await world.get("/v1/agents/bob")).code == "agent_not_found"
    assert (await node.agent("ada")).id == ada.id
    await node.ask(type="agent.deregister", agent_id=ada.id)
    await node.agent("bob")


async def test_zero_is_an_unlimited_number_of_agents(world):
    node = await world.node(max_agents=0)
    for number in range(5):
        await node.agent(f"a{number}")
    assert (await world.get("/v1/nodes/host-1")).data["active_agents"] == 5


async def test_taking_over_from_the_direct_node_rotates_the_token_and_keeps_the_identity(world):
    ada, bob = await world.agent("ada"), await world.agent("bob")
    await world.dm(bob, ada, "one")
    node = await world.node()
    taken = await node.agent("ada")
    assert taken.id == ada.id
    assert taken.token != ada.token
    assert (await world.get("/v1/agent", token=ada.token)).code == "agent_token_invalid"
    await node.settle()
    assert node.seqs(taken) == [1]


async def test_taking_over_on_the_same_node_rotates_the_token_and_forgets_the_session(world):
    node = await world.node()
    first = await node.agent("ada", session_ref="s-1")
    second = await node.agent("ada")
    assert (second.id, second.token != first.token) == (first.id, True)
    assert (await world.get("/v1/nodes/host-1/agents")).data[0]["session_ref"] is None


async def test_an_agent_that_is_active_on_another_node_is_not_taken(world):
    one, two = await world.node("one"), await world.node("two")
    ada = await one.agent("ada")
    refusal = await two.ask(type="agent.register", name="ada")
    assert refusal["code"] == "agent_location_conflict"
    await one.close()

    async def offline():
        return await world.status(ada) == "offline"

    await world.until(offline)
    assert (await two.agent("ada")).id == ada.id
    assert (await world.get("/v1/nodes/one/agents")).data == []


async def test_deregistration_takes_the_agent_home_and_answers_only_when_asked(world):
    node = await world.node()
    ada = await node.agent("ada")
    reply = await node.ask(type="agent.deregister", agent_id=ada.id)
    assert reply["data"] == {"agent_id": ada.id, "name": "ada", "deregistered": True}
    assert await world.status(ada) == "offline"
    assert (await world.post("/v1/agent/node-token", {}, token=ada.token)).data["node_id"] == f"node_direct_{ada.id}"
    count = len(node.frames)
    await node.send(type="agent.deregister", agent_id="404")
    await node.settle()
    assert len(node.frames) == count + 1


async def test_an_agent_on_a_node_gets_no_direct_token(world):
    node = await world.node()
    ada = await node.agent("ada")
    answer = await world.post("/v1/agent/node-token", {}, token=ada.token)
    assert (answer.status, answer.code) == (409, "agent_bound_to_node")


# --- inventory --------------------------------------------------------------------------------------------------------------


def entry(agent, **more):
    return {"agent_id": agent.id, "name": agent.name} | more


async def test_agents_that_are_not_listed_go_offline_and_unknown_names_are_ignored(world):
    node = await world.node()
    ada, bob = await node.agent("ada"), await node.agent("bob")
    reply = await node.ask(
        type="inventory.sync", agents=[entry(ada, session_ref="s-2"), {"agent_id": "404", "name": "nobody"}]
    )
    assert reply["data"] == {
        "rebound_agents": 1, "open_invocations": [], "completed_invocations": [], "rescheduled_invocations": [],
    }  # fmt: skip
    assert [await world.status(agent) for agent in (ada, bob)] == ["active", "offline"]
    assert (await world.get("/v1/agents/nobody")).code == "agent_not_found"


async def test_an_empty_inventory_takes_everybody_offline(world):
    node = await world.node()
    ada = await node.agent("ada")
    assert (await node.ask(type="inventory.sync", agents=[]))["data"]["rebound_agents"] == 0
    assert await world.status(ada) == "offline"
    await node.ask(type="inventory.sync", agents=[entry(ada)])
    assert await world.status(ada) == "active"


async def test_one_conflict_changes_nothing(world):
    one, two = await world.node("one"), await world.node("two")
    ada, bob, eve = await one.agent("ada"), await two.agent("bob"), await one.agent("eve")
    refusal = await one.ask(type="inventory.sync", agents=[entry(ada), entry(bob)])
    assert refusal["code"] == "agent_location_conflict"
    assert [await world.status(agent) for agent in (ada, bob, eve)] == ["active"] * 3
    assert [row["agent_name"] for row in (await world.get("/v1/nodes/two/agents")).data] == ["bob"]


async def test_direct_locations_and_dead_nodes_are_no_conflict(world):
    one, two = await world.node("one"), await world.node("two")
    ada, bob = await one.agent("ada"), await world.agent("bob")
    await one.close()

    async def offline():
        return await world.status(ada) == "offline"

    await world.until(offline)
    assert (await two.ask(type="inventory.sync", agents=[entry(ada), entry(bob)]))["data"]["rebound_agents"] == 2
    assert sorted(row["agent_name"] for row in (await world.get("/v1/nodes/two/agents")).data) == ["ada", "bob"]


async def test_the_inventory_completes_the_invocation_it_names_and_reschedules_what_it_does_not(world):
    node = await world.node(capabilities=["spawn:claude", "echo"])
    caller = await world.agent("caller")
    spawned = (
        await world.post("/v1/actions/spawn/invoke", {"input": {"name": "w", "cli": "claude"}}, token=caller.token)
    ).data
    echoed = (await world.post("/v1/actions/echo/invoke", {"input": {}}, token=caller.token)).data
    worker = await node.agent("w", invocation_id=spawned["invocation_id"])
    reply = await node.ask(type="inventory.sync", agents=[entry(worker, invocation_id=spawned["invocation_id"])])
    assert reply["data"]["completed_invocations"] == [spawned["invocation_id"]]
    assert reply["data"]["rescheduled_invocations"] == [echoed["invocation_id"]]
    shown = (await world.get(f"/v1/actions/spawn/invocations/{spawned['invocation_id']}")).data
    assert (shown["status"], shown["output"]["agent_id"]) == ("completed", worker.id)
    await node.beat()
    assert [frame["invocation_id"] for frame in node.of("action.invoke")].count(echoed["invocation_id"]) == 2


# --- bindings over HTTP ----------------------------------------------------------------------------------------------------


async def test_binding_moves_the_agent_to_the_node_and_keeps_its_token(world):
    node = await world.node(max_agents=1)
    ada, bob = await world.agent("ada"), await world.agent("bob")
    binding = (await world.post("/v1/nodes/host-1/agents", {"agent_name": "ada", "session_ref": "s"})).data
    assert (binding["agent_id"], binding["node_name"], binding["session_ref"]) == (ada.id, "host-1", "s")
    await world.dm(bob, ada)
    await node.settle()
    assert node.seqs(ada) == [1]
    assert (await world.get("/v1/agent", token=ada.token)).status == 200
    full = await world.post("/v1/nodes/host-1/agents", {"agent_name": "bob"})
    assert (full.status, full.code) == (409, "node_capacity_exceeded")


async def test_binding_names_what_is_missing(world):
    await world.enrol("host-1")
    assert (await world.post("/v1/nodes/none/agents", {"agent_name": "x"})).code == "node_not_found"
    assert (await world.post("/v1/nodes/host-1/agents", {"agent_name": "x"})).code == "agent_not_found"
    answer = await world.post("/v1/nodes/host-1/agents", {})
    assert (answer.code, answer.body["error"]["message"]) == ("invalid_request", "agent_name is required")


async def test_unbinding_takes_the_agent_home(world):
    await world.node()
    ada = await world.agent("ada")
    await world.post("/v1/nodes/host-1/agents", {"agent_name": "ada"})
    assert (await world.call("DELETE", "/v1/nodes/host-1/agents/ada")).status == 204
    assert (await world.call("DELETE", "/v1/nodes/host-1/agents/ada")).code == "node_agent_binding_not_found"
    assert (await world.post("/v1/agent/node-token", {}, token=ada.token)).status == 200


async def test_presence_changes_reach_every_node_with_agents(world):
    one, two = await world.node("one"), await world.node("two")
    await one.agent("ada")
    bob = await two.agent("bob")
    await world.call("PATCH", "/v1/agents/bob", {"status": "blocked"})
    await one.settle()
    update = one.of("context.update")[-1]
    assert update == {
        "v": 1, "type": "context.update", "topic": "presence", "event": "agent.status.blocked", "channel_id": None,
        "agent_ids": [bob.id], "data": {"agent_name": "bob", "status": "blocked"},
    }  # fmt: skip
