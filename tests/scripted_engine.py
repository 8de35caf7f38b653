"""An engine that does what a test tells it: a small real server with the node socket and the REST routes that a broker uses.

By default it is a fair one: it enrols, accepts, registers, answers inventories, and keeps one agent id for each name. A test changes single
answers (`answers`, `routes`, `handshakes`), sends frames of its own, drops the socket, or stops reading and writing without a word.

Source: spec/node-protocol.md appendix A; spec/engine-contract.md sections 2, 6 to 8.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Self

from aiohttp import WSMsgType, web

KEY = "rk_live_" + "0" * 32
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
        self._serial = itertools.count(100)
        self._tokens = itertools.count(1)
        self.given: list[str] = []
        """Every token that was handed out."""
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
        assert self._socket is not None
        await self._socket.send_str(json.dumps({"v": 1} | frame))

    async def deliver(self, agent: str, seq: int, text: str = "hi", *, msg_id: str = "", **changes: Any) -> None:
        """Send a message for an agent. A changed key with the value `...` is left out."""
        agent_id, msg_id = self.agents[agent], msg_id or f"M{seq}"
        data = {"id": msg_id, "agent_id": "55", "agent_name": "alice", "text": text, "channel_name": "general"}
        frame = {
            "type": "deliver",
            "agent": agent,
            "agent_id": agent_id,
            "delivery_id": f"del_{msg_id}_{agent_id}",
            "msg_id": msg_id,
            "seq": seq,
            "mode": "wait",
            "payload": {"type": "message.created", "data": data},
        } | changes
        await self.send(**{key: value for key, value in frame.items() if value is not ...})

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

    async def until(self, holds: Callable[[], Any], limit_s: float = 20.0, what: str = "") -> Any:
        """Wait until something holds that frames, requests or dials bring about; what it returned."""
        try:
            async with asyncio.timeout(limit_s), self._changed:
                while not (found := holds()):
                    await self._changed.wait()
                return found
        except TimeoutError:
            said = [heard.frame["type"] for heard in self.heard[-12:]]
            raise AssertionError(f"not within {limit_s} s: {what or holds}; last frames {said}") from None

    async def frame(self, kind: str, *, count: int = 1, limit_s: float = 20.0, **fields: Any) -> Frame:
        """The `count`th frame of a type with these fields, as soon as it is there."""
        await self.until(lambda: len(self.frames(kind, **fields)) >= count, limit_s, f"{kind} {fields} #{count}")
        return self.frames(kind, **fields)[count - 1]

    async def online(self, connection: int = 1, limit_s: float = 20.0) -> None:
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
        socket = web.WebSocketResponse(autoping=False, max_msg_size=0)
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
                return ok({"id": frame["node_id"], "name": frame["name"], "status": "online"})
            case "inventory.sync":
                return ok({"rebound_agents": len(frame["agents"])})
            case "agent.register":
                return ok(self.registered(frame["name"]))
            case _:
                return None

    def registered(self, name: str) -> dict[str, Any]:
        """The reply data of a fair registration: the name keeps its agent id, the token is new."""
        agent_id = self.agents.setdefault(name, str(next(self._serial)))
        return {"agent_id": agent_id, "token": self._token("at"), "name": name}

    def _token(self, kind: str) -> str:
        self.given.append(f"{kind}_live_{next(self._tokens):048x}")
        return self.given[-1]

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
        found = route(asked)
        status, data = await found if isinstance(found, Awaitable) else found
        if status == 0:
            await self._hang()
        if status >= 400:
            return web.json_response({"ok": False, "error": {"message": "no"} | (data or {})}, status=status)
        return web.json_response({"ok": True, "data": data}, status=status)

    def _fair_rest(self, asked: Asked) -> tuple[int, Any]:
        match asked.method, asked.path:
            case "GET", "/v1/workspace":
                return 200, {"id": "ws_scripted", "name": "scripted"}
            case "POST", "/v1/nodes":
                self.node_id = asked.body["node_id"]
                return 201, asked.body | {"id": self.node_id, "token": self._token("nt")}
            case "GET", path if path.startswith("/v1/nodes/"):
                return 404, {"code": "node_not_found"}
            case "POST", "/v1/agents":
                return 201, self.created(asked.body["name"])
            case "POST", path if path.startswith("/v1/nodes/") and path.endswith("/agents"):
                agent_id = self.agents[asked.body["agent_name"]]
                return 201, {"agent_id": agent_id, "node_id": self.node_id}
            case _:
                return 201, {"id": str(next(self._serial))}

    def created(self, name: str) -> dict[str, Any]:
        """The data of an agent that is made over HTTP."""
        found = self.registered(name)
        return {"id": found["agent_id"], "name": name, "token": found["token"], "status": "online"}


def ok(data: Any) -> Frame:
    """A good reply; the request's id is put in."""
    return {"type": "reply", "ok": True, "data": data}


def error(code: str) -> Frame:
    """An error for the request; its id is put in."""
    return {"type": "error", "ok": False, "code": code, "message": "no"}


def silence(_frame: Frame) -> Answer:
    """No answer."""
    return None
