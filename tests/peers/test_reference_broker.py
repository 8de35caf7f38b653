"""The reference broker, a program that this project did not write, works against the embedded engine unmodified.

Source: spec/engine-contract.md sections 12.3 and 12.4.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import psutil
import pytest

from relaybroker.engine.server import EmbeddedEngine
from tests.forking import forker
from tests.waiting import WAIT_S

pytestmark = pytest.mark.peers
MCP_SERVER = """
import json, sys
TOOLS = ("send_dm", "post_message", "reply_to_thread", "check_inbox", "list_agents", "get_messages")
for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked:
        version = asked.get("params", {}).get("protocolVersion", "")
        result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "none", "version": "1"}}
        result["tools"] = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""
"""Without one that answers, the reference broker starts no agent for the engine."""
KEY = "br_0123456789abcdef0123456789abcdef"
READY_S = 45.0
NOTE_TAKER = Path(__file__).parents[1] / "e2e" / "agents" / "note_taker.py"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Reference:
    """One broker and the engine that it uses."""

    def __init__(self, engine: str, session: aiohttp.ClientSession, port: int, key: str) -> None:
        self.engine, self.session, self.port, self.key = engine, session, port, key
        self.environment: dict[str, str] = {}

    async def local(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.session.request(method, url, json=body, headers={"X-API-Key": KEY}) as response:
            return response.status, await response.json(content_type=None)

    async def at_engine(self, method: str, path: str, token: str, body: object = None) -> dict:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.session.request(method, self.engine + path, json=body, headers=headers) as response:
            answer = await response.json()
        assert answer["ok"], answer
        return answer["data"]

    async def until(self, ask, holds, what: str, limit_s: float = READY_S):
        deadline = time.monotonic() + limit_s
        while True:
            try:
                answer = await ask()
                if holds(answer):
                    return answer
            except (aiohttp.ClientError, OSError, ValueError, AssertionError) as error:
                answer = error
            assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {what}; last: {answer!r}"
            await asyncio.sleep(0.1)


@pytest.fixture(params=["9.1.6", "12.4.1"])
async def reference(request, npm_package, plain_environment, tmp_path):
    """A published broker on an engine of ours, online. Programs called `gemini` and `goose` are in its PATH."""
    package = await asyncio.to_thread(npm_package, "@agent-relay/broker-linux-x64", request.param)
    binary = package / "node_modules" / "@agent-relay" / "broker-linux-x64" / "bin" / "agent-relay-broker"
    binary.chmod(0o755)
    async with EmbeddedEngine(str(tmp_path / "engine.db")) as engine, aiohttp.ClientSession() as session:
        async with session.post(f"{engine.base_url}/v1/workspaces", json={"name": "peers"}) as response:
            key = (await response.json())["data"]["api_key"]
        made = Reference(engine.base_url, session, _free_port(), key)
        made.environment = plain_environment | {
            "PATH": f"{_programs(tmp_path)}:{plain_environment['PATH']}",
            "RELAYCAST_BASE_URL": engine.base_url,
            "RELAY_BASE_URL": engine.base_url,
            "RELAY_BROKER_API_KEY": KEY,
            "RELAY_WORKSPACE_KEY": key,
            "AGENT_RELAY_MCP_COMMAND": str(tmp_path / "bin" / "tools"),
        }
        process = _start(binary, made.port, tmp_path, made.environment)
        try:
            await made.until(
                lambda: made.local("GET", "/api/session"), lambda reply: reply[0] == 200, "the reference broker is up"
            )
            await made.until(
                lambda: made.at_engine("GET", "/v1/nodes", key),
                lambda nodes: any(node["role"] == "broker" and node["live"] for node in nodes),
                "its node is online",
            )
            yield made
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(process.wait, 15)
            except subprocess.TimeoutExpired:
                process.kill()


def _programs(folder: Path) -> Path:
    """A directory with programs that note what they get."""
    place = folder / "bin"
    place.mkdir()
    for name in ("gemini", "goose"):
        program = place / name
        program.write_text(f"#!/bin/sh\nexec {sys.executable} {NOTE_TAKER} {folder}/$RELAY_AGENT_NAME.notes\n")
        program.chmod(0o755)
    tools = place / "tools"
    tools.write_text(f"#!{sys.executable}\n{MCP_SERVER}")
    tools.chmod(0o755)
    return place


def _start(binary: Path, port: int, folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with (folder / "reference.log").open("wb") as log:
        return subprocess.Popen(
            [
                str(binary),
                "init",
                "--instance-name",
                "probe",
                "--api-port",
                str(port),
                "--state-dir",
                str(folder / "state"),
            ],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


async def test_the_reference_broker_spawns_receives_and_acknowledges(reference):
    status, answer = await reference.local("POST", "/api/spawn", {"name": "worker1", "cli": "cat"})
    assert status == 200, answer
    planner = await reference.at_engine("POST", "/v1/agents", reference.key, {"name": "planner"})
    sent = await reference.at_engine("POST", "/v1/dm", planner["token"], {"to": "worker1", "text": "hello reference"})
    readers = await reference.until(
        lambda: reference.at_engine("GET", f"/v1/messages/{sent['id']}/readers", reference.key),
        lambda rows: any(row["agent_name"] == "worker1" for row in rows),
        "the delivery is acknowledged",
    )
    assert [row["agent_name"] for row in readers] == ["worker1"]


@pytest.fixture
async def ours(reference, tmp_path):
    """Our broker in the same workspace: the engine may place `goose` on it. Answers like `reference.local`."""
    folder = tmp_path / "ours"
    folder.mkdir()
    for place in ("data", "log", "run"):
        (folder / place).mkdir(mode=0o700)
    environment = reference.environment | {
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_STATE_HOME": str(folder / "log"),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "RELAYBROKER_CAPABILITIES": "goose",
    }
    command = ["relaybroker", "up", "--state-dir", str(folder / "state"), "--name", "ours"]
    with (folder / "broker.out").open("wb") as output:
        process = forker().start(command, env=environment, cwd=folder, output=output.fileno())
    try:
        live = await reference.until(
            lambda: reference.at_engine("GET", "/v1/nodes", reference.key),
            lambda nodes: [node["name"] for node in nodes if node["role"] == "broker" and node["live"]],
            "ours is online",
        )
        assert live
        await reference.until(
            lambda: asyncio.to_thread((folder / "state" / "connection.json").read_text), bool, "it listens"
        )
        connection = json.loads((folder / "state" / "connection.json").read_text())
        yield Reference(reference.engine, reference.session, connection["port"], reference.key)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, WAIT_S)
        for process in psutil.process_iter(["cmdline"]):
            if str(folder) in " ".join(process.info["cmdline"] or ()):
                process.kill()


async def test_both_brokers_serve_one_workspace(reference, ours, tmp_path):
    """Messages each way; the engine places a spawn and a release on ours, and on the other where that offers any."""
    for broker, name in ((reference, "theirs"), (ours, "mine")):
        notes = shlex.join([sys.executable, str(NOTE_TAKER), str(tmp_path / f"{name}.notes")])
        status, answer = await broker.local("POST", "/api/spawn", {"name": name, "cli": notes})
        assert status == 200, answer
    for broker, sender, to in ((ours, "mine", "theirs"), (reference, "theirs", "mine")):
        status, answer = await broker.local("POST", "/api/send", {"to": to, "text": f"from {sender}", "from": sender})
        assert status == 200, answer
        await _noted(ours, tmp_path / f"{to}.notes", f"from {sender}")

    planner = await ours.at_engine("POST", "/v1/agents", ours.key, {"name": "planner"})
    await _placed_and_released(ours, planner["token"], "goose", tmp_path / "by-goose.notes")
    if await _offers(ours, "spawn:gemini"):
        await _placed_and_released(ours, planner["token"], "gemini", tmp_path / "by-gemini.notes")


async def _placed_and_released(broker, token, cli, notes):
    """The engine chooses the node that offers this program."""
    name = notes.stem
    assert await broker.at_engine("POST", "/v1/agents/spawn", token, {"name": name, "cli": cli, "task": "begin"})
    await broker.until(lambda: broker.at_engine("GET", f"/v1/agents/{name}", broker.key), bool, f"{name} is registered")
    await broker.until(lambda: asyncio.to_thread(_running, str(notes)), bool, f"{name} runs", WAIT_S)
    await broker.at_engine("POST", "/v1/agents/release", token, {"name": name})
    await broker.until(
        lambda: asyncio.to_thread(_running, str(notes)), lambda pids: not pids, f"{name} has ended", WAIT_S
    )


async def _offers(broker, capability):
    nodes = await broker.at_engine("GET", "/v1/nodes", broker.key)
    return any(offered["name"] == capability for node in nodes for offered in node["capabilities"])


async def _noted(broker, notes, text):
    await broker.until(
        lambda: asyncio.to_thread(notes.read_text),
        lambda content: text in content,
        f"{text!r} in {notes.name}",
        WAIT_S,
    )


def _running(word):
    return [
        process.pid for process in psutil.process_iter(["cmdline"]) if word in " ".join(process.info["cmdline"] or ())
    ]
