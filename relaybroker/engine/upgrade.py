"""Opening a WebSocket: the token of the request, the socket, its limits.

Source: spec/engine-contract.md section 3.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from relaybroker.engine.auth import bearer
from relaybroker.engine.context import FRAME_BYTES
from relaybroker.engine.hub import CLOSE_S
from relaybroker.engine.rest.api import CONNECTIONS

PING_S = 30.0
"""A peer that answers no WebSocket ping for half as long again is gone."""


def token_of(request: web.Request) -> str:
    """The token of an upgrade: the query first, unless it is empty, then the header."""
    return request.query.get("token", "").strip() or bearer(request.headers.get("Authorization"))


async def accept(request: web.Request) -> tuple[web.WebSocketResponse, asyncio.Transport]:
    """The open socket and its transport. Compression is off: the peers are on this machine."""
    socket = web.WebSocketResponse(heartbeat=PING_S, timeout=CLOSE_S, max_msg_size=FRAME_BYTES, compress=False)
    transport = request.transport
    await socket.prepare(request)
    request.app[CONNECTIONS].vouch(request)
    assert transport is not None, "an open request has a transport"
    return socket, transport
