"""engine-contract.md section 5.6: further programs on a node, each with a socket and actions of its own."""

import pytest


@pytest.fixture
async def host(world):
    """A node whose broker hosts bob; ada is elsewhere."""
    node = await world.node("host-1", ["echo", "spawn:claude"])
    world.bob, world.ada = await node.agent("bob"), await world.agent("ada")
    return node


async def provider(world, node, name="tools", capabilities=("sum",), instance="i1"):
    """A socket of another provider of the node, and what its registration was answered."""
    socket = await world.connect(node.name, node.id, node.token)
    reply = await socket.register(capabilities, provider={"name": name, "instance_id": instance})
    return socket, reply


async def invoke(world, name, body=None):
    return await world.post(f"/v1/actions/{name}/invoke", {"input": body or {}}, token=world.ada.token)


async def outcome(world, name, invocation):
    async def done():
        found = (await world.get(f"/v1/actions/{name}/invocations/{invocation['invocation_id']}")).data
        return found if found["status"] in ("completed", "failed") else None

    return await world.until(done)


async def test_a_provider_is_told_which_of_its_capabilities_it_has(world, host):
    _, reply = await provider(world, host, capabilities=["sum", "echo", "spawn:codex", "relay:x"])
    assert reply["data"]["provider"] == {"name": "tools", "instance_id": "i1"}
    assert reply["data"]["accepted_capabilities"] == [
        {"name": "sum", "kind": "action", "accepted": True},
        {"name": "echo", "kind": "action", "accepted": False, "reason": "action_name_conflict"},
        {"name": "spawn:codex", "kind": "capacity", "accepted": True},
        {"name": "relay:x", "kind": "capacity", "accepted": True},
    ]
    names = {item["name"] for item in (await world.get("/v1/nodes/host-1")).data["capabilities"]}
    assert names == {"echo", "spawn:claude", "sum", "spawn:codex", "relay:x"}


@pytest.mark.parametrize("name", ["broker", "default"])
async def test_a_broker_that_names_itself_is_told_as_well_and_hosts_agents(world, host, name):
    again = await world.connect(host.name, host.id, host.token)
    reply = await again.register(["echo"], provider={"name": name, "instance_id": "i"})
    assert await host.closed() == 1000, "there is one broker of a node"
    assert reply["data"]["accepted_capabilities"] == [{"name": "echo", "kind": "action", "accepted": True}]
    assert (await again.ask(type="agent.register", name="cay"))["ok"]


async def test_each_provider_gets_its_own_actions_and_messages_go_to_the_broker(world, host):
    tools, _ = await provider(world, host)
    others, _ = await provider(world, host, "others", ["product"])
    await world.dm(world.ada, world.bob)
    await host.first(lambda frame: frame["type"] == "deliver")
    for socket, name in ((tools, "sum"), (others, "product"), (host, "echo")):
        made = (await invoke(world, name, {"a": 1})).data
        frame = await socket.first(lambda frame: frame["type"] == "action.invoke")
        assert (frame["invocation_id"], frame["action"], frame["input"]) == (made["invocation_id"], name, {"a": 1})
        await socket.send(type="action.result", invocation_id=made["invocation_id"], output={"by": name})
        assert (await outcome(world, name, made))["output"] == {"by": name}
    for socket in (tools, others, host):
        assert len(socket.of("action.invoke")) == 1
    assert tools.of("deliver") == others.of("deliver") == []


async def test_the_same_provider_again_takes_the_place_of_its_former_socket_and_of_no_other(world, host):
    tools, _ = await provider(world, host)
    again, reply = await provider(world, host, instance="i2")
    assert await tools.closed() == 1000
    assert reply["data"]["accepted_capabilities"][0]["accepted"], "an action stays with its provider"
    made = (await invoke(world, "sum")).data
    assert (await again.first(lambda frame: frame["type"] == "action.invoke"))["invocation_id"] == made["invocation_id"]
    await host.settle()
    assert (await world.get("/v1/nodes/host-1")).data["status"] == "online"


