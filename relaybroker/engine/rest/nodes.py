"""Nodes and bindings.

Source: spec/engine-contract.md section 2.3.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from relaybroker.engine import agents, nodes
from relaybroker.engine.auth import Caller
from relaybroker.engine.errors import not_found
from relaybroker.engine.models import BindingBody, NodeBody, read_body
from relaybroker.engine.rest.api import as_caller, engine_of, ok
from relaybroker.engine.store import Tx

routes = web.RouteTableDef()


@routes.post("/v1/nodes")
async def _enrol(request: web.Request) -> web.Response:
    engine = engine_of(request)
    body = await read_body(request, NodeBody)
    given = body.model_dump(exclude_none=True)
    return ok(await as_caller(request, lambda tx, caller: nodes.enrol(tx, engine, caller.workspace_id, given)), 201)


@routes.get("/v1/nodes")
async def _list_nodes(request: web.Request) -> web.Response:
    engine = engine_of(request)
    capability, name = request.query.get("capability"), request.query.get("name")

    def work(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
        rows = tx.all("SELECT * FROM nodes WHERE workspace_id = ? ORDER BY created_at, id", caller.workspace_id)
        shown = [nodes.view(tx, engine, row) for row in rows if name in (None, row["name"])]
        if capability is None:
            return shown
        return [item for item in shown if any(offered["name"] == capability for offered in item["capabilities"])]

    return ok(await as_caller(request, work))


@routes.get("/v1/nodes/{name}")
async def _get_node(request: web.Request) -> web.Response:
    engine = engine_of(request)
    name = request.match_info["name"]
    return ok(
        await as_caller(
            request,
            lambda tx, caller: nodes.view(tx, engine, nodes.find(tx, caller.workspace_id, name)),
        )
    )


@routes.get("/v1/nodes/{name}/agents")
async def _node_agents(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    return ok(
        await as_caller(request, lambda tx, caller: nodes.bindings(tx, nodes.find(tx, caller.workspace_id, name)))
    )


@routes.post("/v1/nodes/{name}/agents")
async def _bind(request: web.Request) -> web.Response:
    engine = engine_of(request)
    body = await read_body(request, BindingBody)

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        node = nodes.find(tx, caller.workspace_id, request.match_info["name"])
        agent = agents.find(tx, caller.workspace_id, body.agent_name)
        agents.reserve_slot(tx, node, agent["id"])
        row = agents.bind(
            tx,
            engine,
            caller.workspace_id,
            agent["id"],
            node["id"],
            session_ref=body.session_ref,
            priority=body.priority or 0,
        )
        agents.set_status(tx, engine, agent, "active")
        return nodes.binding_view(tx, row, node)

    return ok(await as_caller(request, work), 201)


@routes.delete("/v1/nodes/{name}/agents/{agent}")
async def _unbind(request: web.Request) -> web.Response:
    engine = engine_of(request)

    def work(tx: Tx, caller: Caller) -> None:
        node = nodes.find(tx, caller.workspace_id, request.match_info["name"])
        agent = tx.one(
            "SELECT a.* FROM agents a JOIN bindings b ON b.agent_id = a.id WHERE a.workspace_id = ? AND a.name = ?"
            " AND b.node_id = ? AND b.status = 'active'",
            caller.workspace_id, request.match_info["agent"], node["id"],
        )  # fmt: skip
        if agent is None:
            raise not_found("node_agent_binding_not_found", "The agent is not bound to this node")
        agents.unbind(tx, engine, agent, node["id"])

    await as_caller(request, work)
    return web.Response(status=204)
