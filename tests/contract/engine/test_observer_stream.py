"""engine-contract.md section 10: `/v1/ws`, client-shaped events."""

import asyncio
import json
import uuid

import pytest

from tests.waiting import WAIT_S


@pytest.fixture
async def watch(world):
    """`watch()` -> a function that gives the next event of this type."""
    sockets = []

    async def begin():
        socket = await world.session.ws_connect(f"{world.engine.base_url}/v1/ws?token={world.key}")
        sockets.append(socket)
        await socket.send_str('{"type":"ping"}')
        assert (await socket.receive_json()) == {"type": "pong"}

        async def following(kind):
            async with asyncio.timeout(WAIT_S):
                while True:
                    event = json.loads((await socket.receive()).data)
                    if event["type"] == kind:
                        return event

        following.socket = socket
        return following

    yield begin
    for socket in sockets:
        await socket.close()


async def test_everything_said_is_shown_in_the_shapes_of_the_contract(world, watch):
    ada, bob = await world.agent("ada"), await world.agent("bob")
    following = await watch()
    said = await world.say(ada, "hi")
    event = await following("message.created")
    assert uuid.UUID(event.pop("id")).version == 5
    assert event == {
        "type": "message.created", "channel": "general",
        "message": {
            "id": said["id"], "agent_id": ada.id, "agent_name": "ada", "text": "hi", "injection_mode": "wait", "attachments": [],
        },
    }  # fmt: skip
    await world.post(f"/v1/messages/{said['id']}/replies", {"text": "re"}, token=bob.token)
    event = await following("thread.reply")
    assert (event["channel"], event["parent_id"], set(event["message"])) == (
        "general", said["id"], {"id", "agent_id", "agent_name", "text"},
    )  # fmt: skip
    sent = await world.dm(ada, bob)
    assert (await following("dm.received"))["conversation_id"] == sent["conversation_id"]
    await world.post(f"/v1/messages/{said['id']}/reactions", {"emoji": "👍"}, token=bob.token)
    assert await following("message.reacted") == {
        "type": "message.reacted", "message_id": said["id"], "emoji": "👍", "agent_name": "bob", "action": "added",
    }  # fmt: skip
    await world.post(f"/v1/messages/{said['id']}/read", token=bob.token)
    assert set(await following("message.read")) == {"type", "message_id", "agent_name", "read_at"}
    await world.post("/v1/channels", {"name": "ops", "topic": "t"})
    assert await following("channel.created") == {"type": "channel.created", "channel": {"name": "ops", "topic": "t"}}
    await world.post("/v1/channels/ops/join", token=ada.token)
    assert await following("member.joined") == {"type": "member.joined", "channel": "ops", "agent_name": "ada"}
    await world.call("PATCH", "/v1/agents/ada", {"status": "waiting"})
    assert await following("agent.status.waiting") == {
        "type": "agent.status.waiting", "agent": {"name": "ada"}, "status": "waiting",
    }  # fmt: skip


async def test_results_of_actions_are_shown(world, watch):
    caller = await world.agent("caller")
    node = await world.node(capabilities=["echo"])
    following = await watch()
    invocation = (await world.post("/v1/actions/echo/invoke", {"input": {}}, token=caller.token)).data
    await node.send(type="action.result", invocation_id=invocation["invocation_id"], output=[1])
    assert await following("action.completed") == {
        "type": "action.completed", "invocation_id": invocation["invocation_id"], "action_name": "echo", "status": "completed",
        "output": None, "error": None,
    }  # fmt: skip


async def test_what_observers_say_is_ignored_and_other_workspaces_are_not_shown(world, watch):
    following = await watch()
    for text in ("nonsense", '{"type":"subscribe","channels":["ping"]}', "[]"):
        await following.socket.send_str(text)
    first = world.key
    await world.workspace("other")
    await world.say(await world.agent("eve"), "elsewhere")
    world.key = first
    await world.say(await world.agent("ada"), "here")
    assert (await following("message.created"))["message"]["text"] == "here"
