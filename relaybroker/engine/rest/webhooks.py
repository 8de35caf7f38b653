"""Webhooks.

Source: spec/engine-contract.md section 2.11.
"""

from __future__ import annotations

from aiohttp import web

from relaybroker.engine import webhooks
from relaybroker.engine.auth import Caller
from relaybroker.engine.models import HookBody, WebhookBody, read_body
from relaybroker.engine.rest.api import as_caller, base_of, engine_of, ok, post_once
from relaybroker.engine.store import Tx

routes = web.RouteTableDef()


@routes.post("/v1/webhooks")
async def _create(request: web.Request) -> web.Response:
    engine, base = engine_of(request), base_of(request)
    given = (await read_body(request, WebhookBody)).model_dump()
    return ok(
        await as_caller(request, lambda tx, caller: webhooks.create(tx, engine, caller.workspace_id, given, base)), 201
    )


@routes.get("/v1/webhooks")
async def _list(request: web.Request) -> web.Response:
    base = base_of(request)
    return ok(await as_caller(request, lambda tx, caller: webhooks.listing(tx, caller.workspace_id, base)))


@routes.delete("/v1/webhooks/{id}")
async def _delete(request: web.Request) -> web.Response:
    webhook_id = request.match_info["id"]

    def work(tx: Tx, caller: Caller) -> None:
        tx.run("DELETE FROM webhooks WHERE id = ?", webhooks.find(tx, caller.workspace_id, webhook_id)["id"])

    await as_caller(request, work)
    return web.Response(status=204)


@routes.post("/v1/hooks/{id}")
async def _receive(request: web.Request) -> web.Response:
    engine = engine_of(request)
    given = (await read_body(request, HookBody)).model_dump(exclude_none=True)
    return await post_once(request, "hook", given, lambda tx, caller: webhooks.receive(tx, engine, caller, given))
