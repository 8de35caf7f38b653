"""`/api/fleet/ws`: a local program that offers handlers to the engine through this broker (a sidecar).

Rules:

* Frames of one connection are handled one at a time, in order; each that has a request id gets exactly one `ok` or `error`.
* What the broker sends by itself (`invoke_handler`) never waits for them. At most 128 frames wait to be written; one more closes it.
* A newer connection takes over; the core decides that, and what an older one still says changes nothing.

Source: spec/local-api.md section 1.6; spec/node-protocol.md section 7.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from relaybroker.adapters.http.api.agents_routes import AgentRoutes
from relaybroker.adapters.http.api.answers import Spawned
from relaybroker.adapters.http.api.bodies import HandlersBody, InputBody, NodeBody, ReleaseBody, ResultBody, parse
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.rendering import rendered
from relaybroker.adapters.http.api.routing import route
from relaybroker.adapters.http.api.send_route import SendRoute
from relaybroker.domain import inputs
from relaybroker.domain.decoding import MAX_DEPTH, NOT_READABLE, is_too_deep
from relaybroker.domain.effects import InvokeHandler
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.manifest import MAX_CAPABILITIES, Capability, Manifest

_log = logging.getLogger(__name__)

PROTOCOL = 2
INBOUND = 64
"""Frames that wait to be handled; beyond that nothing more is read."""
OUTBOUND = 128
MAX_FRAME_BYTES = 2 * 1024 * 1024
ANSWER_S = 15.0
"""For what the engine or the core has to answer; a spawn has the limit of its route."""
FLUSH_S = 1.0
"""For what is queued before a close, and for the answer to the close."""
SHUTDOWN = "shutdown"

_DECODER = msgspec.json.Decoder()


class FleetSockets:
    """Every sidecar connection of one broker.

    Args:
        access: the broker.
        agents: the routes whose twins sidecars use.
        send: likewise.
        version: of the broker.
        shutdown: asks the broker to stop, with a reason.
    """

    def __init__(
        self,
        access: BrokerAccess,
        agents: AgentRoutes,
        send: SendRoute,
        *,
        version: str,
        shutdown: Callable[[str], None],
    ) -> None:
        self._access = access
        self._agents = agents
        self._send = send
        self._version = version
        self._shutdown = shutdown
        self._open: dict[str, _Connection] = {}

    @route("GET /api/fleet/ws", "WebSocket of a sidecar.", errors=(400,), settled=False)
    async def serve(self, request: web.Request) -> web.StreamResponse:
        """GET /api/fleet/ws."""
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise InvalidRequest(Refusal.INVALID, "invalid_request", "/api/fleet/ws is a WebSocket endpoint")
        socket = web.WebSocketResponse(max_msg_size=MAX_FRAME_BYTES, heartbeat=30.0, timeout=FLUSH_S)
        await socket.prepare(request)
        connection = _Connection(uuid.uuid4().hex, socket, request.transport)
        self._open[connection.name] = connection
        tasks = (
            asyncio.create_task(connection.write(), name="sidecar writer"),
            asyncio.create_task(self._work(connection), name="sidecar frames"),
        )
        try:
            await self._access.gateway.tell(inputs.SidecarConnected(connection=connection.name))
            async for message in socket:  # apart from the work, so that the end of the socket is seen at once
                await connection.inbound.put(message.data if message.type is WSMsgType.TEXT else None)
        finally:
            del self._open[connection.name]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            detail = connection.closing or f"close code {socket.close_code}"
            await self._access.gateway.tell(inputs.SidecarClosed(connection=connection.name, detail=detail))
        return socket

    async def _work(self, connection: _Connection) -> None:
        """Handle frames one at a time, in order, until the connection is to be closed."""
        while not connection.closing:
            text = await connection.inbound.get()
            connection.busy = True
            if text is None:
                connection.error(None, "invalid_frame", "only text frames are read")
            else:
                await self._handle(connection, text)
            connection.busy = False
        connection.end()

    def invoke(self, wanted: InvokeHandler) -> None:
        """Give an invocation to its sidecar. If that is gone, the core hears so anyway."""
        if (connection := self._open.get(wanted.connection)) is not None:
            connection.put(
                "invoke_handler",
                None,
                {"invocation_id": wanted.invocation_id, "name": wanted.name, "input": wanted.input},
            )

    def close(self, connection: str, detail: str) -> None:
        """Close a connection after what was sent before and the answer to the frame that is being handled."""
        if (open_connection := self._open.get(connection)) is not None:
            open_connection.closing = detail
            if not open_connection.busy:
                open_connection.end()

    async def close_all(self) -> None:
        """End every connection, all at the same time."""
        closing = []
        for connection in self._open.values():
            connection.closing = SHUTDOWN
            closing.append(connection.socket.close(code=1001, message=b"shutdown"))
        await asyncio.gather(*closing, return_exceptions=True)

    # --- frames ---------------------------------------------------------------------------------------------------------

    async def _handle(self, connection: _Connection, text: str) -> None:
        try:
            frame = _DECODER.decode(text)
        except NOT_READABLE:
            connection.error(None, "invalid_frame", "the frame is not JSON")
            return
        if text.count("[") + text.count("{") > MAX_DEPTH and is_too_deep(frame):
            connection.error(None, "invalid_frame", f"the frame has more than {MAX_DEPTH} levels")
            return
        if not isinstance(frame, dict) or frame.get("v") != PROTOCOL or isinstance(frame.get("v"), bool):
            connection.error(None, "invalid_frame", f"a frame is an object with v {PROTOCOL}")
            return
        asked, kind, payload = frame.get("request_id"), frame.get("type"), frame.get("payload")
        request_id = asked if isinstance(asked, str) else None
        if not isinstance(kind, str) or not isinstance(payload, dict):
            connection.error(request_id, "frame_failed", "a frame has a type and a payload")
            return
        value = {key: item for key, item in payload.items() if item is not None or key in ("output", "input")}
        try:
            connection.put("ok", request_id, {"result": await self._result(connection, kind, value)})
        except InvalidRequest as error:
            code = error.code if error.code in ("unknown_invocation", "connect_failed") else "frame_failed"
            text = error.message if error.code in (code, "frame_failed") else f"{error.code}: {error.message}"
            connection.error(request_id, code, text)
        except TimeoutError:
            connection.error(request_id, "frame_failed", "no answer in time; the request may still be carried out")
        if kind == "shutdown":
            self._shutdown("sidecar_shutdown")

    async def _result(self, connection: _Connection, kind: str, value: dict[str, Any]) -> Any:
        match kind:
            case "hello":
                return {"broker_version": self._version, "protocol_version": PROTOCOL}
            case "register_node":
                return await self._register(connection, parse(NodeBody, value))
            case "register_handlers":
                return await self._handlers(connection, parse(HandlersBody, value))
            case "handler_result":
                return await self._finish(connection, value)
            case "deregister_node":
                return await self._ask(
                    lambda request_id: inputs.NodeLeft(connection=connection.name, request_id=request_id)
                )
            case "spawn_agent":
                return await self._spawn(value)
            case "send_message":
                return await self._send.send_as(_renamed(value, text="message"))
            case "send_input":
                return await self._agents.type_as(_name(value), parse(InputBody, value))
            case "release_agent":
                return await self._agents.release_as(_name(value), parse(ReleaseBody, value))
            case "list_agents":
                return self._agents.listed()
            case "shutdown":
                return {"status": "shutting_down"}
            case _:
                raise InvalidRequest(Refusal.INVALID, "frame_failed", f"unknown type {kind[:100]!r}")

    async def _ask(self, build: Callable[[str], inputs.Input]) -> Any:
        return rendered(await self._access.ask(build, ANSWER_S))

    async def _register(self, connection: _Connection, body: NodeBody) -> Any:
        offered = body.manifest
        if len(offered.capabilities) > MAX_CAPABILITIES:
            raise InvalidRequest(Refusal.INVALID, "frame_failed", f"at most {MAX_CAPABILITIES} capabilities")
        state = self._access.state
        own = state.settings.node_id if state.settings is not None else ""
        if offered.node_id not in ("", own):
            raise InvalidRequest(Refusal.CONFLICT, "frame_failed", f"node_id_mismatch: this node is {own}")
        manifest = Manifest(
            name=offered.name.strip(),
            capabilities=tuple(
                Capability(capability.name, capability.kind, capability.metadata) for capability in offered.capabilities
            ),
            max_agents=offered.max_agents,
            tags=tuple(offered.tags),
            version=offered.version,
        )
        supervision = None
        if body.supervision is not None and body.supervision.argv:
            how = body.supervision
            self._access.gateway.name_sidecar_environment(how.env)
            supervision = inputs.Supervision(argv=tuple(how.argv), cwd=how.cwd, policy=how.restart_policy.policy())
        return await self._ask(
            lambda request_id: inputs.ManifestOffered(
                connection=connection.name, request_id=request_id, manifest=manifest, supervision=supervision
            )
        )

    async def _handlers(self, connection: _Connection, body: HandlersBody) -> Any:
        names = tuple(dict.fromkeys(name for given in body.names if (name := given.strip())))
        return await self._ask(
            lambda request_id: inputs.HandlersOffered(connection=connection.name, request_id=request_id, names=names)
        )

    async def _finish(self, connection: _Connection, value: dict[str, Any]) -> Any:
        body = parse(ResultBody, value)
        if ("output" in value) == (body.error is not None):
            raise InvalidRequest(Refusal.INVALID, "frame_failed", "a result has exactly one of output and error")
        if body.error is not None and not body.error.strip():
            raise InvalidRequest(Refusal.INVALID, "frame_failed", "an error has a text")
        return await self._ask(
            lambda request_id: inputs.HandlerFinished(
                connection=connection.name,
                request_id=request_id,
                invocation_id=body.invocation_id,
                output=body.output,
                error=body.error or "",
            )
        )

    async def _spawn(self, value: dict[str, Any]) -> Spawned:
        agent = value.get("agent")
        if not isinstance(agent, dict):
            raise InvalidRequest(Refusal.INVALID, "missing_field", "Missing required field: agent", field="agent")
        wanted = {key: item for key, item in agent.items() if item is not None}
        if "cli" not in wanted and "provider" in wanted:
            wanted["cli"] = wanted["provider"]
        for given, name in (("initial_task", "task"), ("skip_relay_prompt", "skip_relay_prompt")):
            if given in value:
                wanted[name] = value[given]
        invocation_id = value.get("invocation_id")
        return await self._agents.spawn_as(
            wanted, source="sidecar", invocation_id=invocation_id if isinstance(invocation_id, str) else ""
        )


class _Connection:
    """One socket and what waits to be written to it."""

    def __init__(self, name: str, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self.name = name
        self.socket = socket
        self._transport = transport
        self.closing = ""
        """Why we close it; "" while we do not."""
        self.busy = False
        """A frame is being handled."""
        self.inbound: asyncio.Queue[str | None] = asyncio.Queue(INBOUND)
        """Frames that came; None = one that is no text."""
        self._outbound: asyncio.Queue[str | None] = asyncio.Queue(OUTBOUND + 1)

    def put(self, kind: str, request_id: str | None, payload: dict[str, Any]) -> None:
        """Queue one frame; a socket that does not take them is closed."""
        if self.closing and not self.busy:
            return
        if self._outbound.qsize() >= OUTBOUND:
            self.closing = "outbound_overflow"
            _log.warning("a sidecar does not read: %d frames wait, its connection is closed", OUTBOUND)
            self._abort()
            return
        frame = {"v": PROTOCOL, "type": kind, "request_id": request_id, "payload": payload}
        self._outbound.put_nowait(msgspec.json.encode(frame).decode())

    def error(self, request_id: str | None, code: str, message: str) -> None:
        """Queue one error."""
        self.put("error", request_id, {"code": code, "message": message, "retryable": False})

    def end(self) -> None:
        """Close after what is queued; what is not read within the flush time is dropped."""
        if not self._outbound.full():
            self._outbound.put_nowait(None)
        asyncio.get_running_loop().call_later(FLUSH_S, self._abort)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def write(self) -> None:
        """Write what is queued, in order, then close."""
        try:
            while (text := await self._outbound.get()) is not None:
                await self.socket.send_str(text)
        except (ConnectionError, RuntimeError) as error:
            _log.info("sidecar write ended: %s", error)  # the reader sees the end of the same socket
        await self.socket.close()


def _name(value: dict[str, Any]) -> str:
    name = value.get("name")
    if not isinstance(name, str) or not name.strip():
        raise InvalidRequest(Refusal.INVALID, "missing_field", "Missing required field: name", field="name")
    return name.strip()


def _renamed(value: dict[str, Any], **names: str) -> dict[str, Any]:
    return {names.get(key, key): item for key, item in value.items()}
