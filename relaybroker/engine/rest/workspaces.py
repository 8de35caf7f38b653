"""Workspaces.

Source: spec/engine-contract.md section 2.1.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from relaybroker.engine import channels, ids, workspaces
from relaybroker.engine.auth import Caller, bearer
from relaybroker.engine.errors import EngineError, not_found
from relaybroker.engine.models import PromptBody, StreamBody, WorkspaceBody, WorkspacePatch, read_body
from relaybroker.engine.rest.api import as_caller, between, engine_of, limit_of, ok, page_of
from relaybroker.engine.store import Tx

WORKSPACES_MAX = 256
"""Workspaces of one engine: anybody on the machine can make one."""

routes = web.RouteTableDef()
_STREAM = {"enabled": True, "default_enabled": True, "override": None}


@routes.post("/v1/workspaces")
async def _create_workspace(request: web.Request) -> web.Response:
    body = await read_body(request, WorkspaceBody)
    engine = engine_of(request)
    token = bearer(request.headers.get("Authorization"))

    def work(tx: Tx) -> tuple[int, dict[str, Any]]:
        known = tx.one("SELECT * FROM workspaces WHERE name = ?", body.name)
        if known is not None:
            if token and known["key_hash"] == ids.digest(token):
                created = ids.iso(known["created_at"])
                return 200, {"workspace_id": known["id"], "api_key": token, "created_at": created}
            raise EngineError(409, "workspace_already_exists", "A workspace with this name already exists")
        if tx.count("SELECT COUNT(*) FROM workspaces") >= WORKSPACES_MAX:
            raise EngineError(
                403, "workspace_limit", f"This engine has {WORKSPACES_MAX} workspaces, which is its limit"
            )
        workspace_id, key = engine.ids.next(), ids.workspace_key()
        tx.run(
            "INSERT INTO workspaces (id, name, key_hash, created_at) VALUES (?,?,?,?)",
            workspace_id, body.name, ids.digest(key), tx.now,
        )  # fmt: skip
        channels.create(tx, engine, workspace_id, name=channels.GENERAL, topic="General discussion")
        return 201, {"workspace_id": workspace_id, "api_key": key, "created_at": ids.iso(tx.now)}

    status, data = await engine.store.run(work)
    return ok(data, status)


@routes.get("/v1/workspaces/by-name/{name}")
async def _workspace_by_name(request: web.Request) -> web.Response:
    def work(tx: Tx) -> dict[str, Any]:
        row = tx.one("SELECT * FROM workspaces WHERE name = ?", request.match_info["name"])
        if row is None:
            raise not_found("workspace_not_found", "Workspace not found")
        return {"id": row["id"], "name": row["name"], "created_at": ids.iso(row["created_at"])}

    return ok(await engine_of(request).store.run(work))


@routes.get("/v1/workspace")
async def _workspace(request: web.Request) -> web.Response:
    return ok(await as_caller(request, lambda tx, caller: workspaces.view(workspaces.find(tx, caller.workspace_id))))


@routes.patch("/v1/workspace")
async def _update(request: web.Request) -> web.Response:
    sent = (await read_body(request, WorkspacePatch)).model_dump(exclude_unset=True)
    return ok(
        await as_caller(request, lambda tx, caller: workspaces.view(workspaces.update(tx, caller.workspace_id, sent)))
    )


@routes.delete("/v1/workspace")
async def _delete(request: web.Request) -> web.Response:
    engine = engine_of(request)
    await as_caller(request, lambda tx, caller: workspaces.delete(tx, engine, caller.workspace_id))
    return web.Response(status=204)


@routes.get("/v1/workspace/system-prompt")
async def _prompt(request: web.Request) -> web.Response:
    return ok(await as_caller(request, lambda tx, caller: workspaces.prompt(workspaces.find(tx, caller.workspace_id))))


@routes.put("/v1/workspace/system-prompt")
async def _set_prompt(request: web.Request) -> web.Response:
    body = await read_body(request, PromptBody)
    sent = {"system_prompt": None if body.reset else body.prompt}
    return ok(
        await as_caller(request, lambda tx, caller: workspaces.prompt(workspaces.update(tx, caller.workspace_id, sent)))
    )


@routes.get("/v1/workspace/stream")
async def _stream(request: web.Request) -> web.Response:
    return ok(await as_caller(request, lambda _tx, _caller: _STREAM))


@routes.put("/v1/workspace/stream")
async def _set_stream(request: web.Request) -> web.Response:
    body = await read_body(request, StreamBody)

    def work(_tx: Tx, _caller: Caller) -> dict[str, Any]:
        if body.enabled is False:
            raise EngineError(501, "not_implemented", "stream.disable: the stream of this engine is always on")
        return _STREAM

    return ok(await as_caller(request, work))


@routes.get("/v1/activity")
async def _activity(request: web.Request) -> web.Response:
    limit, (_low, high) = limit_of(request, 50, 200), between(request)
    return page_of(
        await as_caller(request, lambda tx, caller: workspaces.activity(tx, caller, limit + 1, high)),
        limit,
    )
