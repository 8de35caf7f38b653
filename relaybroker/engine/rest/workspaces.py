"""Workspaces.

Source: spec/engine-contract.md section 2.1.
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from relaybroker.engine import channels, ids
from relaybroker.engine.auth import Caller, bearer
from relaybroker.engine.errors import EngineError, not_found
from relaybroker.engine.models import WorkspaceBody, read_body
from relaybroker.engine.rest.api import as_caller, engine_of, ok
from relaybroker.engine.store import Tx

WORKSPACES_MAX = 256
"""Workspaces of one engine: anybody on the machine can make one."""

routes = web.RouteTableDef()


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
        channels.create(tx, engine, workspace_id, name="general", topic="General discussion")
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
    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        row = tx.one("SELECT * FROM workspaces WHERE id = ?", caller.workspace_id)
        assert row is not None
        return {
            "id": row["id"],
            "name": row["name"],
            "plan": "free",
            "system_prompt": row["system_prompt"],
            "created_at": ids.iso(row["created_at"]),
            "metadata": json.loads(row["metadata"]),
        }

    return ok(await as_caller(request, work))
