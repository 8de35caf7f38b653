"""A real engine in this process, reached over real HTTP and WebSockets; nothing in it may block the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from blockbuster import blockbuster_ctx

from relaybroker.engine.context import Limits
from relaybroker.engine.server import EmbeddedEngine
from tests.waiting import WAIT_S


@dataclass
class Answer:
    """What a REST call gave."""

    status: int
    body: Any
    headers: dict[str, str]

    @property
    def data(self):
        assert self.status in (200, 201), self.body
        return self.body["data"]

    @property
    def code(self):
        return self.body["error"]["code"]


@dataclass
class Agent:
    id: str
    name: str
    token: str


@dataclass
class Node:
    """A node: its token, and its socket with every frame that came over it."""

    world: World
    id: str
    name: str
    token: str
    socket: aiohttp.ClientWebSocketResponse
    frames: list[dict[str, Any]] = field(default_factory=list)
    ids: Any = field(default_factory=itertools.count)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    reader: asyncio.Task | None = None

    async def read(self):
        async for message in self.socket:
            self.frames.append(json.loads(message.data))
            self.world.recorded.append(self.frames[-1])
            self.arrived.set()
        self.arrived.set()

    async def send(self, **frame):
        await self.socket.send_json({"v": 1} | frame)

    async def ask(self, **frame):
        """Send with an id; what was replied."""
        request_id = f"{frame['type']}-{next(self.ids)}"
        await self.send(id=request_id, **frame)
        return await self.first(lambda sent: sent.get("id") == request_id)

    async def first(self, wanted: Callable[[dict[str, Any]], bool]):
        """The first frame like this, arrived or yet to come."""
        async with asyncio.timeout(WAIT_S):
            while True:
                for frame in self.frames:
                    if wanted(frame):
                        return frame
                assert self.reader is not None
                assert not self.reader.done(), f"closed with {self.socket.close_code}; {self.frames}"
                self.arrived.clear()
                await self.arrived.wait()

    async def settle(self):
        """Return when everything that was caused before has arrived: this request and its reply change nothing."""
        await self.ask(type="agent.deregister", agent_id="1")

    async def register(self, capabilities=(), max_agents=0, **more):
        return await self.ask(
            type="node.register", name=self.name, node_id=self.id, max_agents=max_agents, tags=[], version="test/1",
            capabilities=[{"name": name} for name in capabilities], **more,
        )  # fmt: skip

    async def beat(self, **fields):
        frame = {"load": 0.0, "active_agents": 0, "handlers_live": True} | fields
        await self.send(type="node.heartbeat", **frame)
        await self.settle()

    async def agent(self, name, **fields):
        """Register an agent here."""
        reply = await self.ask(type="agent.register", name=name, **fields)
        assert reply["ok"], reply
        return Agent(reply["data"]["agent_id"], name, reply["data"]["token"])

    async def ack(self, agent, seq):
        await self.send(type="delivery.ack", agent=agent.name, up_to_seq=seq)
        await self.settle()

    def of(self, kind):
        return [frame for frame in self.frames if frame["type"] == kind]

    def delivered(self, agent=None):
        """Numbered deliveries, in order of arrival."""
        return [
            frame for frame in self.of("deliver") if frame["seq"] and (agent is None or frame["agent_id"] == agent.id)
        ]

    def seqs(self, agent=None):
        return [frame["seq"] for frame in self.delivered(agent)]

    def events(self, kind):
        """Unnumbered deliveries of this payload type."""
        return [frame for frame in self.of("deliver") if not frame["seq"] and frame["payload"]["type"] == kind]

    async def close(self):
        await self.socket.close()
        if self.reader is not None:
            await self.reader

    async def closed(self):
        """Wait until the engine has closed the socket; its code."""
        async with asyncio.timeout(WAIT_S):
            await self.reader
        return self.socket.close_code


class World:
    """One workspace on one engine, and everything that a test needs to live in it."""

    def __init__(self, engine: EmbeddedEngine, session: aiohttp.ClientSession, recorded: list[dict[str, Any]]) -> None:
        self.engine = engine
        self.session = session
        self.recorded = recorded
        self.key = ""
        self._open: list[Node] = []

    async def call(self, method, path, body=None, *, token=None, raw=None, **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is None:
            token = self.key
        if token:
            names["Authorization"] = f"Bearer {token}"
        given = {"data": raw} if raw is not None else {} if body is None else {"json": body}
        async with self.session.request(method, self.engine.base_url + path, headers=names, **given) as answer:
            text = await answer.text()
            return Answer(answer.status, json.loads(text) if text else None, dict(answer.headers))

    async def post(self, path, body=None, **more):
        return await self.call("POST", path, body, **more)

    async def get(self, path, **more):
        return await self.call("GET", path, **more)

    async def workspace(self, name):
        self.key = (await self.post("/v1/workspaces", {"name": name}, token="")).data["api_key"]

    async def agent(self, name, **fields):
        data = (await self.post("/v1/agents", {"name": name} | fields)).data
        return Agent(data["id"], name, data["token"])

    async def enrol(self, name, **fields):
        return (await self.post("/v1/nodes", {"name": name, "kind": "ws", "role": "broker"} | fields)).data

    async def connect(self, name, node_id, token, query=""):
        """Open a node's socket, without registering."""
        socket = await self.session.ws_connect(
            f"{self.engine.base_url}/v1/node/ws{query}", headers={"Authorization": f"Bearer {token}"}
        )
        node = Node(self, node_id, name, token, socket)
        node.reader = asyncio.create_task(node.read())
        self._open.append(node)
        return node

    async def node(self, name="host-1", capabilities=(), max_agents=0, **more):
        """An enrolled, connected and registered broker node."""
        data = await self.enrol(name)
        node = await self.connect(name, data["id"], data["token"])
        reply = await node.register(capabilities, max_agents, **more)
        assert reply["ok"], reply
        return node

    async def again(self, node, capabilities=(), max_agents=0):
        """A new socket of the same node, registered."""
        fresh = await self.connect(node.name, node.id, node.token)
        await fresh.register(capabilities, max_agents)
        return fresh

    async def direct(self, agent):
        """The agent's own socket, as SDK clients open it."""
        data = (await self.post("/v1/agent/node-token", {}, token=agent.token)).data
        node = await self.connect(data["node_name"], data["node_id"], data["token"])
        await node.register(max_agents=1)
        return node

    async def dm(self, sender, to, text="hi", **more):
        return (await self.post("/v1/dm", {"to": to.name, "text": text} | more, token=sender.token)).data

    async def say(self, sender, text="hi", channel="general", **more):
        return (await self.post(f"/v1/channels/{channel}/messages", {"text": text} | more, token=sender.token)).data

    async def announce(self, agent, content=b"content", filename="notes.txt", content_type="text/plain"):
        """A file that waits for its content."""
        body = {"filename": filename, "content_type": content_type, "size_bytes": len(content)}
        return (await self.post("/v1/files/upload", body, token=agent.token)).data

    async def send(self, url, content):
        """Send a content to the URL that was given for it."""
        async with self.session.put(url, data=content) as answer:
            return Answer(answer.status, await answer.json(), dict(answer.headers))

    async def fetch(self, url):
        """Status, content and headers of what a URL leads to."""
        async with self.session.get(url) as answer:
            return answer.status, await answer.read(), answer.headers

    async def file(self, agent, content=b"content", **named):
        """A file that is complete."""
        made = await self.announce(agent, content, **named)
        assert (await self.send(made["upload_url"], content)).status == 200
        return (await self.post(f"/v1/files/{made['id']}/complete", token=agent.token)).data

    async def status(self, agent):
        return (await self.get(f"/v1/agents/{agent.name}")).data["status"]

    async def until(self, condition: Callable[[], Awaitable[Any]]):
        """Wait until a condition holds; its value."""
        deadline = time.monotonic() + WAIT_S
        while True:
            value = await condition()
            if value:
                return value
            assert time.monotonic() < deadline, "the condition did not come true"
            await asyncio.sleep(0.01)

    async def close(self):
        for node in self._open:
            await node.close()


@pytest.fixture
async def open_world(tmp_path) -> AsyncIterator[Callable[..., Awaitable[World]]]:
    """`open_world(workspace="team", db="engine.db", **limits)` -> a workspace on an engine of its own."""
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(blockbuster_ctx("relaybroker.engine"))

        async def start(workspace="team", db="engine.db", clock=time.time, **limits):
            place = str(tmp_path / db)
            engine = await stack.enter_async_context(EmbeddedEngine(place, clock=clock, limits=Limits(**limits)))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            world = World(engine, session, [])
            stack.push_async_callback(world.close)
            if workspace:
                await world.workspace(workspace)
            return world

        yield start


@pytest.fixture
async def world(open_world):
    """A workspace on an engine with the contract's times."""
    return await open_world()
