"""A broker as a real process, with a PTY host of its own, against a small engine that plays one node's part of the contract."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import WSMsgType, web

from tests.waiting import WAIT_S

KEY = "rk_live_" + "0" * 32


class Engine:
    """One workspace, one node socket at a time; agents register and get what `deliver` sends."""

    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self.frames: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, str]] = []
        self.socket: web.WebSocketResponse | None = None
        self.workspace_id = "ws_test"
        self.key_status = 200
        self.workspaces_made = 0
        self.minted = 0
        self.agents: dict[str, str] = {}
        self.changed = asyncio.Event()
        self.deaf = asyncio.Event()
        """While it is clear the node socket reads nothing."""
        self.deaf.set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/node/ws", self._node)
        app.router.add_route("*", "/{rest:.*}", self._rest)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def deliver(self, agent: str, seq: int, text: str) -> None:
        agent_id = self.agents[agent]
        data = {"id": f"m{seq}", "agent_id": "1", "agent_name": "lead", "channel_name": "general", "text": text}
        assert self.socket is not None
        await self.socket.send_json(
            {
                "v": 1,
                "type": "deliver",
                "delivery_id": f"del_m{seq}_{agent_id}",
                "agent_id": agent_id,
                "agent": agent,
                "msg_id": f"m{seq}",
                "seq": seq,
                "mode": "wait",
                "payload": {"type": "message.created", "data": data},
            }
        )

    async def frame(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """The frames of one kind, as soon as there are this many."""
        async with asyncio.timeout(WAIT_S):
            while len(frames := [frame for frame in self.frames if frame["type"] == kind]) < count:
                self.changed.clear()
                await self.changed.wait()
        return frames

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        authorization = request.headers.get("Authorization", "")
        self.requests.append((request.method, request.path, authorization))
        match request.method, request.path:
            case "POST", "/v1/workspaces":
                self.workspaces_made += 1
                data = {"workspace_id": f"ws_made{self.workspaces_made}", "api_key": KEY}
                return web.json_response({"ok": True, "data": data}, status=201)
            case "GET", "/v1/workspace":
                if self.key_status != 200:
                    error = {"code": "unauthorized", "message": "no"}
                    return web.json_response({"ok": False, "error": error}, status=self.key_status)
                return web.json_response({"ok": True, "data": {"id": self.workspace_id, "name": "t"}})
            case "POST", "/v1/nodes":
                self.minted += 1
                body = await request.json()
                data = {"id": body["node_id"], "name": body["name"], "token": f"nt_live_{self.minted}"}
                return web.json_response({"ok": True, "data": data}, status=201)
            case "POST", "/v1/agents":
                body = await request.json()
                data = {"id": "900", "name": body["name"], "token": "at_live_own"}
                return web.json_response({"ok": True, "data": data}, status=201)
        return web.json_response({"ok": True, "data": {}})

    async def _node(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.socket = socket
        async for message in socket:
            await self.deaf.wait()
            if message.type != WSMsgType.TEXT:
                continue
            frame = json.loads(message.data)
            self.frames.append(frame)
            self.changed.set()
            await self._answer(socket, frame)
        return socket

    async def _answer(self, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        reply = {"v": 1, "type": "reply", "id": frame.get("id"), "ok": True, "data": {}}
        match frame["type"]:
            case "node.register" | "inventory.sync":
                await socket.send_json(reply)
            case "agent.register":
                name = frame["name"]
                agent_id = self.agents.setdefault(name, str(100 + len(self.agents)))
                data = {"agent_id": agent_id, "token": f"at_live_{agent_id}", "name": name, "delivery_ack_seq": 0}
                await socket.send_json(reply | {"data": data})


PROGRAM = """
import os
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from plain_surface import PlainSurface
from relaybroker.node.bootstrap import run
from relaybroker.config.settings import Flags, take_settings
sys.exit(run(take_settings(Flags.model_validate_json(sys.argv[2]), os.environ, Path.cwd()), PlainSurface))
"""


class BrokerProcess:
    """A broker in a process of its own. Its local API is `plain_surface.PlainSurface`."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self.process = process
        self.pid = process.pid
        self.directory = directory
        self.state = directory / ".agentworkforce" / "relay"
        self.lines: list[str] = []

    async def ready(self) -> dict[str, Any]:
        """The connection, as soon as the broker answers."""
        path = self.state / "connection.json"
        async with asyncio.timeout(WAIT_S):
            while not path.exists() or json.loads(path.read_text())["pid"] != self.pid:
                if self.process.poll() is not None:
                    raise AssertionError(f"the broker ended: {self.end()}")
                await asyncio.sleep(0.02)
        return dict(json.loads(path.read_text()))

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        import aiohttp

        connection = await self.ready()
        headers = {"X-API-Key": connection["api_key"]}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, connection["url"] + path, json=body) as response,
        ):
            return response.status, await response.json()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._close()

    def end(self, limit_s: float = WAIT_S) -> tuple[int, str, str]:
        """Exit status and output of a broker that ends by itself."""
        out, err = self.process.communicate(timeout=limit_s)
        return self.process.returncode, out, err

    async def stop(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.end)

    def _close(self) -> None:
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    played = Engine()
    await played.start()
    yield played
    await played.stop()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    return directory


@pytest.fixture
def start_broker(tmp_path: Path, home: Path) -> Iterator[Callable[..., BrokerProcess]]:
    """Starts brokers; at the end every process that they left is ended, by its pid."""
    started: list[BrokerProcess] = []

    def start(environment: dict[str, str] | None = None, cwd: Path | None = None, **flags: Any) -> BrokerProcess:
        directory = cwd or home
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), json.dumps(flags)],
            cwd=directory,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path / "home"),
                "XDG_DATA_HOME": str(tmp_path / "data"),
                "XDG_RUNTIME_DIR": str(tmp_path / "run"),
                "PYTHONPATH": str(Path(__file__).parents[3]),
                "RELAYBROKER_LOG": "debug",
                "LANG": "C.UTF-8",
            }
            | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        broker = BrokerProcess(process, directory)
        started.append(broker)
        return broker

    yield start
    for broker in started:
        if broker.process.poll() is None:
            broker.kill()
        broker._close()
        _end_leftovers(broker.state)


def _end_leftovers(state: Path) -> None:
    """End the PTY host and the embedded engine of a state directory."""
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if str(state) in words and ("host_main" in words or "relaybroker.engine" in words):
            for child in process.children(recursive=True):
                child.kill()
            process.kill()


@pytest.fixture
def agent_script(tmp_path: Path) -> Path:
    """A program that writes every line that it is given to a file."""
    path = tmp_path / "agent.py"
    path.write_text(
        textwrap.dedent(
            f"""\
            import os, sys
            with open({str(tmp_path / "environment.txt")!r}, "w") as file:
                file.write("\\n".join(f"{{k}}={{v}}" for k, v in os.environ.items()) + "\\n" + repr(sys.argv))
            print("ready> ", end="", flush=True)
            for line in sys.stdin:
                with open({str(tmp_path / "typed.txt")!r}, "a") as file:
                    file.write(line)
                print("ok\\nready> ", end="", flush=True)
            """
        )
    )
    return path