async def test_what_a_provider_still_owes_waits_for_it_and_goes_to_nobody_else(world, host):
    tools, _ = await provider(world, host)
    owed = (await invoke(world, "sum", {"n": 1})).data
    await tools.first(lambda frame: frame["type"] == "action.invoke")
    await tools.close()

    async def waits():
        return (await world.get(f"/v1/actions/sum/invocations/{owed['invocation_id']}")).data["status"] == "pending"

    await world.until(waits)
    later = (await invoke(world, "sum", {"n": 2})).data
    await host.beat()
    assert host.of("action.invoke") == [], "the broker does not know the action"
    assert (await world.get("/v1/nodes/host-1")).data["status"] == "online"
    assert await world.status(world.bob) == "active", "the broker's agents stay"
    back, _ = await provider(world, host)
    await back.settle()
    assert [frame["invocation_id"] for frame in back.of("action.invoke")] == [
        item["invocation_id"] for item in (owed, later)
    ]


async def test_a_broker_that_goes_takes_nothing_from_the_providers_beside_it(world, host):
    tools, _ = await provider(world, host)
    made = (await invoke(world, "sum")).data
    await tools.first(lambda frame: frame["type"] == "action.invoke")
    await host.close()

    async def is_offline():
        return await world.status(world.bob) == "offline"

    await world.until(is_offline)
    shown = (await world.get("/v1/nodes/host-1")).data
    assert (shown["status"], shown["handlers_live"]) == ("online", True)
    await tools.send(type="action.result", invocation_id=made["invocation_id"], error="handler_unavailable")
    assert (await outcome(world, "sum", made))["error"] == "handler_unavailable"
    assert len(tools.of("action.invoke")) == 1, "it was not sent again"


async def test_a_provider_that_leaves_takes_its_actions_with_it(world, host):
    tools, _ = await provider(world, host, capabilities=["sum", "product"])
    assert (await tools.register(["sum"], provider={"name": "tools", "instance_id": "i1"}))["ok"]
    assert (await invoke(world, "product")).code == "action_not_found", "what it offers no longer"
    await tools.send(type="node.deregister", provider={"name": "tools", "instance_id": "i1"})
    await tools.settle()
    assert (await invoke(world, "sum")).code == "action_not_found"
    assert (await invoke(world, "echo")).status == 201, "the broker's stay"


async def test_a_provider_takes_the_spawns_that_it_offers_and_hands_them_on_to_the_broker(world, host):
    tools, _ = await provider(world, host, capabilities=["spawn:claude"])
    made = await world.post("/v1/agents/spawn", {"name": "w", "cli": "claude", "task": "t"})
    asked = await tools.first(lambda frame: frame["type"] == "action.invoke")
    assert (asked["invocation_id"], asked["action"]) == (made.data["invocation_id"], "spawn:claude")
    assert host.of("action.invoke") == []
    handed = await tools.ask(type="node.spawn", input={"name": "w", "cli": "claude", "task": "more"})
    frame = await host.first(lambda frame: frame["type"] == "action.invoke")
    assert (handed["ok"], frame["invocation_id"]) == (True, handed["data"]["invocation_id"])
    assert (frame["action"], frame["input"]["task"]) == ("spawn:claude", "more")
    refused = await tools.ask(type="node.spawn", input={"name": "w", "cli": "codex"})
    assert (refused["ok"], refused["code"]) == (False, "capability_mismatch")


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "agent.register", "name": "bob"},
        {"type": "agent.deregister", "agent_id": "1"},
        {"type": "inventory.sync", "agents": []},
        {"type": "delivery.ack", "agent": "bob", "up_to_seq": 1},
    ],
)
async def test_a_provider_beside_the_broker_has_no_agents(world, host, frame):
    tools, _ = await provider(world, host)
    await world.dm(world.ada, world.bob)
    refused = await tools.ask(**frame)
    assert (refused["ok"], refused["code"]) == (False, "provider_hosts_no_agents")
    assert await world.status(world.bob) == "active"
    assert [row["status"] for row in (await world.get("/v1/deliveries", token=world.bob.token)).data] != ["acked"]


