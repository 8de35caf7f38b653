"""The reference broker, a program that this project did not write, works against the embedded engine unmodified.

Source: spec/engine-contract.md sections 12.3 and 12.4.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import time
from pathlib import Path

import aiohttp
import pytest

from relaybroker.engine.server import EmbeddedEngine

pytestmark = pytest.mark.peers
KEY = "br_0123456789abcdef0123456789abcdef"
READY_S = 45.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Reference:
    """One reference broker process and the engine that it uses."""

    def __init__(self, engine: str, session: aiohttp.ClientSession, port: int) -> None:
        self.engine, self.session, self.port = engine, session, port

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
            except (aiohttp.ClientError, ValueError, AssertionError) as error:
                answer = error
            assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {what}; last: {answer!r}"
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("version", ["9.1.6", "12.4.1"])
async def test_the_reference_broker_comes_up_spawns_receives_and_acknowledges(
    npm_package, plain_environment, tmp_path, version
):
    package = await asyncio.to_thread(npm_package, "@agent-relay/broker-linux-x64", version)
    binary = package / "node_modules" / "@agent-relay" / "broker-linux-x64" / "bin" / "agent-relay-broker"
    binary.chmod(0o755)
    engine_file = str(tmp_path / "engine.db")
    port = _free_port()
    async with EmbeddedEngine(engine_file) as engine, aiohttp.ClientSession() as session:
        reference = Reference(engine.base_url, session, port)
        async with session.post(f"{engine.base_url}/v1/workspaces", json={"name": "peers"}) as response:
            key = (await response.json())["data"]["api_key"]
        environment = plain_environment | {
            "RELAYCAST_BASE_URL": engine.base_url,
            "RELAY_BASE_URL": engine.base_url,
            "RELAY_BROKER_API_KEY": KEY,
            "RELAY_WORKSPACE_KEY": key,
        }
        process = _start(binary, port, tmp_path, environment)
        try:
            await _story(reference, key)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(process.wait, 15)
            except subprocess.TimeoutExpired:
                process.kill()


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


async def _story(reference: Reference, key: str) -> None:
    status, _ = await reference.until(
        lambda: reference.local("GET", "/api/session"), lambda reply: reply[0] == 200, "the reference broker is up"
    )
    assert status == 200
    await reference.until(
        lambda: reference.at_engine("GET", "/v1/nodes", key),
        lambda nodes: any(node["role"] == "broker" and node["live"] for node in nodes),
        "its node is online",
    )
    status, answer = await reference.local("POST", "/api/spawn", {"name": "worker1", "cli": "cat"})
    assert status == 200, answer
    planner = await reference.at_engine("POST", "/v1/agents", key, {"name": "planner"})
    sent = await reference.at_engine("POST", "/v1/dm", planner["token"], {"to": "worker1", "text": "hello reference"})
    readers = await reference.until(
        lambda: reference.at_engine("GET", f"/v1/messages/{sent['id']}/readers", key),
        lambda rows: any(row["agent_name"] == "worker1" for row in rows),
        "the delivery is acknowledged",
    )
    assert [row["agent_name"] for row in readers] == ["worker1"]
