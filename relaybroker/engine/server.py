"""The embedded engine as an HTTP server: routes, envelope, life cycle.

Source: spec/engine-contract.md sections 1 to 3.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import WSMsgType, web

from relaybroker.engine import actions, agents, channels, deliveries, ids, messages, nodes
from relaybroker.engine.auth import Caller, authenticate, bearer
from relaybroker.engine.context import Engine, Limits
from relaybroker.engine.errors import EngineError, invalid, not_found
from relaybroker.engine.hub import Outbox
from relaybroker.engine.idempotency import checked, once
from relaybroker.engine.models import (
    ActionBody,
    AgentBody,
    AgentPatch,
    BindingBody,
    ChannelBody,
    CompleteBody,
    DmBody,
    GroupBody,
    InviteBody,
    InvokeBody,
    MessageBody,
    NodeBody,
    ReactionBody,
    ReleaseBody,
    SpawnBody,
    WorkspaceBody,
    read_body,
)
from relaybroker.engine.node_socket import require_upgrade, serve_node, token_of
from relaybroker.engine.store import Store, Tx

log = logging.getLogger(__name__)
_ENGINE: web.AppKey[Engine] = web.AppKey("engine", Engine)
MAX_BODY_BYTES = 2 * 1024 * 1024

Work = Callable[[Tx, Caller], Any]


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(value, status=status, headers=headers, dumps=deliveries.encode)


def _ok(data: Any, status: int = 200, **extra: Any) -> web.Response:
    return _json({"ok": True, "data": data} | extra, status)


@web.middleware
async def _envelope(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Every refusal in the contract's envelope."""
    try:
        return await handler(request)
    except EngineError as error:
        return _json({"ok": False, "error": {"code": error.code, "message": error.message}}, error.status)
    except web.HTTPNotFound:
        return _json({"ok": False, "error": {"code": "not_found", "message": "Not found"}}, 404)
    except web.HTTPException as error:
        code = {405: "method_not_allowed", 413: "body_too_large"}.get(error.status, "invalid_request")
        return _json({"ok": False, "error": {"code": code, "message": error.reason}}, error.status)
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _json({"ok": False, "error": {"code": "internal_error", "message": "Internal error"}}, 500)


async def _as(request: web.Request, allowed: str, work: Work) -> Any:
    """Run work in one transaction as the authenticated caller."""
    engine = request.app[_ENGINE]
    token = bearer(request.headers.get("Authorization"))
    return await engine.store.run(lambda tx: work(tx, authenticate(tx, token, allowed)))


def _agent_only(caller: Caller) -> Caller:
    if caller.kind != "agent":
        raise EngineError(403, "agent_token_required", "Agent token required")
    return caller


def _limit(request: web.Request, default: int, most: int) -> int:
    text = request.query.get("limit", str(default))
    if not text.isdigit() or int(text) < 1:
        raise invalid("limit must be a positive number")
    return min(int(text), most)


routes = web.RouteTableDef()


@routes.get("/health")
async def _health(_request: web.Request) -> web.Response:
    return _json({"ok": True, "status": "ok", "service": "relaybroker-engine"})


# --- workspaces ------------------------------------------------------------------------------------------------------------


@routes.post("/v1/workspaces")
async def _create_workspace(request: web.Request) -> web.Response:
    body = await read_body(request, WorkspaceBody)
    engine = request.app[_ENGINE]
    token = bearer(request.headers.get("Authorization"))

    def work(tx: Tx) -> tuple[int, dict[str, Any]]:
        known = tx.one("SELECT * FROM workspaces WHERE name = ?", body.name)
        if known is not None:
            if token and known["key_hash"] == ids.digest(token):
                created = ids.iso(known["created_at"])
                return 200, {"workspace_id": known["id"], "api_key": token, "created_at": created}
            raise EngineError(409, "workspace_already_exists", "A workspace with this name already exists")
        workspace_id, key = engine.ids.next(), ids.workspace_key()
        tx.run(
            "INSERT INTO workspaces (id, name, key_hash, created_at) VALUES (?,?,?,?)",
            workspace_id, body.name, ids.digest(key), tx.now,
        )  # fmt: skip
        channels.create(tx, engine, workspace_id, name="general", topic="General discussion")
        return 201, {"workspace_id": workspace_id, "api_key": key, "created_at": ids.iso(tx.now)}

    status, data = await engine.store.run(work)
    return _ok(data, status)


