"""Deliveries and the inbox.

Source: spec/engine-contract.md section 2.6.
"""

from __future__ import annotations

from aiohttp import web

from relaybroker.engine import deliveries, unread
from relaybroker.engine.errors import invalid
from relaybroker.engine.models import DeferBody, FailBody, moment, read_body
from relaybroker.engine.rest.api import as_caller, engine_of, limit_of, ok

routes = web.RouteTableDef()


_STATUSES = ("queued", "delivered", "acked", "failed", "dead_lettered")


@routes.get("/v1/deliveries")
async def _deliveries(request: web.Request) -> web.Response:
    engine = engine_of(request)
    status, limit = request.query.get("status"), limit_of(request, 100, 200)
    if status is not None and status not in _STATUSES:
        raise invalid("unknown status")
    return ok(await as_caller(request, lambda tx, caller: deliveries.listing(tx, engine, caller.id, status, limit)))


@routes.post("/v1/deliveries/{id}/ack")
async def _ack(request: web.Request) -> web.Response:
    delivery_id = request.match_info["id"]
    return ok(await as_caller(request, lambda tx, caller: deliveries.rest_ack(tx, caller.id, delivery_id)))


@routes.post("/v1/deliveries/{id}/fail")
async def _fail(request: web.Request) -> web.Response:
    engine, delivery_id = engine_of(request), request.match_info["id"]
    body = await read_body(request, FailBody)
    return ok(
        await as_caller(
            request,
            lambda tx, caller: deliveries.fail(
                tx, engine, caller.id, delivery_id, body.error, retryable=body.retryable
            ),
        )
    )


@routes.post("/v1/deliveries/{id}/defer")
async def _defer(request: web.Request) -> web.Response:
    engine, delivery_id = engine_of(request), request.match_info["id"]
    body = await read_body(request, DeferBody)
    at = moment(body.available_at)
    return ok(
        await as_caller(
            request, lambda tx, caller: deliveries.defer(tx, engine, caller.id, delivery_id, at, body.reason)
        )
    )


@routes.get("/v1/inbox")
async def _inbox(request: web.Request) -> web.Response:
    return ok(await as_caller(request, unread.of))
