"""A scripted engine: accepts one broker, gives its agents ids, sends exactly the frames that it is told to, notes every answer.

It does no work of its own between a frame and its acknowledgement, so that what is measured is the broker.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from types import TracebackType
from typing import Any, Self

from aiohttp import WSMsgType, web


class ScriptedEngine:
    """`async with ScriptedEngine() as engine:`; `engine.url` is where brokers find it."""

    def __init__(self) -> None:
        self.key = "rk_live_" + "0" * 32
        self.frames: list[dict[str, Any]] = []
        self.agents: dict[str, str] = {}
        self.acked: dict[str, int] = {}
        self.ack_times: dict[tuple[str, int], int] = {}
        self.registered_at = 0
        self._serial = itertools.count(100)
        self._socket: web.WebSocketResponse | None = None
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/v1/workspace", self._workspace)
        app.router.add_post("/v1/nodes", self._nodes)
        app.router.add_get("/v1/node/ws", self._serve)
        app.router.add_route("*", "/{rest:.*}", self._anything)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            await self._socket.close()
        await self._runner.cleanup()

    async def _workspace(self, _request: web.Request) -> web.Response:
        return web.json_response({"ok": True, "data": {"id": "900", "name": "bench"}})

    async def _nodes(self, request: web.Request) -> web.Response:
        body = await request.json()
        data = {"id": body["node_id"], "name": body["name"], "token": "nt_live_" + "0" * 48}
        return web.json_response({"ok": True, "data": data}, status=201)

    async def _anything(self, request: web.Request) -> web.Response:
        data = {"id": str(next(self._serial)), "token": "at_live_" + "0" * 32, "name": request.path}
        return web.json_response({"ok": True, "data": data}, status=201)

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        self._socket = socket
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await self._answer(socket, json.loads(message.data))
        return socket

    async def _answer(self, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        now = time.monotonic_ns()
        match frame["type"]:
            case "delivery.ack":
                name, upto = frame["agent"], frame["up_to_seq"]
                for seq in range(self.acked.get(name, 0) + 1, upto + 1):
                    self.ack_times[name, seq] = now
                self.acked[name] = max(upto, self.acked.get(name, 0))
            case "agent.register":
                agent_id = self.agents.setdefault(frame["name"], str(next(self._serial)))
                await self._reply(
                    socket, frame, {"agent_id": agent_id, "token": "at_live_" + "1" * 32, "name": frame["name"]}
                )
            case "node.register":
                self.registered_at = self.registered_at or now
                await self._reply(socket, frame, {"id": frame["node_id"], "name": frame["name"]})
            case "inventory.sync":
                await self._reply(socket, frame, {"rebound_agents": 0})
            case _:
                pass
        self.frames.append(frame)
        async with self._changed:
            self._changed.notify_all()

    @staticmethod
    async def _reply(socket: web.WebSocketResponse, frame: dict[str, Any], data: dict[str, Any]) -> None:
        await socket.send_json({"v": 1, "id": frame["id"], "type": "reply", "ok": True, "data": data})

    def frame(self, name: str, seq: int, msg_id: str, text: str) -> str:
        """A `deliver` frame for an agent."""
        agent_id = self.agents[name]
        data = {"id": msg_id, "agent_id": "55", "agent_name": "alice", "text": text, "channel_name": "general"}
        return json.dumps(
            {
                "v": 1,
                "type": "deliver",
                "delivery_id": f"del_{msg_id}_{agent_id}",
                "agent_id": agent_id,
                "agent": name,
                "msg_id": msg_id,
                "seq": seq,
                "mode": "wait",
                "payload": {"type": "message.created", "data": data},
            }
        )

    async def send(self, text: str) -> int:
        """Send one text message; the monotonic nanosecond just before."""
        assert self._socket is not None
        now = time.monotonic_ns()
        await self._socket.send_str(text)
        return now

    async def send_bytes(self, data: bytes) -> None:
        """Send one binary message."""
        assert self._socket is not None
        await self._socket.send_bytes(data)

    async def until_acked(self, name: str, seq: int, limit_s: float = 30.0) -> None:
        """Wait until the broker acknowledged this number."""
        async with asyncio.timeout(limit_s), self._changed:
            await self._changed.wait_for(lambda: self.acked.get(name, 0) >= seq)

    async def until_registered(self, limit_s: float = 30.0) -> None:
        """Wait until the node has registered and said its first heartbeat."""
        async with asyncio.timeout(limit_s), self._changed:
            await self._changed.wait_for(lambda: any(frame["type"] == "node.heartbeat" for frame in self.frames))
