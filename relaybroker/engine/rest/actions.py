"""Actions and invocations.

Source: spec/engine-contract.md section 2.7.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from relaybroker.engine import actions, invocations
from relaybroker.engine.auth import Caller
from relaybroker.engine.errors import EngineError
from relaybroker.engine.models import ActionBody, CompleteBody, InvokeBody, read_body
from relaybroker.engine.rest.api import as_caller, engine_of, ok
from relaybroker.engine.store import Tx

routes = web.RouteTableDef()


@routes.post("/v1/actions")
async def _register_action(request: web.Request) -> web.Response:
    engine = engine_of(request)
    given = (await read_body(request, ActionBody)).model_dump(exclude_none=True)
    return ok(await as_caller(request, lambda tx, caller: actions.register(tx, engine, caller, given)), 201)


@routes.get("/v1/actions")
async def _list_actions(request: web.Request) -> web.Response:
    def work(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
        rows = tx.all("SELECT * FROM actions WHERE workspace_id = ? ORDER BY name", caller.workspace_id)
        return [actions.view(tx, row) for row in rows]

    return ok(await as_caller(request, work))


@routes.get("/v1/actions/{name}")
async def _get_action(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    return ok(
        await as_caller(request, lambda tx, caller: actions.view(tx, actions.find(tx, caller.workspace_id, name)))
    )


@routes.delete("/v1/actions/{name}")
async def _delete_action(request: web.Request) -> web.Response:
    name = request.match_info["name"]

    def work(tx: Tx, caller: Caller) -> None:
        tx.run("DELETE FROM actions WHERE id = ?", actions.find(tx, caller.workspace_id, name)["id"])

    await as_caller(request, work)
    return web.Response(status=204)


@routes.post("/v1/actions/{name}/invoke")
async def _invoke(request: web.Request) -> web.Response:
    engine, name = engine_of(request), request.match_info["name"]
    body = await read_body(request, InvokeBody)
    try:
        return ok(
            await as_caller(
                request,
                lambda tx, caller: actions.invoke(tx, engine, caller, name, body.input),
            ),
            201,
        )
    except EngineError as error:
        if error.code == "action_denied":
            message = error.message
            await as_caller(request, lambda tx, caller: actions.denied(tx, engine, caller, name, message))
        raise


@routes.post("/v1/actions/{name}/invocations/{id}/complete")
async def _complete(request: web.Request) -> web.Response:
    engine, name, invocation_id = engine_of(request), request.match_info["name"], request.match_info["id"]
    given = (await read_body(request, CompleteBody)).model_dump()
    return ok(
        await as_caller(
            request,
            lambda tx, caller: invocations.complete_by_agent(tx, engine, caller, name, invocation_id, given),
        )
    )


@routes.get("/v1/actions/{name}/invocations/{id}")
async def _invocation(request: web.Request) -> web.Response:
    name, invocation_id = request.match_info["name"], request.match_info["id"]
    return ok(
        await as_caller(
            request,
            lambda tx, caller: invocations.view(invocations.find(tx, caller.workspace_id, name, invocation_id)),
        )
    )
