"""Agents.

Source: spec/engine-contract.md section 2.2.
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from relaybroker.engine import actions, agent_events, agents, nodes
from relaybroker.engine.auth import Caller
from relaybroker.engine.errors import EngineError
from relaybroker.engine.models import AgentBody, AgentEventBody, AgentPatch, ReleaseBody, SpawnBody, read_body
from relaybroker.engine.rest.api import as_caller, engine_of, json_answer, limit_of, ok
from relaybroker.engine.store import Tx

routes = web.RouteTableDef()


@routes.post("/v1/agents")
async def _create_agent(request: web.Request) -> web.Response:
    engine = engine_of(request)
    body = await read_body(request, AgentBody)

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        if tx.one("SELECT 1 FROM agents WHERE workspace_id = ? AND name = ?", caller.workspace_id, body.name):
            raise EngineError(409, "agent_already_exists", f'Agent "{body.name}" already exists')
        row, token = agents.create(
            tx,
            engine,
            caller.workspace_id,
            name=body.name,
            kind=body.type,
            persona=body.persona,
            metadata=body.metadata,
            skills=body.skills,
            capabilities=body.capabilities,
            join_general=body.auto_join_general is not False,
        )
        agents.announce(tx, engine, row, "active")
        shown = agents.view(row)
        picked = {key: shown[key] for key in ("id", "workspace_id", "name", "handle", "capabilities", "created_at")}
        return picked | {"token": token, "status": "online"}

    return ok(await as_caller(request, work), 201)


@routes.get("/v1/agents")
async def _list_agents(request: web.Request) -> web.Response:
    wanted = request.query.get("status", "all")

    def work(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
        rows = tx.all("SELECT * FROM agents WHERE workspace_id = ? ORDER BY created_at, id", caller.workspace_id)
        return [agents.view(row) for row in rows if wanted in ("all", row["status"])]

    return ok(await as_caller(request, work))


@routes.get("/v1/agents/presence")
async def _presence(request: web.Request) -> web.Response:
    def work(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
        rows = tx.all("SELECT id, name, status FROM agents WHERE workspace_id = ? ORDER BY name", caller.workspace_id)
        return [
            {
                "agent_id": row["id"],
                "agent_name": row["name"],
                "status": "offline" if row["status"] == "offline" else "online",
            }
            for row in rows
        ]

    return ok(await as_caller(request, work))


@routes.post("/v1/agents/heartbeat")
async def _agent_heartbeat(request: web.Request) -> web.Response:
    engine = engine_of(request)

    def work(tx: Tx, caller: Caller) -> None:
        agents.set_status(tx, engine, agents.find(tx, caller.workspace_id, caller.name), "active")

    await as_caller(request, work)
    return json_answer({"ok": True})


@routes.post("/v1/agents/disconnect")
async def _agent_disconnect(request: web.Request) -> web.Response:
    engine = engine_of(request)

    def work(tx: Tx, caller: Caller) -> None:
        agents.set_status(tx, engine, agents.find(tx, caller.workspace_id, caller.name), "offline")

    await as_caller(request, work)
    return json_answer({"ok": True})


@routes.post("/v1/agents/spawn")
async def _spawn(request: web.Request) -> web.Response:
    engine = engine_of(request)
    body = await read_body(request, SpawnBody)
    given = {
        "name": body.name,
        "cli": body.cli,
        "task": body.task,
        "channel": body.channel,
        "persona": body.persona,
        "model": body.model,
        "metadata": (body.metadata or {}) | ({"model": body.model} if body.model else {}),
    }
    return ok(await as_caller(request, lambda tx, caller: actions.spawn(tx, engine, caller, given)), 201)


@routes.post("/v1/agents/release")
async def _release(request: web.Request) -> web.Response:
    engine = engine_of(request)
    body = await read_body(request, ReleaseBody)
    given = body.model_dump(exclude_none=True)
    return ok(await as_caller(request, lambda tx, caller: actions.release(tx, engine, caller, given)), 201)


@routes.get("/v1/agents/{name}")
async def _get_agent(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    return ok(
        await as_caller(request, lambda tx, caller: agents.details(tx, agents.find(tx, caller.workspace_id, name)))
    )


@routes.post("/v1/agents/{name}/events")
async def _record_event(request: web.Request) -> web.Response:
    engine, name = engine_of(request), request.match_info["name"]
    body = await read_body(request, AgentEventBody)

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        agent = agents.find(tx, caller.workspace_id, name)
        return agent_events.record(tx, engine, agent, body.type, body.payload or {})

    return ok(await as_caller(request, work), 201)


@routes.get("/v1/agents/{name}/events")
async def _events(request: web.Request) -> web.Response:
    name, kind = request.match_info["name"], request.query.get("type")
    limit = limit_of(request, 50, agent_events.KEPT)
    return ok(
        await as_caller(
            request,
            lambda tx, caller: agent_events.listing(tx, agents.find(tx, caller.workspace_id, name), kind, limit),
        )
    )


@routes.get("/v1/agent")
async def _me(request: web.Request) -> web.Response:
    return ok(
        await as_caller(
            request, lambda tx, caller: agents.details(tx, agents.find(tx, caller.workspace_id, caller.name))
        )
    )


@routes.patch("/v1/agents/{name}")
async def _patch_agent(request: web.Request) -> web.Response:
    engine = engine_of(request)
    body = await read_body(request, AgentPatch)
    sent = body.model_dump(exclude_unset=True)

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        row = agents.find(tx, caller.workspace_id, request.match_info["name"])
        metadata = json.loads(row["metadata"]) | (sent.get("metadata") or {})
        persona = sent.get("persona", row["persona"])
        skills = json.dumps(sent["skills"]) if sent.get("skills") is not None else row["skills"]
        offered = row["capabilities"]
        if sent.get("capabilities") is not None:
            offered = json.dumps(sent["capabilities"])
        tx.run(
            "UPDATE agents SET metadata = ?, persona = ?, skills = ?, capabilities = ? WHERE id = ?",
            json.dumps(metadata), persona, skills, offered, row["id"],
        )  # fmt: skip
        if sent.get("status"):
            agents.set_status(tx, engine, row, sent["status"])
        return agents.view(agents.find(tx, caller.workspace_id, row["name"]))

    return ok(await as_caller(request, work))


@routes.delete("/v1/agents/{name}")
async def _delete_agent(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    await as_caller(
        request,
        lambda tx, caller: agents.delete(tx, engine_of(request), agents.find(tx, caller.workspace_id, name)),
    )
    return web.Response(status=204)


@routes.post("/v1/agent/node-token")
async def _node_token(request: web.Request) -> web.Response:
    return ok(
        await as_caller(
            request, lambda tx, caller: nodes.direct_token(tx, engine_of(request), caller.workspace_id, caller.id)
        )
    )


@routes.post("/v1/agents/{name}/rotate-token")
async def _rotate(request: web.Request) -> web.Response:
    name = request.match_info["name"]

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        return {"name": name, "token": agents.rotate(tx, agents.find(tx, caller.workspace_id, name)["id"])}

    return ok(await as_caller(request, work))
