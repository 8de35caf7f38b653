"""All routes, in the order in which they are matched: fixed paths before those with a name in them."""

from __future__ import annotations

from aiohttp import web

from relaybroker.engine import node_socket, observer
from relaybroker.engine.rest import (
    actions,
    agents,
    channels,
    deliveries,
    dms,
    files,
    messages,
    nodes,
    observer_tokens,
    refusals,
    search,
    subscriptions,
    webhooks,
    workspaces,
)
from relaybroker.engine.rest.api import engine_of, json_answer, unknown

PARTS = (
    workspaces, agents, nodes, channels, messages, dms, files, deliveries, actions, search, observer_tokens, webhooks,
    subscriptions, refusals,
)  # fmt: skip


async def _health(_request: web.Request) -> web.Response:
    return json_answer({"ok": True, "status": "ok", "service": "relaybroker-engine"})


async def _node_ws(request: web.Request) -> web.StreamResponse:
    return await node_socket.serve(engine_of(request), request)


async def _observer_ws(request: web.Request) -> web.StreamResponse:
    return await observer.serve(engine_of(request), request)


def add_to(app: web.Application) -> None:
    """Make the application answer every route of the contract."""
    app.router.add_get("/health", _health)
    for part in PARTS:
        app.add_routes(part.routes)
    app.router.add_get("/v1/node/ws", _node_ws)
    app.router.add_get("/v1/ws", _observer_ws)
    app.router.add_route("*", "/{rest:.*}", unknown)
