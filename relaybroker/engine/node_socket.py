"""`/v1/node/ws`: the socket of a node. Each frame is one transaction; its reply and what follows leave after the commit, in order.

Source: spec/engine-contract.md sections 3 to 6.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from relaybroker.engine import actions, agents, deliveries, nodes
from relaybroker.engine.auth import Caller, bearer, node_of
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError
from relaybroker.engine.frames import FrameError, parse
from relaybroker.engine.hub import NodeConnection, Outbox
from relaybroker.engine.store import Tx

log = logging.getLogger(__name__)


def token_of(request: web.Request) -> str:
    """The token of an upgrade: the query first, unless it is empty, then the header."""
    return request.query.get("token", "").strip() or bearer(request.headers.get("Authorization"))


def require_upgrade(request: web.Request) -> None:
    """Raise EngineError 426 for a plain GET."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise EngineError(426, "upgrade_required", "This is a WebSocket endpoint")


async def serve_node(engine: Engine, request: web.Request) -> web.WebSocketResponse:
    """Serve one node socket until it ends."""
    require_upgrade(request)
    token = token_of(request)
    caller = await engine.store.run(lambda tx: node_of(tx, token))
    socket = web.WebSocketResponse(heartbeat=30.0, max_msg_size=engine.limits.frame_bytes)
    await socket.prepare(request)
    outbox = Outbox(socket, lambda written: deliveries.mark_written(engine, written))
    connection = NodeConnection(caller.id, caller.workspace_id, socket, outbox)
    former = engine.hub.connect(connection)
    if former is not None:
        closing = asyncio.create_task(former.socket.close(code=WSCloseCode.OK, message=b"superseded"))
        request.app["background"].add(closing)
        closing.add_done_callback(request.app["background"].discard)
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await _handle(engine, caller, outbox, message.data)
            elif message.type is WSMsgType.BINARY:
                log.warning("node %s sent a binary message; ignored", caller.id)
    finally:
        await outbox.close()
        if engine.hub.disconnect(connection):
            with contextlib.suppress(RuntimeError):
                await engine.store.run(lambda tx: nodes.go_offline(tx, engine, caller.id))
    return socket


async def _handle(engine: Engine, caller: Caller, outbox: Outbox, text: str) -> None:
    try:
        frame = parse(text)
    except FrameError as error:
        outbox.put(deliveries.encode(_error(engine.ids.next(), "invalid_message", str(error))))
        return
    request_id = frame.get("id") or engine.ids.next()
    try:
        await engine.store.run(lambda tx: _carry_out(tx, engine, caller, outbox, frame, request_id))
    except EngineError as error:
        outbox.put(deliveries.encode(_error(request_id, error.code, error.message)))


def _error(request_id: str, code: str, message: str) -> dict[str, Any]:
    return {"v": 1, "id": request_id, "type": "error", "ok": False, "code": code, "message": message}


def _carry_out(tx: Tx, engine: Engine, caller: Caller, outbox: Outbox, frame: dict[str, Any], request_id: str) -> None:
    node_id = caller.id

    def reply(data: dict[str, Any]) -> None:
        text = deliveries.encode({"v": 1, "id": request_id, "type": "reply", "ok": True, "data": data})
        tx.after(lambda: _put(outbox, text))

    match frame["type"]:
        case "delivery.ack":
            deliveries.acknowledge(tx, node_id, caller.workspace_id, frame["agent"], frame["up_to_seq"])
        case "node.heartbeat":
            nodes.heartbeat(tx, engine, node_id, frame)
        case "node.register":
            reply(nodes.register(tx, engine, node_id, frame))
            actions.drain(tx, engine, node_id)
            deliveries.replay(tx, engine, node_id)
        case "agent.register":
            agent_id, token, name = agents.register_on_node(tx, engine, nodes.by_id(tx, node_id), frame)
            reply({"agent_id": agent_id, "token": token, "name": name})
            deliveries.replay(tx, engine, node_id)
        case "agent.deregister":
            answer = nodes.deregister_agent(tx, engine, node_id, frame)
            if "id" in frame:
                reply(answer)
        case "inventory.sync":
            reply(nodes.sync_inventory(tx, engine, node_id, frame["agents"]))
            deliveries.replay(tx, engine, node_id)
        case "action.result":
            actions.result(tx, engine, node_id, frame)
        case _:
            nodes.go_offline(tx, engine, node_id)


def _put(outbox: Outbox, text: str) -> None:
    outbox.put(text)
