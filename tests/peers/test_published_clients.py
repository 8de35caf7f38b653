"""Clients and schemas that this project did not write: npm `@relaycast/sdk` and `@relaycast/types`, unmodified.

Source: spec/engine-contract.md sections 12.1 and 12.5.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import aiohttp
import pytest

from domain import frames, inputs
from relaybroker.engine.server import EmbeddedEngine
from tests.world import World

pytestmark = [pytest.mark.peers, pytest.mark.timeout(240)]
SCRIPTS = Path(__file__).parent / "scripts"


async def _node(project: Path, script: str, *arguments: str) -> dict:
    """Run a script with the packages of a project; its last line, decoded."""
    placed = project / script
    if not placed.exists() or placed.read_text() != (SCRIPTS / script).read_text():
        shutil.copy(SCRIPTS / script, placed)
    process = await asyncio.create_subprocess_exec(
        "node",
        "--experimental-websocket",
        "--no-warnings",
        str(placed),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()[-3000:]
    return json.loads(out.decode().strip().splitlines()[-1])


async def test_the_published_sdk_works_against_the_engine(npm_package, tmp_path):
    """Workspace, agents, DM, channel message, thread reply, connect and receive over the node socket, acknowledge."""
    project = await asyncio.to_thread(npm_package, "@relaycast/sdk", "5.0.5")
    async with EmbeddedEngine(str(tmp_path / "engine.db")) as engine:
        found = await _node(project, "sdk_session.mjs", engine.base_url)
    assert sorted(zip(found["seen"], found["texts"], strict=True)) == [
        ("channel", "hello everybody"),
        ("dm", "hello by dm"),
        ("reply", "hello in the thread"),
    ]
    assert found["thread"] == ["hello in the thread"]
    assert found["agents"] == ["planner", "worker"]
    assert found["dm"]
    assert found["reply"]


async def test_every_frame_of_a_busy_session_parses_with_the_published_schemas(npm_package, tmp_path):
    """What the engine pushes and what the broker sends (N10)."""
    project = await asyncio.to_thread(npm_package, "@relaycast/types", "5.0.5")
    lines = [{"to": "engine", "frame": frame} for frame in _frames_of_a_broker()]
    async with EmbeddedEngine(str(tmp_path / "engine.db")) as engine, aiohttp.ClientSession() as session:
        lines += [{"to": "node", "frame": frame} for frame in await _frames_of_an_engine(engine.base_url, session)]
    kinds = {(line["to"], line["frame"]["type"]) for line in lines}
    assert {("node", kind) for kind in ("reply", "error", "deliver", "action.invoke", "context.update")} <= kinds
    assert len([kind for to, kind in kinds if to == "engine"]) == 8
    path = tmp_path / "frames.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = await _node(project, "check_frames.mjs", str(path))
    assert found == {"checked": len(lines), "refused": []}


def _frames_of_a_broker() -> list[frames.Frame]:
    """Everything a broker says in a session with spawns, deliveries, actions, a reconnect and a stop."""
    world = World()
    world.start()
    world.online()
    world.spawn("w1", session_ref="sess-1")
    world.deliver("w1", 1)
    world.frame(type="action.invoke", invocation_id="inv_1", action="spawn:cat", input={"name": "w2"})
    world.accept("w2")
    world.advance(0.3)
    world.frame(type="action.invoke", invocation_id="inv_2", action="echo", input={})
    world.tell(inputs.ReleaseRequested(request_id="r", name="w2"))
    world.tell(inputs.LinkClosed(dial=world.broker.state.link.dial, code=1006, detail="eof"))
    world.advance(3)
    world.online()
    world.tell(inputs.ShutdownRequested(reason="SIGTERM"))
    return world.frames


async def _frames_of_an_engine(url: str, session: aiohttp.ClientSession) -> list[dict]:
    """Everything an engine pushes to a node whose agent is talked to in every way."""

    async def ask(path: str, token: str, body: dict | None = None, method: str = "POST") -> dict:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with session.request(method, url + path, json=body or {}, headers=headers) as response:
            assert response.status < 300, await response.text()
            return (await response.json()).get("data", {})

    key = (await ask("/v1/workspaces", "", {"name": "types"}))["api_key"]
    alice = (await ask("/v1/agents", key, {"name": "alice"}))["token"]
    node = await ask("/v1/nodes", key, {"node_id": "node_1", "name": "n1"})
    seen: list[dict] = []
    async with session.ws_connect(f"{url}/v1/node/ws", headers={"Authorization": f"Bearer {node['token']}"}) as socket:

        async def until(holds) -> None:
            async with asyncio.timeout(10):
                while not any(holds(frame) for frame in seen):
                    seen.append(await socket.receive_json())

        capabilities = ["spawn:cat", "echo"]
        register = frames.node_register("r1", name="n1", node_id="node_1", capabilities=capabilities, version="t")
        await socket.send_json(register)
        await socket.send_json(frames.inventory_sync("s1", []))
        await socket.send_json(frames.agent_register("a1", name="bob", invocation_id="", session_ref=""))
        await until(lambda frame: frame.get("id") == "a1")
        posted = await ask("/v1/channels/general/messages", alice, {"text": "hi @bob"})
        await ask(f"/v1/messages/{posted['id']}/replies", alice, {"text": "and more"})
        await ask("/v1/dm", alice, {"to": "bob", "text": "psst", "mode": "steer"})
        group = await ask("/v1/dm/group", alice, {"participants": ["bob"], "name": "g"})
        await ask(f"/v1/dm/{group['id']}/messages", alice, {"text": "to the group"})
        await ask(f"/v1/messages/{posted['id']}/reactions", alice, {"emoji": "+1"})
        await ask(f"/v1/messages/{posted['id']}/read", alice)
        await ask("/v1/actions/echo/invoke", alice, {"input": {"a": 1}})
        await until(lambda frame: frame["type"] == "action.invoke")
        await ask("/v1/agents/disconnect", alice)
        await until(lambda frame: frame["type"] == "context.update")
        await socket.send_json({"v": 1, "type": "nonsense"})
        await until(lambda frame: frame["type"] == "error")
    return seen
