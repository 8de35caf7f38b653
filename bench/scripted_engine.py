"""A scripted engine: accepts one broker of any version, sends exactly the messages that it is told to, notes every acknowledgement.

It answers what brokers ask on their way up and when they spawn, with as little state as that takes: names keep their agent id, a
message that is not acknowledged is offered again after a registration or an inventory. It does nothing of its own between a frame and
its acknowledgement, so that what is measured is the broker.

Source: spec/engine-contract.md sections 2.2, 2.3, 6, 7.4, 12.3 and 12.4.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import defaultdict
from typing import Any, Self

from aiohttp import WSMsgType, web

CREATED = "2025-06-01T00:00:00.000Z"
Json = dict[str, Any]


class ScriptedEngine:
    """`async with ScriptedEngine() as engine:`; `engine.url` is where brokers find it."""

    def __init__(self) -> None:
        self.url = ""
        self.key = "rk_live_" + "0" * 32
        self.acked: dict[str, int] = defaultdict(int)
        """Agent name -> highest acknowledged number."""
        self.ack_times: dict[tuple[str, int], int] = {}
        """(agent name, number) -> monotonic nanosecond at which it was covered by an acknowledgement."""
        self.registered_at = 0
        """Monotonic nanosecond of the last `node.register`; 0 = none since `forget_registration`."""
        self._agents: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        self._channels: dict[str, set[str]] = defaultdict(set)
        self._mail: dict[str, list[str]] = defaultdict(list)
        self._serial = itertools.count(100)
        self._socket: web.WebSocketResponse | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/v1/node/ws", self._serve)
        app.router.add_route("*", "/{rest:.*}", self._rest)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            await self._socket.close()
        await self._runner.cleanup()

    # --- messages -----------------------------------------------------------------------------------------------------

    def post(self, name: str, mark: int, text: str) -> tuple[int, str]:
        """Write a message for an agent; its number and the frame to `send`."""
        mail, agent_id, msg_id = self._mail[name], self._agents[name], f"M{mark}"
        data = {"id": msg_id, "agent_id": "55", "agent_name": "alice", "from_name": "alice", "text": text}
        frame = json.dumps(
            {
                "v": 1,
                "type": "deliver",
                "delivery_id": f"del_{msg_id}_{agent_id}",
                "agent_id": agent_id,
                "agent": name,
                "msg_id": msg_id,
                "seq": len(mail) + 1,
                "mode": "wait",
                "payload": {"type": "message.created", "data": data | {"channel_name": "general"}},
            }
        )
        mail.append(frame)
        return len(mail), frame

    async def send(self, frame: str) -> int:
        """Send a frame; the monotonic nanosecond just before."""
        assert self._socket is not None
        now = time.monotonic_ns()
        await self._socket.send_str(frame)
        return now

    async def _offer_again(self, names: list[str]) -> None:
        assert self._socket is not None
        for name in names:
            for frame in self._mail[name][self.acked[name] :]:
                await self._socket.send_str(frame)

    # --- the node socket ----------------------------------------------------------------------------------------------

    def forget_registration(self) -> None:
        """The next broker is a new one."""
        self.registered_at = 0

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0, compress=False)
        await socket.prepare(request)
        self._socket = socket
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await self._take(socket, json.loads(message.data))
        return socket

    async def _take(self, socket: web.WebSocketResponse, frame: Json) -> None:
        now = time.monotonic_ns()
        again: list[str] = []
        match frame["type"]:
            case "delivery.ack":
                name, upto = frame["agent"], frame["up_to_seq"]
                for seq in range(self.acked[name] + 1, upto + 1):
                    self.ack_times[name, seq] = now
                self.acked[name] = max(upto, self.acked[name])
                return
            case "agent.register":
                data: Json = self._agent(frame["name"])
                again = [frame["name"]]
            case "node.register":
                self.registered_at = now
                data = _node(frame["node_id"], frame["name"])
            case "inventory.sync":
                again = [row["name"] for row in frame["agents"] if row["name"] in self._agents]
                data = {"rebound_agents": len(frame["agents"]), "open_invocations": []}
                data |= {"completed_invocations": [], "rescheduled_invocations": []}
            case "agent.deregister" if frame.get("id"):
                data = {"agent_id": frame.get("agent_id"), "name": frame.get("name"), "deregistered": True}
            case _:
                return
        await socket.send_json({"v": 1, "id": frame.get("id") or "unasked", "type": "reply", "ok": True, "data": data})
        await self._offer_again(again)

    def _agent(self, name: str) -> Json:
        """An agent by name, made when it is new: its id stays, its token is another each time."""
        agent_id = self._agents.setdefault(name, str(next(self._serial)))
        token = f"at_live_{next(self._serial):032x}"
        self._tokens[token] = name
        return {"agent_id": agent_id, "token": token, "name": name}

    # --- REST ---------------------------------------------------------------------------------------------------------

    async def _rest(self, request: web.Request) -> web.Response:
        text = await request.text()
        body = json.loads(text) if text else {}
        caller = self._tokens.get(request.headers.get("Authorization", "").removeprefix("Bearer "), "")
        match request.method, request.path.strip("/").split("/")[1:]:
            case "GET", ["workspace"]:
                return _ok({"id": "900", "name": "bench", "plan": "free", "created_at": CREATED, "metadata": {}}, 200)
            case "POST", ["nodes"]:
                return _ok(_node(body["node_id"], body["name"]) | {"token": "nt_live_" + "0" * 48})
            case "POST", ["agents"]:
                made = self._agent(body["name"])
                return _ok(self._shown(body["name"]) | {"token": made["token"], "status": "online"})
            case "POST", ["agents", "release"]:
                return _ok({"invocation_id": "inv_1", "action_name": "release", "status": "completed", "input": body})
            case "POST", ["nodes", node, "agents"]:
                return _ok(_binding(self._agents[body["agent_name"]], body["agent_name"], node))
            case "GET", ["agent"]:
                return _ok(self._shown(caller), 200)
            case "GET" | "PATCH", ["agents", name] if name in self._agents:
                return _ok(self._shown(name), 200)
            case "GET", ["channels", channel, "members"]:
                names = [name for name, channels in self._channels.items() if channel in channels]
                return _ok([_member(self._agents[name], name) for name in names], 200)
            case "POST", ["channels", channel, "join"]:
                self._channels[caller].add(channel)
                return _ok({"channel": channel, "agent_id": self._agents[caller], "already_member": False}, 200)
            case "POST", ["channels"]:
                return _ok(body | {"id": "1", "member_count": 1, "created_by": "1", "created_at": CREATED})
            case "POST", _:
                return _ok({"id": str(next(self._serial))})
            case _:
                error = {"code": "not_found", "message": "not found"}
                return web.json_response({"ok": False, "error": error}, status=404)

    def _shown(self, name: str) -> Json:
        agent_id = self._agents[name]
        channels = [
            {"id": channel, "name": channel, "role": "member", "joined_at": CREATED} for channel in self._channels[name]
        ]
        return {
            "id": agent_id, "agent_id": agent_id, "workspace_id": "900", "name": name, "handle": f"@{name}", "type": "agent",
            "status": "active", "persona": None, "capabilities": None, "metadata": {}, "channels": channels,
            "created_at": CREATED, "last_seen": CREATED, "pending_deliveries": [],
        }  # fmt: skip


def _node(node_id: str, name: str) -> Json:
    return {
        "id": node_id, "name": name, "kind": "ws", "role": "broker", "delivery_adapter": "ws.node.v1", "delivery": None,
        "capabilities": [], "tags": [], "version": "1", "status": "online", "live": True, "handlers_live": True, "load": 0,
        "active_agents": 0, "max_agents": 0, "last_heartbeat_at": None, "created_at": CREATED,
    }  # fmt: skip


def _binding(agent_id: str, name: str, node: str) -> Json:
    return {
        "id": "anb_1", "agent_id": agent_id, "agent_name": name, "node_id": node, "node_name": node, "node_kind": "ws",
        "node_role": "broker", "status": "active", "session_ref": None, "priority": 0, "created_at": CREATED,
        "updated_at": CREATED,
    }  # fmt: skip


def _member(agent_id: str, name: str) -> Json:
    return {"agent_id": agent_id, "agent_name": name, "role": "member", "joined_at": CREATED, "is_muted": False}


def _ok(data: Any, status: int = 201) -> web.Response:
    return web.json_response({"ok": True, "data": data}, status=status)
