"""The embedded engine as a process of its own, killed and started again on one database."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys

import aiohttp
import pytest

from tests.waiting import WAIT_S


class EngineProcess:
    """An engine on one database file and, from the second start on, one port."""

    def __init__(self, folder):
        self.db = folder / "engine.db"
        self.ready_file = folder / "ready.json"
        self.log = folder / "engine.log"
        self.port = 0
        self.process = None
        self.line = ""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def start(self):
        self.ready_file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-W", "error", "-m", "relaybroker.engine", "--db", str(self.db), "--port", str(self.port),
                "--ready-file", str(self.ready_file), stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        async with asyncio.timeout(WAIT_S):
            self.line = (await self.process.stdout.readline()).decode()
        assert self.line, self.log.read_text()
        self.port = json.loads(self.ready_file.read_text())["port"]

    async def kill(self):
        self.process.kill()
        await self.process.communicate()

    async def stop(self):
        """SIGTERM; what else it printed."""
        self.process.send_signal(signal.SIGTERM)
        rest, _ = await self.process.communicate()
        return rest


class Client:
    """REST and node sockets of one workspace."""

    def __init__(self, engine, session):
        self.engine = engine
        self.session = session
        self.key = ""

    async def call(self, method, path, body=None, *, token=None, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token != "":
            named["Authorization"] = f"Bearer {token or self.key}"
        given = {} if body is None else {"json": body}
        async with self.session.request(method, self.engine.url + path, headers=named, **given) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None, dict(answer.headers)

    async def data(self, method, path, body=None, **more):
        status, answer, _ = await self.call(method, path, body, **more)
        assert status in (200, 201), answer
        return answer["data"]

    async def post(self, path, body=None, **more):
        return await self.data("POST", path, body, **more)

    async def get(self, path, **more):
        return await self.data("GET", path, **more)

    async def workspace(self):
        self.key = (await self.post("/v1/workspaces", {"name": "team"}, token=""))["api_key"]

    @contextlib.asynccontextmanager
    async def node(self, token):
        """The socket of a node; `ask` sends a frame and gives its reply, all other frames are kept in `frames`."""
        headers = {"Authorization": f"Bearer {token}"}
        async with self.session.ws_connect(f"{self.engine.url}/v1/node/ws", headers=headers) as socket:
            yield Socket(socket)


class Socket:
    def __init__(self, socket):
        self.socket = socket
        self.frames = []

    async def send(self, **frame):
        await self.socket.send_json({"v": 1} | frame)

    async def receive(self):
        async with asyncio.timeout(WAIT_S):
            return await self.socket.receive_json()

    async def ask(self, **frame):
        await self.send(id="ask", **frame)
        while True:
            received = await self.receive()
            if received.get("id") == "ask":
                assert received["ok"], received
                return received["data"]
            self.frames.append(received)

    async def register(self, name, node_id, capabilities=()):
        return await self.ask(
            type="node.register", name=name, node_id=node_id, max_agents=0, tags=[], version="test",
            capabilities=[{"name": item} for item in capabilities],
        )  # fmt: skip

    async def settle(self):
        await self.ask(type="agent.deregister", agent_id="1")
        return self.frames


@pytest.fixture
async def engine(tmp_path):
    """`await engine.start()`, `.kill()`, `.stop()`; killed after the test."""
    process = EngineProcess(tmp_path)
    yield process
    if process.process is not None and process.process.returncode is None:
        os.kill(process.process.pid, signal.SIGKILL)
        await process.process.communicate()


@pytest.fixture
async def client(engine):
    """A client with a workspace on the running engine."""
    await engine.start()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=False)) as session:
        made = Client(engine, session)
        await made.workspace()
        yield made
