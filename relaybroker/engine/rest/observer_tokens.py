"""Observer tokens.

Source: spec/engine-contract.md section 2.10.
"""

from __future__ import annotations

from aiohttp import web

from relaybroker.engine import observer_tokens
from relaybroker.engine.models import ObserverTokenBody, ObserverTokenPatch, read_body
from relaybroker.engine.rest.api import as_caller, engine_of, ok

routes = web.RouteTableDef()


@routes.post("/v1/observer-tokens")
async def _mint(request: web.Request) -> web.Response:
    engine = engine_of(request)
    given = (await read_body(request, ObserverTokenBody)).model_dump()
    return ok(
        await as_caller(request, lambda tx, caller: observer_tokens.mint(tx, engine, caller.workspace_id, given)), 201
    )


@routes.get("/v1/observer-tokens")
async def _list(request: web.Request) -> web.Response:
    return ok(await as_caller(request, lambda tx, caller: observer_tokens.listing(tx, caller.workspace_id)))


@routes.get("/v1/observer-tokens/{id}")
async def _get(request: web.Request) -> web.Response:
    token_id = request.match_info["id"]
    return ok(
        await as_caller(
            request,
            lambda tx, caller: observer_tokens.view(observer_tokens.find(tx, caller.workspace_id, token_id)),
        )
    )


@routes.patch("/v1/observer-tokens/{id}")
async def _update(request: web.Request) -> web.Response:
    engine, token_id = engine_of(request), request.match_info["id"]
    sent = (await read_body(request, ObserverTokenPatch)).model_dump(exclude_unset=True)
    return ok(
        await as_caller(
            request,
            lambda tx, caller: observer_tokens.update(
                tx, engine, observer_tokens.find(tx, caller.workspace_id, token_id), sent
            ),
        )
    )


@routes.post("/v1/observer-tokens/{id}/rotate")
async def _rotate(request: web.Request) -> web.Response:
    engine, token_id = engine_of(request), request.match_info["id"]
    return ok(
        await as_caller(
            request,
            lambda tx, caller: observer_tokens.rotate(
                tx, engine, observer_tokens.find(tx, caller.workspace_id, token_id)
            ),
        )
    )


@routes.delete("/v1/observer-tokens/{id}")
async def _revoke(request: web.Request) -> web.Response:
    engine, token_id = engine_of(request), request.match_info["id"]
    await as_caller(
        request,
        lambda tx, caller: observer_tokens.revoke(tx, engine, observer_tokens.find(tx, caller.workspace_id, token_id)),
    )
    return web.Response(status=204)
