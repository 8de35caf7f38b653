"""engine-contract.md section 4.1: frames are strict, the socket survives, and newer peers are let in."""

import json

import pytest

BEAT = {"v": 1, "type": "node.heartbeat", "load": 0.0, "active_agents": 0, "handlers_live": True}
REGISTER = {
    "v": 1, "type": "node.register", "name": "host-1", "node_id": "N", "capabilities": [], "max_agents": 0, "tags": [],
    "version": "1",
}  # fmt: skip
AGENT = {"v": 1, "type": "agent.register", "name": "ada"}
RESULT = {"v": 1, "type": "action.result", "invocation_id": "inv_1"}


@pytest.mark.parametrize(
    "frame",
    [
        BEAT | {"unknown": 1},
        BEAT | {"v": 2},
        BEAT | {"v": True},
        BEAT | {"load": "0.5"},
        BEAT | {"load": -1},
        BEAT | {"active_agents": 1.5},
        BEAT | {"active_agents": -1},
        BEAT | {"handlers_live": 1},
        BEAT | {"name": None},
        {key: value for key, value in BEAT.items() if key != "active_agents"},
        {key: value for key, value in BEAT.items() if key != "v"},
        REGISTER | {"max_agents": 10**30},
        REGISTER | {"tags": [1]},
        REGISTER | {"capabilities": ["echo"]},
        REGISTER | {"capabilities": [{"name": "x", "kind": None}]},
        REGISTER | {"capabilities": [{"name": "x", "more": 1}]},
        AGENT | {"session_ref": None},
        AGENT | {"resumable": "yes"},
        AGENT | {"name": ""},
        RESULT,
        RESULT | {"output": 1, "error": "x"},
        RESULT | {"error": None},
        {"v": 1, "type": "delivery.ack", "agent": "ada", "up_to_seq": -1},
        {"v": 1, "type": "delivery.ack", "agent": "ada", "up_to_seq": "1"},
        {"v": 1, "type": "inventory.sync", "agents": [{"agent_id": "1"}]},
        {"type": "subscribe"},
        {"type": "pong"},
        {"v": 1, "type": "unknown"},
        [],
        "text",
    ],
    ids=lambda frame: json.dumps(frame)[:60],
)
async def test_an_invalid_frame_gets_an_error_with_a_fresh_id_and_the_socket_stays(world, frame):
    node = await world.node()
    before = len(node.of("error"))
    given = frame | {"id": "mine"} if isinstance(frame, dict) and "v" in frame else frame
    await node.socket.send_str(json.dumps(given))
    await node.settle()
    (error,) = node.of("error")[before:]
    assert (error["ok"], error["code"]) == (False, "invalid_message")
    assert error["id"] != "mine"
    assert error["id"].isdigit()


@pytest.mark.parametrize("text", ["{", "", "NaN", '{"v":1,"type":"node.deregister","id":"\\ud800"}', "[" * 100_000])
async def test_what_is_no_json_gets_the_same_error(world, text):
    node = await world.node()
    await node.socket.send_str(text)
    assert (await node.first(lambda sent: sent["type"] == "error"))["code"] == "invalid_message"


@pytest.mark.parametrize(
    "frame",
    [
        REGISTER | {"provider": {"name": "broker", "instance_id": "i"}, "machine_id": "m", "resume_cursor": None},
        REGISTER
        | {"capabilities": [{"name": "x", "kind": "capacity", "metadata": {"a": 1}, "global": True, "queue": False}]},
        AGENT | {"auto_join_general": False, "session_ref": "s", "resumable": True, "invocation_id": "inv_1"},
        {"v": 1, "type": "inventory.sync", "agents": []},
    ],
    ids=",".join,
)
async def test_the_keys_of_newer_peers_are_accepted(world, frame):
    node = await world.node()
    given = {key: node.id if value == "N" else value for key, value in frame.items() if key != "v"}
    assert (await node.ask(**given))["ok"]


async def test_the_heartbeat_keys_of_newer_peers_are_accepted(world):
    node = await world.node()
    for more in ({"provider": {"name": "b", "instance_id": "i"}, "load_reported": True}, {"load": None}, {"load": 1}):
        await node.send(**({key: value for key, value in BEAT.items() if key != "v"} | more))
    await node.send(type="node.deregister", provider={"name": "b", "instance_id": "i"})
    await node.settle()
    assert node.of("error") == []


async def test_a_request_without_an_id_is_answered_with_a_fresh_one(world):
    node = await world.node()
    await node.send(type="agent.register", name="ada")
    await node.settle()
    replies = [frame for frame in node.of("reply") if frame["data"].get("name") == "ada"]
    assert len(replies) == 1
    assert replies[0]["id"].isdigit()


async def test_binary_messages_are_ignored(world):
    node = await world.node()
    await node.socket.send_bytes(b"\x00")
    await node.settle()
    assert node.of("error") == []


async def test_a_frame_over_one_mebibyte_ends_the_socket(world):
    node = await world.node()
    await node.socket.send_str(json.dumps(RESULT | {"output": "x" * (1024 * 1024)}))
    assert await node.closed() == 1009


async def test_a_frame_of_nearly_one_mebibyte_is_taken(world):
    node = await world.node()
    await node.send(type="action.result", invocation_id="inv_1", output="x" * (1024 * 1024 - 200))
    await node.settle()
    assert node.of("error") == []
