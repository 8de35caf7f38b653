"""What agents that are connected over MCP cost: calls of their tools, memory of the broker for each, and the stdio bridge.

Fifty agents on a broker with its embedded engine, each with a connection of its own that stays open (`initialize`, `tools/list`); then all
of them use a tool, `WORKERS` at a time: `my_status`, which the broker answers alone, and `send_dm`, which is durable and published by the
engine before it is answered. Calls per second of one core: calls, by the CPU time of the broker process while they were made; engine, PTY
host, agents and this client are other processes. Memory: private pages of the broker process, after one agent's connection and after
fifty. The bridge: from the start of `relaybroker mcp` to its answer to `initialize`, and its private pages then.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil

from bench import brokers
from relaybroker.adapters.own_programs import own_program
from relaybroker.testing.live import LiveBroker

if TYPE_CHECKING:
    from bench.measures import Figures, Plan

AGENTS = 50
BRIDGES = 5
WORKERS = 8
"""Agents that wait for an answer at the same time."""


async def tools(name: str, plan: Plan) -> Figures:
    """Figures of relaybroker; none of the others, which have no such tools."""
    if name != brokers.OURS:
        return {}
    with tempfile.TemporaryDirectory() as place:
        broker = LiveBroker(Path(place))
        try:
            return await _measured(broker, plan)
        finally:
            await asyncio.to_thread(broker.close)


async def _measured(broker: LiveBroker, plan: Plan) -> Figures:
    await asyncio.to_thread(broker.start)
    process = psutil.Process(json.loads((broker.state_dir / "connection.json").read_text())["pid"])
    agents = [_Agent(f"a{number}", await asyncio.to_thread(_spawned, broker, f"a{number}")) for number in range(AGENTS)]
    try:
        await agents[0].connect()
        one = process.memory_full_info().uss
        for agent in agents[1:]:
            await agent.connect()
        every = process.memory_full_info().uss
        return {
            "tool_agents": AGENTS,
            "tool_looks_per_core_s": await _rate(process, agents, plan.tool_calls, lambda _to: ("my_status", {})),
            "tool_sends_per_core_s": await _rate(
                process, agents, plan.tool_calls // 4, lambda to: ("send_dm", {"to": to, "text": "a line of text"})
            ),
            "tool_memory_per_agent": round((every - one) / (AGENTS - 1) / 2**20, 3),
            **await asyncio.to_thread(_bridges, agents[0].environment),
        }
    finally:
        await asyncio.gather(*(agent.close() for agent in agents))


def _spawned(broker: LiveBroker, name: str) -> dict[str, str]:
    """The environment of an agent that runs now."""
    pid = broker.api("POST", "/api/spawn", {"name": name, "cli": "cat"})["pid"]
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.partition("=")[::2] for pair in pairs if pair)


class _Agent:
    """An MCP client over HTTP with the agent's own token and a connection that stays open."""

    def __init__(self, name: str, environment: dict[str, str]) -> None:
        self.name, self.environment = name, environment
        self._number = 0
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=600))

    async def connect(self) -> None:
        """As a program does when it starts."""
        client = {"capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        await self.ask("initialize", {"protocolVersion": "2025-11-25", **client})
        await self.ask("tools/list", {})

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """The result of one request."""
        self._number += 1
        body = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        headers = {"Authorization": f"Bearer {self.environment['RELAY_AGENT_TOKEN']}"}
        url = f"{self.environment['RELAYBROKER_URL']}/mcp"
        async with self._session.post(url, json=body, headers=headers) as response:
            return (await response.json())["result"]

    async def use(self, tool: str, arguments: dict[str, Any]) -> None:
        """Use a tool that must do it."""
        result = await self.ask("tools/call", {"name": tool, "arguments": arguments})
        if result["isError"]:
            raise RuntimeError(f"{tool}: {result['content']}")

    async def close(self) -> None:
        """End the connection."""
        await self._session.close()


async def _rate(process: psutil.Process, agents: list[_Agent], calls: int, call: Any) -> float:
    """Calls by the seconds of CPU that the broker process spent on them."""
    left = iter(range(calls))

    async def work() -> None:
        for number in left:
            agent, other = agents[number % AGENTS], agents[(number + 1) % AGENTS]
            await agent.use(*call(other.name))

    before = process.cpu_times()
    await asyncio.gather(*(work() for _ in range(WORKERS)))
    after = process.cpu_times()
    return round(calls / (after.user + after.system - before.user - before.system), 1)


def _bridges(environment: dict[str, str]) -> Figures:
    answers = [_bridge(environment) for _ in range(BRIDGES)]
    return {
        "bridge_answer_s": round(statistics.median(seconds for seconds, _ in answers), 3),
        "bridge_private": round(max(private for _, private in answers), 1),
    }


def _bridge(environment: dict[str, str]) -> tuple[float, float]:
    """Seconds to the first answer, and MiB of private memory then."""
    request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}}
    request["params"] |= {"capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}  # type: ignore[operator]
    began = time.monotonic()
    with subprocess.Popen(
        own_program("relaybroker", "mcp"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        seconds = time.monotonic() - began
        private = psutil.Process(process.pid).memory_full_info().uss / 2**20
        process.stdin.close()
    assert "result" in answer, answer
    return seconds, private
