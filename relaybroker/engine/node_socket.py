"""`/v1/node/ws`: the socket of a node. Each frame is one transaction; its reply and what follows leave after the commit, in order.

Frames are carried out in the order in which they arrive, without waiting for one commit before the next is queued: up to
`IN_FLIGHT` of them share an fsync.

Source: spec/engine-contract.md sections 3 to 6.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web

from relaybroker.engine import agents, deliveries, invocations, node_control, nodes, providers, push
from relaybroker.engine.auth import Caller, node_of
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError
from relaybroker.engine.frames import FrameError, parse
from relaybroker.engine.hub import NodeConnection, encode
from relaybroker.engine.socket_writer import Outbox
from relaybroker.engine.store import Tx
from relaybroker.engine.upgrade import accept, token_of

IN_FLIGHT = 64
"""Frames of one socket that may wait for their commit."""

log = logging.getLogger(__name__)


async def serve(engine: Engine, request: web.Request) -> web.WebSocketResponse:
    """Serve one node socket until it ends; then the node, or its provider, is offline, unless another socket took over."""
    token = token_of(request)
    caller = await engine.store.run(lambda tx: node_of(tx, token))
    socket, transport = await accept(request)
    connection = NodeConnection(caller.id, caller.workspace_id, socket)
    connection.outbox = Outbox(
        socket,
        transport,
        lambda written: deliveries.mark_written(engine, written),
        lambda: push.read_on(engine, connection),
    )
    engine.hub.opened(connection)
    frames = _Frames(engine, caller, connection)
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await frames.handle(message.data)
            elif message.type is WSMsgType.BINARY:
                log.warning("node %s sent a binary message; ignored", caller.id)
    finally:
        await connection.outbox.close()
        if engine.hub.closed(connection):
            engine.store.submit(lambda tx: _has_gone(tx, engine, connection))
    return socket


def _has_gone(tx: Tx, engine: Engine, connection: NodeConnection) -> None:
    if connection.provider:
        providers.gone(tx, engine, connection.node_id, connection.provider)
    else:
        node_control.go_offline(tx, engine, connection.node_id)


class _Frames:
    """The frames of one socket on their way through the store."""

    def __init__(self, engine: Engine, caller: Caller, connection: NodeConnection) -> None:
        self._engine = engine
        self._caller = caller
        self._connection = connection
        self._outbox = connection.outbox
        self._is_attached = False
        self._room = asyncio.Semaphore(IN_FLIGHT)

    async def handle(self, text: str) -> None:
        """Queue the frame's transaction; waits while too many are queued already."""
        try:
            frame = parse(text)
        except FrameError as error:
            self._refuse(self._engine.ids.next(), EngineError(400, "invalid_message", str(error)), "frame")
            return
        request_id = frame.get("id") or self._engine.ids.next()
        self._attach(frame)

        def settle(_result: None, error: Exception | None) -> None:
            self._room.release()
            if isinstance(error, EngineError):
                self._refuse(request_id, error, frame["type"])
            elif error is not None:
                log.error("frame %s failed", frame["type"], exc_info=error)
                failure = EngineError(500, "node_control_failed", "The frame could not be carried out")
                self._refuse(request_id, failure, frame["type"])

        await self._room.acquire()
        self._engine.store.submit(lambda tx: self._carry_out(tx, frame, request_id), settle)

    def _attach(self, frame: dict[str, Any]) -> None:
        """The first frame says which provider of the node this is; the socket that served it before is closed."""
        if not self._is_attached:
            self._is_attached = True
            former = self._engine.hub.attach(self._connection, providers.name_of(frame))
            if former is not None:
                self._engine.hub.close_later(former.socket, b"superseded")

    def _refuse(self, request_id: str, error: EngineError, kind: str) -> None:
        self._engine.refusals.note(self._engine.store, self._caller, kind, error)
        frame = {"v": 1, "id": request_id, "type": "error", "ok": False, "code": error.code, "message": error.message}
        self._outbox.put(encode(frame))

    def _carry_out(self, tx: Tx, frame: dict[str, Any], request_id: str) -> None:
        engine, node_id = self._engine, self._caller.id

        def reply(data: dict[str, Any]) -> None:
            text = encode({"v": 1, "id": request_id, "type": "reply", "ok": True, "data": data})
            tx.after(lambda: self._outbox.put(text))

        if self._connection.provider:
            self._carry_out_beside(tx, frame, reply)
            return
        match frame["type"]:
            case "delivery.ack":
                deliveries.acknowledge(tx, node_id, self._caller.workspace_id, frame["agent"], frame["up_to_seq"])
            case "node.heartbeat":
                node_control.heartbeat(tx, engine, node_id, frame)
            case "node.register":
                reply(node_control.register(tx, engine, node_id, frame))
                invocations.drain(tx, engine, nodes.by_id(tx, node_id))
                push.replay(tx, engine, node_id)
            case "agent.register":
                reply(agents.register_on_node(tx, engine, nodes.by_id(tx, node_id), frame))
                push.replay(tx, engine, node_id)
            case "agent.deregister":
                answer = node_control.deregister_agent(tx, engine, node_id, frame)
                if "id" in frame:
                    reply(answer)
            case "inventory.sync":
                reply(node_control.sync_inventory(tx, engine, node_id, frame["agents"]))
                push.replay(tx, engine, node_id)
            case "action.result":
                invocations.result(tx, engine, node_id, frame)
            case "node.deregister":
                node_control.go_offline(tx, engine, node_id)
            case "node.spawn":
                reply(providers.spawn(tx, engine, node_id, frame["input"]))
            case unknown:
                raise AssertionError(f"a frame {unknown} was let through")

    def _carry_out_beside(self, tx: Tx, frame: dict[str, Any], reply: Callable[[dict[str, Any]], None]) -> None:
        engine, node_id, provider = self._engine, self._caller.id, self._connection.provider
        match frame["type"]:
            case "node.register":
                reply(providers.register(tx, engine, self._connection, frame))
                invocations.drain(tx, engine, nodes.by_id(tx, node_id))
            case "node.heartbeat":
                invocations.drain(tx, engine, nodes.by_id(tx, node_id))
            case "action.result":
                invocations.result(tx, engine, node_id, frame, provider)
            case "node.deregister":
                providers.leave(tx, engine, node_id, provider)
            case "node.spawn":
                reply(providers.spawn(tx, engine, node_id, frame["input"]))
            case _:
                raise EngineError(409, "provider_hosts_no_agents", "Only the broker of a node has agents")
