"""Refusals.

Source: spec/engine-contract.md section 2.14.
"""

from __future__ import annotations

from aiohttp import web

from relaybroker.engine import refusals
from relaybroker.engine.rest.api import as_caller, between, limit_of, page_of

routes = web.RouteTableDef()


@routes.get("/v1/refusals")
async def _list(request: web.Request) -> web.Response:
    limit, (_low, high) = limit_of(request, 50, 200), between(request)
    return page_of(
        await as_caller(request, lambda tx, caller: refusals.listing(tx, caller.workspace_id, limit + 1, high)), limit
    )
