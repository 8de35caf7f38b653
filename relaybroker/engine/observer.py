"""`/v1/ws`: everything that happens in a workspace, for those who hold its key.

Source: spec/engine-contract.md sections 3, 10.
"""

from __future__ import annotations

from aiohttp import WSMsgType, web

from relaybroker.engine.auth import authenticate
from relaybroker.engine.context import Engine
from relaybroker.engine.json_text import strict_json
from relaybroker.engine.socket_writer import Outbox
from relaybroker.engine.upgrade import accept, token_of


async def serve(engine: Engine, request: web.Request) -> web.WebSocketResponse:
    """Serve one observer until it leaves. A ping is answered, anything else it says is ignored."""
    token = token_of(request)
    caller = await engine.store.run(lambda tx: authenticate(tx, engine, token, "W"))
    socket, transport = await accept(request)
    outbox = Outbox(socket, transport, lambda _written: None, lambda: None)
    engine.hub.observe(outbox, caller.workspace_id, socket)
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT and _is_ping(message.data):
                outbox.put('{"type":"pong"}')
    finally:
        engine.hub.forget_observer(outbox)
        await outbox.close()
    return socket


def _is_ping(text: str) -> bool:
    try:
        value = strict_json(text)
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("type") == "ping"