async def test_a_provider_registers_its_own_node_and_no_agents_direct_one(world, host):
    other = await world.enrol("host-2")
    tools = await world.connect(other["name"], host.id, other["token"])
    named = {"provider": {"name": "tools", "instance_id": "i"}}
    assert (await tools.register(["sum"], **named))["code"] == "node_id_mismatch"
    direct = (await world.post("/v1/agent/node-token", {}, token=world.ada.token)).data
    socket = await world.connect(direct["node_name"], direct["node_id"], direct["token"])
    assert (await socket.register(["sum"], **named))["code"] == "forbidden"
    assert (await invoke(world, "sum")).code == "action_not_found"


async def test_a_node_without_a_broker_is_served_by_its_provider_alone(world):
    world.ada = await world.agent("ada")
    data = await world.enrol("host-1")
    tools = await world.connect("host-1", data["id"], data["token"])
    assert (await tools.register(["sum"], provider={"name": "tools", "instance_id": "i"}))["ok"]
    assert (await world.get("/v1/nodes?capability=sum")).data[0]["live"]
    made = (await invoke(world, "sum")).data
    await tools.first(lambda frame: frame.get("invocation_id") == made["invocation_id"])


async def test_actions_of_a_provider_are_in_the_database_and_wait_for_it_after_a_restart(open_world):
    world = await open_world()
    node = await world.node("host-1", ["echo"])
    world.ada = await world.agent("ada")
    await provider(world, node)
    await world.close()
    await world.engine.__aexit__(None, None, None)
    again = await open_world(workspace="")
    again.key, again.ada = world.key, world.ada
    owed = (await invoke(again, "sum")).data
    host = await again.connect("host-1", node.id, node.token)
    await host.register(["echo"])
    await host.settle()
    assert host.of("action.invoke") == []
    tools, reply = await provider(again, node)
    assert reply["data"]["accepted_capabilities"][0]["accepted"]
    await tools.first(lambda frame: frame.get("invocation_id") == owed["invocation_id"])


# --- what a node says ---------------------------------------------------------------------------------------------------------


async def test_a_node_speaks_as_an_agent_that_is_on_it_or_under_a_name_that_nobody_has(world, host):
    path = "/v1/channels/general/messages"
    said = await world.post(path, {"text": "built", "from": "bob"}, token=host.token)
    assert (said.status, said.data["agent_id"], said.data["agent_name"]) == (201, world.bob.id, "bob")
    said = await world.post(path, {"text": "built", "from": "ci"}, token=host.token)
    assert (said.data["agent_id"], said.data["agent_name"]) == (host.id, "ci")
    said = await world.post(path, {"text": "built"}, token=host.token)
    assert said.data["agent_name"] == "host-1"
    refused = await world.post(path, {"text": "built", "from": "ada"}, token=host.token)
    assert (refused.status, refused.code) == (403, "forbidden")
    assert (await world.post(path, {"text": "built", "from": "human:x"}, token=host.token)).status == 400
    said = await world.post(path, {"text": "mine", "from": "bob"}, token=world.ada.token)
    assert said.data["agent_name"] == "ada", "an agent speaks for itself, whatever it says"


async def test_the_token_of_a_direct_node_lends_its_agent_no_other_name(world, host):
    direct = (await world.post("/v1/agent/node-token", {}, token=world.ada.token)).data
    path = "/v1/channels/general/messages"
    for name in ("boss", "bob", None):
        body = {"text": "do it"} | ({"from": name} if name else {})
        assert (await world.post(path, body, token=direct["token"])).code == "forbidden", name
    said = await world.post(path, {"text": "do it", "from": "ada"}, token=direct["token"])
    assert said.data["agent_id"] == world.ada.id
