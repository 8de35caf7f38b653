"""`/v1/ws`: everything that happens in a workspace, for those who hold its key, or a token for what they may see of it.

Source: spec/engine-contract.md sections 3, 10.
"""

from __future__ import annotations

import asyncio
import time

from aiohttp import WSCloseCode, WSMsgType, web

from relaybroker.engine.auth import Caller, authenticate, require_scope
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError
from relaybroker.engine.hub import Watcher, close
from relaybroker.engine.json_text import strict_json
from relaybroker.engine.socket_writer import Outbox
from relaybroker.engine.store import Tx
from relaybroker.engine.upgrade import accept, token_of


async def serve(engine: Engine, request: web.Request) -> web.WebSocketResponse:
    """Serve one observer until it leaves, or its token ends. A ping is answered, anything else it says is ignored."""
    token = token_of(request)
    caller = await engine.store.run(lambda tx: _watcher(tx, engine, token))
    socket, transport = await accept(request)
    outbox = Outbox(socket, transport, lambda _written: None, lambda: None)
    scopes = caller.scopes if caller.kind == "observer" else None
    engine.hub.observe(outbox, Watcher(caller.workspace_id, socket, caller.id, scopes))
    try:
        await engine.store.run(
            lambda tx: _watcher(tx, engine, token)
        )  # it may have been changed while the socket opened
        async with asyncio.timeout(None if caller.until is None else max(0.0, caller.until - time.time())):
            async for message in socket:
                if message.type is WSMsgType.TEXT and _is_ping(message.data):
                    outbox.put('{"type":"pong"}')
    except (EngineError, TimeoutError):
        await close(socket, WSCloseCode.OK, b"token-changed")
    finally:
        engine.hub.forget_observer(outbox)
        await outbox.close()
    return socket


def _watcher(tx: Tx, engine: Engine, token: str) -> Caller:
    caller = authenticate(tx, engine, token, "WO")
    require_scope(caller, "stream:read")
    return caller


def _is_ping(text: str) -> bool:
    try:
        value = strict_json(text)
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("type") == "ping"
