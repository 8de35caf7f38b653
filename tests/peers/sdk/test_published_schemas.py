"""Every frame and event that the engine sends is one of the published schemas' (engine-contract.md section 12.5)."""

import asyncio
import json

import aiohttp
import pytest

from relaybroker.engine.context import Limits
from relaybroker.engine.server import EmbeddedEngine
from tests.waiting import WAIT_S

MAILBOX_DEPTH = 10
pytestmark = pytest.mark.peers


class Recorder:
    """One workspace, one node socket and one observer; everything that the engine says is kept."""

    def __init__(self, engine, session):
        self.base, self.session = engine.base_url, session
        self.key, self.node, self.observer = "", None, None
        self.frames, self.events = [], []

    async def call(self, method, path, body=None, token=""):
        headers = {"Authorization": f"Bearer {token or self.key}"} if token or self.key else {}
        async with self.session.request(method, self.base + path, json=body, headers=headers) as answer:
            return (await answer.json()).get("data") if answer.status != 204 else None

    async def keep(self, socket, into):
        async for message in socket:
            into.append(json.loads(message.data))

    async def ask(self, **frame):
        request_id = f"r{len(self.frames)}-{frame['type']}"
        await self.node.send_json({"v": 1, "id": request_id} | frame)
        async with asyncio.timeout(WAIT_S):
            while not (replies := [item for item in self.frames if item.get("id") == request_id]):
                await asyncio.sleep(0.005)
        return replies[0].get("data")


@pytest.fixture
async def recorder(tmp_path):
    async with (
        EmbeddedEngine(str(tmp_path / "engine.db"), limits=Limits(mailbox_depth=MAILBOX_DEPTH)) as engine,
        aiohttp.ClientSession() as session,
    ):
        made = Recorder(engine, session)
        made.key = (await made.call("POST", "/v1/workspaces", {"name": "peers"}))["api_key"]
        enrolled = await made.call("POST", "/v1/nodes", {"name": "host", "node_id": "node_a"})
        sockets = made.base + "/v1"
        made.node = await session.ws_connect(f"{sockets}/node/ws?token={enrolled['token']}")
        made.observer = await session.ws_connect(f"{sockets}/ws?token={made.key}")
        reading = [
            asyncio.create_task(made.keep(made.node, made.frames)),
            asyncio.create_task(made.keep(made.observer, made.events)),
        ]
        yield made
        await made.node.close()
        await made.observer.close()
        await asyncio.gather(*reading)