@routes.get("/v1/workspaces/by-name/{name}")
async def _workspace_by_name(request: web.Request) -> web.Response:
    def work(tx: Tx) -> dict[str, Any]:
        row = tx.one("SELECT * FROM workspaces WHERE name = ?", request.match_info["name"])
        if row is None:
            raise not_found("workspace_not_found", "Workspace not found")
        return {"id": row["id"], "name": row["name"], "created_at": ids.iso(row["created_at"])}

    return _ok(await request.app[_ENGINE].store.run(work))


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

    return _ok(await _as(request, "W", work))


# --- agents ------------------------------------------------------------------------------------------------------------------


@routes.post("/v1/agents")
async def _create_agent(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
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
        shown = agents.view(row)
        picked = {key: shown[key] for key in ("id", "workspace_id", "name", "handle", "capabilities", "created_at")}
        return picked | {"token": token, "status": "online"}

    return _ok(await _as(request, "W", work), 201)


@routes.get("/v1/agents")
async def _list_agents(request: web.Request) -> web.Response:
    wanted = request.query.get("status", "all")

    def work(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
        rows = tx.all("SELECT * FROM agents WHERE workspace_id = ? ORDER BY created_at, id", caller.workspace_id)
        return [agents.view(row) for row in rows if wanted in ("all", row["status"])]

    return _ok(await _as(request, "W", work))


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

    return _ok(await _as(request, "WA", work))


@routes.post("/v1/agents/heartbeat")
async def _agent_heartbeat(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]

    def work(tx: Tx, caller: Caller) -> None:
        agents.set_status(tx, engine, agents.find(tx, caller.workspace_id, caller.name), "active")

    await _as(request, "A", work)
    return _json({"ok": True})


@routes.post("/v1/agents/disconnect")
async def _agent_disconnect(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]

    def work(tx: Tx, caller: Caller) -> None:
        agents.set_status(tx, engine, agents.find(tx, caller.workspace_id, caller.name), "offline")

    await _as(request, "A", work)
    return _json({"ok": True})


@routes.post("/v1/agents/spawn")
async def _spawn(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
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
    target = body.target_node or body.node or body.target
    if target:
        given["target_node"] = target
    return _ok(await _as(request, "WA", lambda tx, caller: actions.spawn(tx, engine, caller, given)), 201)


@routes.post("/v1/agents/release")
async def _release(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
    body = await read_body(request, ReleaseBody)
    given = body.model_dump(exclude_none=True)
    return _ok(await _as(request, "WA", lambda tx, caller: actions.release(tx, engine, caller, given)), 201)


@routes.get("/v1/agents/{name}")
async def _get_agent(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    return _ok(
        await _as(request, "W", lambda tx, caller: agents.details(tx, agents.find(tx, caller.workspace_id, name)))
    )


@routes.get("/v1/agent")
async def _me(request: web.Request) -> web.Response:
    return _ok(
        await _as(
            request, "A", lambda tx, caller: agents.details(tx, agents.find(tx, caller.workspace_id, caller.name))
        )
    )


@routes.patch("/v1/agents/{name}")
async def _patch_agent(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
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

    return _ok(await _as(request, "W", work))


@routes.delete("/v1/agents/{name}")
async def _delete_agent(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    await _as(request, "W", lambda tx, caller: agents.delete(tx, agents.find(tx, caller.workspace_id, name)))
    return web.Response(status=204)


@routes.post("/v1/agent/node-token")
async def _node_token(request: web.Request) -> web.Response:
    return _ok(await _as(request, "A", lambda tx, caller: nodes.direct_token(tx, caller.workspace_id, caller.id)))


@routes.post("/v1/agents/{name}/rotate-token")
async def _rotate(request: web.Request) -> web.Response:
    name = request.match_info["name"]

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        return {"name": name, "token": agents.rotate(tx, agents.find(tx, caller.workspace_id, name)["id"])}

    return _ok(await _as(request, "W", work))


# --- nodes ---------------------------------------------------------------------------------------------------------------------


@routes.post("/v1/nodes")
async def _enrol(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
    body = await read_body(request, NodeBody)
    given = body.model_dump(exclude_none=True)
    return _ok(await _as(request, "W", lambda tx, caller: nodes.enrol(tx, engine, caller.workspace_id, given)), 201)


@routes.get("/v1/nodes")
async def _list_nodes(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
    capability, name = request.query.get("capability"), request.query.get("name")

    def work(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
        rows = tx.all("SELECT * FROM nodes WHERE workspace_id = ? ORDER BY created_at, id", caller.workspace_id)
        shown = [nodes.view(tx, engine, row) for row in rows if name in (None, row["name"])]
        if capability is None:
            return shown
        return [item for item in shown if any(found["name"] == capability for found in item["capabilities"])]

    return _ok(await _as(request, "WA", work))


@routes.get("/v1/nodes/{name}")
async def _get_node(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
    name = request.match_info["name"]
    return _ok(
        await _as(
            request,
            "WA",
            lambda tx, caller: nodes.view(tx, engine, nodes.find(tx, caller.workspace_id, name)),
        )
    )


@routes.get("/v1/nodes/{name}/agents")
async def _node_agents(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    return _ok(
        await _as(request, "WA", lambda tx, caller: nodes.bindings(tx, nodes.find(tx, caller.workspace_id, name)))
    )


@routes.post("/v1/nodes/{name}/agents")
async def _bind(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
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
            priority=body.priority,
        )
        agents.set_status(tx, engine, agent, "active")
        return nodes.binding_view(tx, row, node)

    return _ok(await _as(request, "W", work), 201)


@routes.delete("/v1/nodes/{name}/agents/{agent}")
async def _unbind(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]

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

    await _as(request, "W", work)
    return web.Response(status=204)


# --- channels ------------------------------------------------------------------------------------------------------------------


@routes.post("/v1/channels")
async def _create_channel(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
    body = await read_body(request, ChannelBody)

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        creator = caller.id if caller.kind == "agent" else None
        row = channels.create(
            tx,
            engine,
            caller.workspace_id,
            name=body.name,
            topic=body.topic,
            metadata=body.metadata,
            creator_id=creator,
        )
        return channels.view(tx, row)

    return _ok(await _as(request, "WA", work), 201)


@routes.get("/v1/channels")
async def _list_channels(request: web.Request) -> web.Response:
    archived = request.query.get("include_archived") == "true"

    def work(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
        rows = tx.all(
            "SELECT * FROM channels WHERE workspace_id = ? AND kind = 'channel' AND (is_archived = 0 OR ?) ORDER BY name",
            caller.workspace_id, archived,
        )  # fmt: skip
        return [channels.view(tx, row) for row in rows]

    return _ok(await _as(request, "WA", work))


@routes.get("/v1/channels/{name}")
async def _get_channel(request: web.Request) -> web.Response:
    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        row = channels.find(tx, caller.workspace_id, request.match_info["name"])
        return channels.view(tx, row) | {"members": channels.members(tx, row["id"])}

    return _ok(await _as(request, "WA", work))


@routes.post("/v1/channels/{name}/join")
async def _join(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        row = channels.find(tx, caller.workspace_id, request.match_info["name"])
        added = channels.join(tx, engine, row, caller.id, caller.name)
        return {"channel": row["name"], "agent_id": caller.id, "already_member": not added}

    return _ok(await _as(request, "A", work))


@routes.post("/v1/channels/{name}/leave")
async def _leave(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]

    def work(tx: Tx, caller: Caller) -> None:
        row = channels.find(tx, caller.workspace_id, request.match_info["name"])
        channels.leave(tx, engine, row, caller.id, caller.name)

    await _as(request, "A", work)
    return web.Response(status=204)


@routes.post("/v1/channels/{name}/{verb:mute|unmute}")
async def _mute(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
    muted = request.match_info["verb"] == "mute"

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        row = channels.find(tx, caller.workspace_id, request.match_info["name"])
        channels.mute(tx, engine, row, caller.id, caller.name, muted=muted)
        return {"channel": row["name"], "agent_id": caller.id, "muted": muted}

    return _ok(await _as(request, "A", work))


@routes.post("/v1/channels/{name}/invite")
async def _invite(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
    body = await read_body(request, InviteBody)

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        _agent_only(caller)
        row = channels.find(tx, caller.workspace_id, request.match_info["name"])
        if not tx.one("SELECT 1 FROM members WHERE channel_id = ? AND agent_id = ?", row["id"], caller.id):
            raise EngineError(403, "not_a_member", "Not a member of this channel")
        guest = agents.find(tx, caller.workspace_id, body.agent_name)
        channels.join(tx, engine, row, guest["id"], guest["name"])
        return {"channel": row["name"], "agent": guest["name"]}

    return _ok(await _as(request, "WA", work))


@routes.get("/v1/channels/{name}/members")
async def _members(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    return _ok(
        await _as(
            request,
            "WA",
            lambda tx, caller: channels.members(tx, channels.find(tx, caller.workspace_id, name)["id"]),
        )
    )


@routes.get("/v1/channels/{name}/read-status")
async def _read_status(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    return _ok(
        await _as(
            request,
            "WA",
            lambda tx, caller: messages.read_status(tx, channels.find(tx, caller.workspace_id, name)["id"]),
        )
    )


# --- messages ------------------------------------------------------------------------------------------------------------------


async def _post_once(
    request: web.Request, allowed: str, scope: str, given: dict[str, Any], work: Callable[[Tx, Caller], Any]
) -> web.Response:
    key = checked(request.headers.get("Idempotency-Key") or request.headers.get("X-Idempotency-Key"))

    def run(tx: Tx, caller: Caller) -> tuple[int, Any, bool]:
        return once(tx, _agent_only(caller), scope, key, given, lambda: (201, work(tx, caller)))

    status, data, replayed = await _as(request, allowed, run)
    headers = {"Idempotency-Replayed": "true"} if replayed else None
    return _json({"ok": True, "data": data}, status, headers)


@routes.post("/v1/channels/{name}/messages")
async def _post_message(request: web.Request) -> web.Response:
    engine, name = request.app[_ENGINE], request.match_info["name"]
    given = (await read_body(request, MessageBody)).model_dump(exclude_none=True)
    return await _post_once(
        request, "WA", f"channel:{name}", given, lambda tx, caller: messages.post(tx, engine, caller, name, given)
    )


@routes.get("/v1/channels/{name}/messages")
async def _list_messages(request: web.Request) -> web.Response:
    limit = _limit(request, 50, 100)

    def work(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
        row = channels.find(tx, caller.workspace_id, request.match_info["name"])
        found = messages.page(tx, row["id"], limit + 1, request.query.get("before"), request.query.get("after"))
        return [messages.view(item) for item in found]

    found = await _as(request, "WA", work)
    more = len(found) > limit
    found = found[:limit]
    return _ok(found, cursor={"next": found[-1]["id"] if more else None, "has_more": more})


@routes.get("/v1/messages/{id}")
async def _get_message(request: web.Request) -> web.Response:
    message_id = request.match_info["id"]
    return _ok(
        await _as(
            request,
            "WA",
            lambda tx, caller: messages.details(tx, messages.find(tx, caller.workspace_id, message_id)),
        )
    )


@routes.post("/v1/messages/{id}/replies")
async def _reply(request: web.Request) -> web.Response:
    engine, message_id = request.app[_ENGINE], request.match_info["id"]
    given = (await read_body(request, MessageBody)).model_dump(exclude_none=True)
    return await _post_once(
        request,
        "A",
        f"reply:{message_id}",
        given,
        lambda tx, caller: messages.reply(tx, engine, caller, message_id, given),
    )


@routes.get("/v1/messages/{id}/replies")
async def _replies(request: web.Request) -> web.Response:
    message_id = request.match_info["id"]
    return _ok(
        await _as(
            request,
            "WA",
            lambda tx, caller: messages.replies_of(tx, messages.find(tx, caller.workspace_id, message_id)),
        )
    )


@routes.post("/v1/messages/{id}/reactions")
async def _react(request: web.Request) -> web.Response:
    engine, message_id = request.app[_ENGINE], request.match_info["id"]
    body = await read_body(request, ReactionBody)
    return _ok(
        await _as(request, "A", lambda tx, caller: messages.react(tx, engine, caller, message_id, body.emoji)),
        201,
    )


@routes.delete("/v1/messages/{id}/reactions/{emoji}")
async def _unreact(request: web.Request) -> web.Response:
    engine, message_id, emoji = request.app[_ENGINE], request.match_info["id"], request.match_info["emoji"]
    await _as(request, "A", lambda tx, caller: messages.unreact(tx, engine, caller, message_id, emoji))
    return web.Response(status=204)


@routes.get("/v1/messages/{id}/reactions")
async def _reactions(request: web.Request) -> web.Response:
    message_id = request.match_info["id"]
    return _ok(
        await _as(
            request,
            "WA",
            lambda tx, caller: messages.reactions(tx, messages.find(tx, caller.workspace_id, message_id)["id"]),
        )
    )


@routes.post("/v1/messages/{id}/read")
async def _read(request: web.Request) -> web.Response:
    engine, message_id = request.app[_ENGINE], request.match_info["id"]
    return _ok(await _as(request, "A", lambda tx, caller: messages.read(tx, engine, caller, message_id)))


@routes.get("/v1/messages/{id}/readers")
async def _readers(request: web.Request) -> web.Response:
    message_id = request.match_info["id"]
    return _ok(
        await _as(
            request,
            "WA",
            lambda tx, caller: messages.readers(tx, messages.find(tx, caller.workspace_id, message_id)["id"]),
        )
    )


# --- direct messages -----------------------------------------------------------------------------------------------------------


@routes.post("/v1/dm")
async def _dm(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
    given = (await read_body(request, DmBody)).model_dump(exclude_none=True)
    return await _post_once(request, "A", "dm", given, lambda tx, caller: messages.direct(tx, engine, caller, given))


@routes.get("/v1/dm/conversations")
async def _conversations(request: web.Request) -> web.Response:
    return _ok(await _as(request, "A", messages.conversations))


@routes.post("/v1/dm/group")
async def _group(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
    body = await read_body(request, GroupBody)
    return _ok(
        await _as(
            request,
            "A",
            lambda tx, caller: messages.open_group(tx, engine, caller, body.participants, body.name),
        ),
        201,
    )


@routes.get("/v1/dm/{conversation}/messages")
async def _dm_messages(request: web.Request) -> web.Response:
    limit = _limit(request, 50, 100)

    def work(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
        row = messages.conversation_of(tx, caller, request.match_info["conversation"])
        picked = ("id", "agent_id", "agent_name", "text", "injection_mode", "attachments", "created_at")
        found = messages.page(tx, row["channel_id"], limit, request.query.get("before"), request.query.get("after"))
        return [{key: messages.view(item)[key] for key in picked} for item in found]

    return _ok(await _as(request, "A", work))


@routes.post("/v1/dm/{conversation}/messages")
async def _dm_post(request: web.Request) -> web.Response:
    engine, conversation = request.app[_ENGINE], request.match_info["conversation"]
    given = (await read_body(request, MessageBody)).model_dump(exclude_none=True)
    return await _post_once(
        request,
        "A",
        f"dm:{conversation}",
        given,
        lambda tx, caller: messages.post_to_conversation(tx, engine, caller, conversation, given),
    )


# --- deliveries ----------------------------------------------------------------------------------------------------------------


_STATUSES = ("queued", "delivered", "acked", "failed", "dead_lettered")


@routes.get("/v1/deliveries")
async def _deliveries(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
    status, limit = request.query.get("status"), _limit(request, 100, 200)
    if status is not None and status not in _STATUSES:
        raise invalid("unknown status")
    return _ok(await _as(request, "A", lambda tx, caller: deliveries.listing(tx, engine, caller.id, status, limit)))


@routes.post("/v1/deliveries/{id}/ack")
async def _ack(request: web.Request) -> web.Response:
    delivery_id = request.match_info["id"]
    return _ok(await _as(request, "A", lambda tx, caller: deliveries.rest_ack(tx, caller.id, delivery_id)))


@routes.get("/v1/inbox")
async def _inbox(request: web.Request) -> web.Response:
    return _ok(await _as(request, "A", messages.inbox))


# --- actions -------------------------------------------------------------------------------------------------------------------


@routes.post("/v1/actions")
async def _register_action(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
    given = (await read_body(request, ActionBody)).model_dump(exclude_none=True)
    return _ok(await _as(request, "WA", lambda tx, caller: actions.register(tx, engine, caller, given)), 201)


@routes.get("/v1/actions")
async def _list_actions(request: web.Request) -> web.Response:
    def work(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
        rows = tx.all("SELECT * FROM actions WHERE workspace_id = ? ORDER BY name", caller.workspace_id)
        return [actions.view(tx, row) for row in rows]

    return _ok(await _as(request, "WA", work))


@routes.get("/v1/actions/{name}")
async def _get_action(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    return _ok(
        await _as(request, "WA", lambda tx, caller: actions.view(tx, actions.find(tx, caller.workspace_id, name)))
    )


@routes.delete("/v1/actions/{name}")
async def _delete_action(request: web.Request) -> web.Response:
    name = request.match_info["name"]

    def work(tx: Tx, caller: Caller) -> None:
        tx.run("DELETE FROM actions WHERE id = ?", actions.find(tx, caller.workspace_id, name)["id"])

    await _as(request, "WA", work)
    return web.Response(status=204)


@routes.post("/v1/actions/{name}/invoke")
async def _invoke(request: web.Request) -> web.Response:
    engine, name = request.app[_ENGINE], request.match_info["name"]
    body = await read_body(request, InvokeBody)
    try:
        return _ok(
            await _as(
                request,
                "WA",
                lambda tx, caller: actions.invoke(tx, engine, _agent_only(caller), name, body.input),
            ),
            201,
        )
    except EngineError as error:
        if error.code == "action_denied":
            message = error.message
            await _as(request, "A", lambda tx, caller: actions.denied(tx, engine, caller, name, message))
        raise


@routes.post("/v1/actions/{name}/invocations/{id}/complete")
async def _complete(request: web.Request) -> web.Response:
    engine, name, invocation_id = request.app[_ENGINE], request.match_info["name"], request.match_info["id"]
    given = (await read_body(request, CompleteBody)).model_dump()
    return _ok(
        await _as(
            request,
            "WA",
            lambda tx, caller: actions.complete_by_agent(tx, engine, caller, name, invocation_id, given),
        )
    )


@routes.get("/v1/actions/{name}/invocations/{id}")
async def _invocation(request: web.Request) -> web.Response:
    name, invocation_id = request.match_info["name"], request.match_info["id"]
    return _ok(
        await _as(request, "WA", lambda tx, caller: actions.details(tx, caller.workspace_id, name, invocation_id))
    )


# --- sockets -------------------------------------------------------------------------------------------------------------------


@routes.get("/v1/node/ws")
async def _node_ws(request: web.Request) -> web.StreamResponse:
    return await serve_node(request.app[_ENGINE], request)


@routes.get("/v1/ws")
async def _observer_ws(request: web.Request) -> web.StreamResponse:
    require_upgrade(request)
    engine, token = request.app[_ENGINE], token_of(request)
    caller = await engine.store.run(lambda tx: authenticate(tx, token, "W"))
    socket = web.WebSocketResponse(heartbeat=30.0)
    await socket.prepare(request)
    outbox = Outbox(socket, lambda _written: None)
    engine.hub.observe(outbox, caller.workspace_id)
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT and '"ping"' in message.data:
                outbox.put('{"type":"pong"}')
    finally:
        engine.hub.forget_observer(outbox)
        await outbox.close()
    return socket


# --- life cycle ----------------------------------------------------------------------------------------------------------------


class EmbeddedEngine:
    """A running engine in this process: `async with EmbeddedEngine(path) as engine: engine.base_url`.

    Args:
        db_path: database file, created when it is absent.
        host: address to bind.
        port: 0 = chosen by the OS.
        limits: times and bounds.
    """

    def __init__(self, db_path: str, host: str = "127.0.0.1", port: int = 0, *, limits: Limits | None = None) -> None:
        self._db_path, self._host, self._port = db_path, host, port
        self._limits = limits or Limits()
        self.base_url = ""

    async def __aenter__(self) -> Self:
        engine = Engine(Store(self._db_path, _now), self._limits)
        self.engine = engine
        newest = await engine.store.run(_newest_id)
        engine.ids.start_after(newest)
        await engine.store.run(_nobody_is_connected)
        app = web.Application(middlewares=[_envelope], client_max_size=MAX_BODY_BYTES)
        app[_ENGINE] = engine
        app["background"] = set()
        app.add_routes(routes)
        app.router.add_route("*", "/{rest:.*}", _unknown)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.port = int(port)
        self.base_url = f"http://{f'[{host}]' if ':' in str(host) else host}:{port}"
        self._sweeper = asyncio.create_task(self._sweep())
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._sweeper.cancel()
        await asyncio.gather(self._sweeper, return_exceptions=True)
        for connection in self.engine.hub.node_sockets():
            await connection.socket.close(code=1001, message=b"engine stopping")
        await self._runner.cleanup()
        await self.engine.store.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._limits.sweep_every_s)
            await self.engine.store.run(lambda tx: nodes.sweep(tx, self.engine))


def _now() -> float:
    import time  # noqa: PLC0415 - the one clock of the engine

    return time.time()


def _newest_id(tx: Tx) -> str | None:
    row = tx.one("SELECT MAX(id) AS newest FROM messages")
    return None if row is None or row["newest"] is None else str(row["newest"])


def _nobody_is_connected(tx: Tx) -> None:
    """After a restart no node has a socket: they say so themselves when they are back."""
    tx.run("UPDATE nodes SET status = 'offline', handlers_live = 0 WHERE status = 'online'")
    tx.run("UPDATE invocations SET status = 'pending', next_attempt_at = ? WHERE status = 'dispatched'", tx.now)


async def _unknown(request: web.Request) -> web.Response:
    if request.headers.get("Upgrade", "").lower() == "websocket":
        raise EngineError(426, "upgrade_required", "No WebSocket here")
    raise not_found("not_found", "Not found")


async def serve(
    db_path: str,
    host: str = "127.0.0.1",
    port: int = 8787,
    *,
    ready: Callable[[EmbeddedEngine], None] | None = None,
    limits: Limits | None = None,
) -> None:
    """Run an engine until this task is cancelled; `ready` is called once it listens."""
    async with EmbeddedEngine(db_path, host, port, limits=limits) as engine:
        if ready is not None:
            ready(engine)
        await asyncio.Event().wait()
