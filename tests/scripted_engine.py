"""An engine that does what a test tells it: a small real server with the node socket and the REST routes that a broker uses.

By default it is a fair one: it enrols, accepts, registers, answers inventories, and keeps one agent id for each name. A test changes single
answers (`answers`, `routes`, `handshakes`), sends frames of its own, drops the socket, or stops reading and writing without a word.
Brokers of any make can be run under it: what it answers has every field that the contract names. `make bench` adds mail to it
(`bench/mail.py`).

Source: spec/node-protocol.md appendix A; spec/engine-contract.md sections 2, 6 to 8, 12.3 and 12.4.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Self

from aiohttp import WSMsgType, web

from tests.waiting import WAIT_S

KEY = "rk_live_" + "0" * 32
WORKSPACE = "900"
CREATED = "2025-06-01T00:00:00.000Z"
Frame = dict[str, Any]
Answer = Frame | None


class Heard(NamedTuple):
    """A frame of the broker: when it came (monotonic seconds) and on which connection (from 1)."""

    at: float
    connection: int
    frame: Frame


class Asked(NamedTuple):
    """A REST request of the broker."""

    at: float
    method: str
    path: str
    body: Any
    token: str
    key: str
    """Idempotency key, or ""."""


class ScriptedEngine:
    """`async with ScriptedEngine() as engine:`; brokers find it at `engine.url` with the workspace key `KEY`."""

    def __init__(self) -> None:
        self.url = ""
        self.heard: list[Heard] = []
        self.asked: list[Asked] = []
        self.dials: list[float] = []
        self.handshakes: list[int] = []
        """Statuses for the next dials; when it is empty every dial is accepted."""
        self.answers: dict[str, Callable[[Frame], Answer]] = {}
        """Frame type -> what is answered in place of the fair answer; None = nothing."""
        self.routes: dict[str, Callable[[Asked], tuple[int, Any] | Awaitable[tuple[int, Any]]]] = {}
        """`METHOD /path` (a regular expression) -> status and data, or an error `{"code": ...}` for a status from 400 on, now or later."""
        self.agents: dict[str, str] = {}
        self.node_id = ""
        self._offline: set[str] = set()
        self._serial = itertools.count(100)
        self._channels: dict[str, set[str]] = defaultdict(set)
        self.given: dict[str, str] = {}
        """Every token given out -> name of the agent, "" for the node's."""
        self._socket: web.WebSocketResponse | None = None
        self._changed = asyncio.Condition()
        self._frozen = False
        self._hung: set[asyncio.Event] = set()

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
        self.thaw()
        if self._socket is not None:
            await self._socket.close()
        await self._runner.cleanup()

    # --- what a test does ---------------------------------------------------------------------------------------------------

    async def send(self, **frame: Any) -> None:
        """Send a frame; `v` is 1 unless it is given."""
        await self.send_text(json.dumps({"v": 1} | frame))

    async def send_text(self, text: str) -> None:
        """Send one text message as it is."""
        assert self._socket is not None
        await self._socket.send_str(text)

    async def send_bytes(self, data: bytes) -> None:
        """Send one binary message."""
        assert self._socket is not None
        await self._socket.send_bytes(data)

    def delivery(self, agent: str, seq: int, text: str = "hi", *, msg_id: str = "", **changes: Any) -> Frame:
        """The frame of a message for an agent. A changed key with the value `...` is left out."""
        agent_id, msg_id = self.agents[agent], msg_id or f"M{seq}"
        data = {"id": msg_id, "agent_id": "55", "agent_name": "alice", "text": text, "channel_name": "general"}
        frame = {
            "v": 1,
            "type": "deliver",
            "agent": agent,
            "agent_id": agent_id,
            "delivery_id": f"del_{msg_id}_{agent_id}",
            "msg_id": msg_id,
            "seq": seq,
            "mode": "wait",
            "payload": {"type": "message.created", "data": data},
        } | changes
        return {key: value for key, value in frame.items() if value is not ...}

    async def deliver(self, agent: str, seq: int, text: str = "hi", *, msg_id: str = "", **changes: Any) -> None:
        """Send a message for an agent; see `delivery`."""
        await self.send(**self.delivery(agent, seq, text, msg_id=msg_id, **changes))

    async def invoke(self, invocation_id: str, action: str, given: Any = None) -> None:
        """Ask for work."""
        await self.send(
            type="action.invoke", invocation_id=invocation_id, action=action, input={} if given is None else given
        )

    async def drop(self, code: int = 1001, reason: str = "") -> None:
        """Close the socket."""
        assert self._socket is not None
        await self._socket.close(code=code, message=reason.encode())

    def freeze(self) -> None:
        """From now on accept everything and read, write and answer nothing; sockets stay open."""
        self._frozen = True

    def thaw(self) -> None:
        """Go on. What was asked meanwhile stays unanswered."""
        self._frozen = False
        for event in self._hung:
            event.set()

    def frames(self, kind: str, *, connection: int = 0, **fields: Any) -> list[Frame]:
        """The frames of a type that the broker has sent so far."""
        return [
            heard.frame
            for heard in self.heard
            if heard.frame["type"] == kind
            and connection in (0, heard.connection)
            and all(heard.frame.get(key) == value for key, value in fields.items())
        ]

    def requests(self, method: str, path: str) -> list[Asked]:
        """The REST requests whose path matches (a regular expression)."""
        return [asked for asked in self.asked if asked.method == method and re.fullmatch(path, asked.path)]

    async def until(self, holds: Callable[[], Any], limit_s: float = WAIT_S, what: str = "") -> Any:
        """Wait until something holds that frames, requests or dials bring about; what it returned."""
        try:
            async with asyncio.timeout(limit_s), self._changed:
                while not (answer := holds()):
                    await self._changed.wait()
                return answer
        except TimeoutError:
            said = [heard.frame["type"] for heard in self.heard[-12:]]
            raise AssertionError(f"not within {limit_s} s: {what or holds}; last frames {said}") from None

    async def frame(self, kind: str, *, count: int = 1, limit_s: float = WAIT_S, **fields: Any) -> Frame:
        """The `count`th frame of a type with these fields, as soon as it is there."""
        await self.until(lambda: len(self.frames(kind, **fields)) >= count, limit_s, f"{kind} {fields} #{count}")
        return self.frames(kind, **fields)[count - 1]

    async def online(self, connection: int = 1, limit_s: float = WAIT_S) -> None:
        """Wait until the broker has brought this connection up."""
        await self.until(
            lambda: self.frames("node.heartbeat", connection=connection), limit_s, f"connection {connection} is up"
        )

    # --- the node socket ------------------------------------------------------------------------------------------------------

    async def _note(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.dials.append(time.monotonic())
        status = self.handshakes.pop(0) if self.handshakes else 101
        await self._note()
        if self._frozen:
            await self._hang()
        if status != 101:
            return web.json_response({"ok": False, "error": {"code": "refused", "message": "no"}}, status=status)
        socket = web.WebSocketResponse(autoping=False, max_msg_size=0, compress=False)
        await socket.prepare(request)
        self._socket, connection = socket, len(self.dials)
        while not socket.closed:
            message = await socket.receive()
            if self._frozen:
                await self._hang()
                break
            if message.type is WSMsgType.PING:
                await socket.pong(message.data)
            elif message.type is WSMsgType.TEXT:
                await self._take(socket, connection, json.loads(message.data))
            elif message.type is not WSMsgType.PONG:
                break
        return socket

    async def _hang(self) -> None:
        event = asyncio.Event()
        self._hung.add(event)
        await event.wait()

    async def _take(self, socket: web.WebSocketResponse, connection: int, frame: Frame) -> None:
        self.heard.append(Heard(time.monotonic(), connection, frame))
        answer = self.answers.get(frame["type"], self._fair)(frame)
        if answer is not None:
            await socket.send_str(json.dumps({"v": 1, "id": frame.get("id")} | answer))
        await self._note()

    def _fair(self, frame: Frame) -> Answer:
        match frame["type"]:
            case "node.register":
                return ok(node_shown(frame["node_id"], frame["name"]))
            case "inventory.sync":
                nothing: dict[str, Any] = {
                    "open_invocations": [],
                    "completed_invocations": [],
                    "rescheduled_invocations": [],
                }
                return ok({"rebound_agents": len(frame["agents"])} | nothing)
            case "agent.register":
                return ok(self.registered(frame["name"]))
            case "agent.deregister":
                self._offline.add(frame["name"])
                if not frame.get("id"):
                    return None
                return ok({"agent_id": frame.get("agent_id"), "name": frame.get("name"), "deregistered": True})
            case _:
                return None

    def registered(self, name: str) -> dict[str, Any]:
        """The reply data of a fair registration: the name keeps its agent id, the token is new."""
        agent_id = self.agents.setdefault(name, str(next(self._serial)))
        self._offline.discard(name)
        return {"agent_id": agent_id, "token": self._token("at", name), "name": name}

    def _token(self, kind: str, name: str = "") -> str:
        token = f"{kind}_live_{next(self._serial):048x}"
        self.given[token] = name
        return token

    # --- REST ---------------------------------------------------------------------------------------------------------------

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        asked = Asked(
            time.monotonic(),
            request.method,
            request.path,
            json.loads(text) if text else None,
            token,
            request.headers.get("Idempotency-Key", ""),
        )
        self.asked.append(asked)
        await self._note()
        if self._frozen:
            await self._hang()
        wanted = f"{asked.method} {asked.path}"
        route = next((answer for key, answer in self.routes.items() if re.fullmatch(key, wanted)), self._fair_rest)
        routed = route(asked)
        status, data = await routed if isinstance(routed, Awaitable) else routed
        if status == 0:
            await self._hang()
        if status >= 400:
            return web.json_response({"ok": False, "error": {"message": "no"} | (data or {})}, status=status)
        return web.json_response({"ok": True, "data": data}, status=status)

    def _fair_rest(self, asked: Asked) -> tuple[int, Any]:
        body, caller = asked.body, self.given.get(asked.token, "")
        match asked.method, asked.path.strip("/").split("/")[1:]:
            case "GET", ["workspace"]:
                return 200, {"id": WORKSPACE, "name": "scripted", "plan": "free", "created_at": CREATED, "metadata": {}}
            case "POST", ["nodes"]:
                self.node_id = body["node_id"]
                return 201, body | node_shown(self.node_id, body["name"]) | {"token": self._token("nt")}
            case "GET", ["nodes", *_]:
                return 404, {"code": "node_not_found"}
            case "POST", ["agents"]:
                return 201, self.created(body["name"])
            case "POST", ["agents", "release"]:
                return 201, {"invocation_id": "inv_1", "action_name": "release", "status": "completed", "input": body}
            case "POST", ["nodes", node, "agents"]:
                return 201, _binding(self.agents[body["agent_name"]], body["agent_name"], self.node_id, node)
            case "GET", ["agent"] if caller:
                return 200, self._shown(caller)
            case "GET" | "PATCH", ["agents", name] if name in self.agents:
                return 200, self._shown(name)
            case "GET", ["channels", channel, "members"]:
                names = [name for name, channels in self._channels.items() if channel in channels]
                return 200, [_member(self.agents[name], name) for name in names]
            case "POST", ["channels", channel, "join"] if caller:
                self._channels[caller].add(channel)
                return 200, {"channel": channel, "agent_id": self.agents[caller], "already_member": False}
            case "POST", ["channels"]:
                more = {"id": "1", "member_count": 1, "created_by": "1", "created_at": CREATED}
                return 201, body | more
            case "GET", _:
                return 404, {"code": "not_found"}
            case _:
                return 201, {"id": str(next(self._serial))}

    def created(self, name: str) -> dict[str, Any]:
        """The data of an agent that is made over HTTP."""
        registered = self.registered(name)
        return self._shown(name) | {"token": registered["token"], "status": "online"}

    def _shown(self, name: str) -> dict[str, Any]:
        agent_id = self.agents[name]
        channels = [
            {"id": channel, "name": channel, "role": "member", "joined_at": CREATED} for channel in self._channels[name]
        ]
        status = "offline" if name in self._offline else "active"
        return {
            "id": agent_id, "agent_id": agent_id, "workspace_id": WORKSPACE, "name": name, "handle": f"@{name}", "type": "agent",
            "status": status, "persona": None, "capabilities": None, "metadata": {}, "channels": channels,
            "created_at": CREATED, "last_seen": CREATED, "pending_deliveries": [],
        }  # fmt: skip


def ok(data: Any) -> Frame:
    """A good reply; the request's id is put in."""
    return {"type": "reply", "ok": True, "data": data}


def error(code: str) -> Frame:
    """An error for the request; its id is put in."""
    return {"type": "error", "ok": False, "code": code, "message": "no"}


def node_shown(node_id: str, name: str) -> dict[str, Any]:
    """A node as the engine shows it."""
    return {
        "id": node_id, "name": name, "kind": "ws", "role": "broker", "delivery_adapter": "ws.node.v1", "delivery": None,
        "capabilities": [], "tags": [], "version": "1", "status": "online", "live": True, "handlers_live": True, "load": 0,
        "active_agents": 0, "max_agents": 0, "last_heartbeat_at": None, "created_at": CREATED,
    }  # fmt: skip


def silence(_frame: Frame) -> Answer:
    """No answer."""
    return None


def _binding(agent_id: str, name: str, node_id: str, node: str) -> dict[str, Any]:
    return {
        "id": "anb_1", "agent_id": agent_id, "agent_name": name, "node_id": node_id, "node_name": node, "node_kind": "ws",
        "node_role": "broker", "status": "active", "session_ref": None, "priority": 0, "created_at": CREATED,
        "updated_at": CREATED,
    }  # fmt: skip


def _member(agent_id: str, name: str) -> dict[str, Any]:
    return {"agent_id": agent_id, "agent_name": name, "role": "member", "joined_at": CREATED, "is_muted": False}