async def everything(recorder):
    """Make the engine say everything it can."""
    call, ask = recorder.call, recorder.ask
    capabilities = [{"name": "echo"}, {"name": "spawn:claude", "kind": "spawn", "metadata": {"a": 1}}]
    register = {"name": "host", "capabilities": capabilities, "max_agents": 0, "tags": ["t"], "version": "1"}
    await ask(type="node.register", node_id="node_b", **register)
    await ask(type="node.register", node_id="node_a", **register)
    ada = await ask(type="agent.register", name="ada")
    bob = await ask(type="agent.register", name="bob")
    bobs = {"token": bob["token"]}
    message = await call("POST", "/v1/channels/general/messages", {"text": "hi @ada", "blocks": [{"a": 1}]}, **bobs)
    await call("POST", "/v1/dm", {"to": "ada", "text": "direct", "mode": "steer"}, **bobs)
    await call("POST", f"/v1/messages/{message['id']}/replies", {"text": "reply"}, **bobs)
    about = {"filename": "f", "content_type": "a/b", "size_bytes": 1}
    file = await call("POST", "/v1/files/upload", about, **bobs)
    async with recorder.session.put(file["upload_url"], data=b"x") as answer:
        assert answer.status == 200
    await call("POST", f"/v1/files/{file['id']}/complete", **bobs)
    carried = {"text": "with a file", "attachments": [file["id"]]}
    await call("POST", "/v1/channels/general/messages", carried, **bobs)
    await call("POST", "/v1/dm", carried | {"to": "ada"}, **bobs)
    await call("POST", f"/v1/messages/{message['id']}/replies", carried, **bobs)
    group = await call("POST", "/v1/dm/group", {"participants": ["ada"]}, **bobs)
    await call("POST", f"/v1/dm/{group['id']}/messages", {"text": "group"}, **bobs)
    for number in range(MAILBOX_DEPTH):
        await call("POST", "/v1/dm", {"to": "ada", "text": str(number)}, **bobs)
    await call("POST", f"/v1/messages/{message['id']}/reactions", {"emoji": "👍"}, **bobs)
    await call("DELETE", f"/v1/messages/{message['id']}/reactions/👍", **bobs)
    await call("POST", f"/v1/messages/{message['id']}/read", token=ada["token"])
    for name, result in (("echo", {"output": {"a": 1}}), ("echo", {"output": None}), ("echo", {"error": "no"})):
        invocation = await call("POST", f"/v1/actions/{name}/invoke", {"input": {"b": 2}}, **bobs)
        await recorder.node.send_json(
            {"v": 1, "type": "action.result", "invocation_id": invocation["invocation_id"]} | result
        )
    await call("POST", "/v1/actions/spawn/invoke", {"input": {"name": "w", "cli": "claude"}}, **bobs)
    await call("POST", "/v1/actions", {"name": "sum", "description": "d", "handler_agent": "ada"}, **bobs)
    await call("POST", "/v1/actions/sum/invoke", {"input": {}}, **bobs)
    await call(
        "POST", "/v1/actions", {"name": "echo", "description": "d", "handler_node": "host", "available_to": ["ada"]}
    )
    await call("POST", "/v1/actions/echo/invoke", {"input": {}}, **bobs)
    await call("POST", "/v1/agents/release", {"name": "ada"})
    for status in ("idle", "blocked", "waiting", "active", "offline"):
        await call("PATCH", "/v1/agents/ada", {"status": status})
    await call("POST", "/v1/channels", {"name": "ops", "topic": "t"}, **bobs)
    await call("POST", "/v1/channels/general/mute", **bobs)
    await call("POST", "/v1/channels/general/unmute", **bobs)
    await call("POST", "/v1/channels/general/leave", **bobs)
    await call("POST", "/v1/channels/general/join", **bobs)
    await recorder.node.send_str('{"v":1,"type":"nonsense"}')
    await ask(type="inventory.sync", agents=[{"agent_id": bob["agent_id"], "name": "bob"}])
    await ask(type="agent.deregister", agent_id=bob["agent_id"])
    await ask(type="node.register", node_id="node_a", **register)
    await ask(type="agent.deregister", agent_id="1")


async def test_everything_that_the_engine_says_passes_the_published_schemas(
    recorder, tmp_path, npm_package, node_script
):
    await everything(recorder)
    spoken = {frame["type"] for frame in recorder.frames}
    assert spoken == {"reply", "error", "deliver", "action.invoke", "context.update"}
    events = {frame["event"] for frame in recorder.frames if frame["type"] == "context.update"}
    assert events >= {"delivery.failed", "agent.status.active", "agent.status.offline"}
    payloads = {frame["payload"]["type"] for frame in recorder.frames if frame["type"] == "deliver"}
    assert payloads == {
        "message.created", "dm.received", "thread.reply", "group_dm.received", "message.reacted", "message.read",
        "action.completed", "action.failed", "action.denied",
    }  # fmt: skip
    shown = {event["type"] for event in recorder.events}
    assert {"message.created", "thread.reply", "channel.created", "agent.status.blocked", "member.left"} <= shown
    lines = [{"kind": "frame", "value": frame} for frame in recorder.frames]
    lines += [{"kind": "event", "value": event} for event in recorder.events]
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text("\n".join(json.dumps(line) for line in lines))
    verdict = await node_script("types.mjs", npm_package("@relaycast/types", "5.0.5"), RECORDED=str(recorded))
    assert (verdict["checked"], verdict["refused"]) == (len(lines), [])
