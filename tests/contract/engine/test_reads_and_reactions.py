"""engine-contract.md sections 2.4 and 7.5: receipts and reactions reach everybody, unnumbered and never again."""

import pytest


@pytest.fixture
async def room(world):
    """Two agents on one node and a writer in #general."""
    node = await world.node()
    return node, await node.agent("ada"), await node.agent("eve"), await world.agent("bob")


async def test_a_read_reaches_all_members_with_ids_of_their_own_and_is_not_replayed(world, room):
    node, ada, eve, bob = room
    said = await world.say(bob, "hi")
    answer = (await world.post(f"/v1/messages/{said['id']}/read", token=ada.token)).data
    assert set(answer) == {"message_id", "agent_id", "read_at"}
    await world.post(f"/v1/messages/{said['id']}/read", token=ada.token)
    await node.settle()
    events = node.events("message.read")
    assert sorted(frame["agent"] for frame in events) == ["ada", "eve"]
    assert {frame["msg_id"] for frame in events} == {said["id"]}
    assert len({frame["delivery_id"] for frame in events}) == 2
    assert all(frame["delivery_id"].startswith("evt_message_read_") for frame in events)
    assert events[0]["payload"]["data"] == answer | {"agent_name": "ada"}
    again = await world.again(node)
    await again.settle()
    assert again.events("message.read") == []
    assert again.seqs(ada) == []
    assert again.seqs(eve) == [1]


async def test_reading_moves_the_read_mark_forward_only_and_not_the_cursor(world, room):
    node, ada, _, bob = room
    first, second = await world.say(bob, "1"), await world.say(bob, "2")
    await world.post(f"/v1/messages/{second['id']}/read", token=ada.token)
    await world.post(f"/v1/messages/{first['id']}/read", token=ada.token)
    status = {row["agent_name"]: row for row in (await world.get("/v1/channels/general/read-status")).data}
    assert status["ada"]["last_read_id"] == second["id"]
    assert status["eve"]["last_read_id"] is None
    await world.say(bob, "3")
    again = await world.again(node)
    await again.settle()
    assert again.seqs(ada) == [3]


async def test_who_is_not_there_cannot_read(world, room):
    _, ada, _, bob = room
    sent = await world.dm(bob, ada)
    eve_token = (await world.post("/v1/agents/eve/rotate-token")).data["token"]
    answer = await world.post(f"/v1/messages/{sent['id']}/read", token=eve_token)
    assert (answer.status, answer.code) == (404, "message_not_found")


async def test_a_reaction_is_added_once_reaches_everybody_and_is_removed(world, room):
    node, ada, eve, bob = room
    said = await world.say(bob, "hi")
    path = f"/v1/messages/{said['id']}/reactions"
    first = (await world.post(path, {"emoji": "👍"}, token=ada.token)).data
    assert (await world.post(path, {"emoji": "👍"}, token=ada.token)).data == first
    await world.post(path, {"emoji": "👍"}, token=eve.token)
    assert (await world.get(path)).data == [{"emoji": "👍", "count": 2, "agents": ["ada", "eve"]}]
    assert (await world.call("DELETE", f"{path}/👍", token=eve.token)).status == 204
    await node.settle()
    events = [frame["payload"]["data"] for frame in node.events("message.reacted") if frame["agent"] == "eve"]
    assert [(data["agent_name"], data["action"]) for data in events] == [
        ("ada", "added"), ("eve", "added"), ("eve", "removed"),
    ]  # fmt: skip
    assert events[0] == first | {"channel_name": "general", "action": "added"}
    ids = [frame["delivery_id"] for frame in node.events("message.reacted")]
    assert len(set(ids)) == len(ids) == 6
    shown = (await world.get(f"/v1/messages/{said['id']}")).data
    assert (shown["reactions"][0]["agents"], shown["reply_count"]) == (["ada"], 0)
    inbox = (await world.get("/v1/inbox", token=bob.token)).data
    assert [item["emoji"] for item in inbox["recent_reactions"]] == ["👍"]
