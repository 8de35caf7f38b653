"""Channels and who is in them.

Source: spec/engine-contract.md section 2.4.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from relaybroker.engine import agents, channels, reactions
from relaybroker.engine.auth import Caller
from relaybroker.engine.models import ChannelBody, ChannelPatch, InviteBody, TopicBody, read_body
from relaybroker.engine.rest.api import as_caller, engine_of, ok
from relaybroker.engine.store import Tx

routes = web.RouteTableDef()


@routes.post("/v1/channels")
async def _create_channel(request: web.Request) -> web.Response:
    engine = engine_of(request)
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

    return ok(await as_caller(request, work), 201)


@routes.get("/v1/channels")
async def _list_channels(request: web.Request) -> web.Response:
    archived = request.query.get("include_archived") == "true"

    def work(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
        rows = tx.all(
            "SELECT * FROM channels WHERE workspace_id = ? AND kind = 'channel' AND (is_archived = 0 OR ?) ORDER BY name",
            caller.workspace_id, archived,
        )  # fmt: skip
        return [channels.view(tx, row) for row in rows]

    return ok(await as_caller(request, work))


@routes.get("/v1/channels/{name}")
async def _get_channel(request: web.Request) -> web.Response:
    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        row = channels.find(tx, caller.workspace_id, request.match_info["name"])
        return channels.view(tx, row) | {"members": channels.members(tx, row["id"])}

    return ok(await as_caller(request, work))


@routes.patch("/v1/channels/{name}")
async def _update(request: web.Request) -> web.Response:
    engine = engine_of(request)
    sent = (await read_body(request, ChannelPatch)).model_dump(exclude_unset=True)

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        row = channels.find(tx, caller.workspace_id, request.match_info["name"])
        return channels.view(tx, channels.update(tx, engine, row, sent))

    return ok(await as_caller(request, work))


@routes.delete("/v1/channels/{name}")
async def _archive(request: web.Request) -> web.Response:
    engine, name = engine_of(request), request.match_info["name"]
    await as_caller(
        request, lambda tx, caller: channels.archive(tx, engine, channels.find(tx, caller.workspace_id, name))
    )
    return web.Response(status=204)


@routes.patch("/v1/channels/{name}/topic")
async def _set_topic(request: web.Request) -> web.Response:
    engine = engine_of(request)
    body = await read_body(request, TopicBody)

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        row = channels.find(tx, caller.workspace_id, request.match_info["name"])
        return channels.view(tx, channels.update(tx, engine, row, {"topic": body.topic}))

    return ok(await as_caller(request, work))


@routes.post("/v1/channels/{name}/join")
async def _join(request: web.Request) -> web.Response:
    engine = engine_of(request)

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        row = channels.find(tx, caller.workspace_id, request.match_info["name"])
        added = channels.join(tx, engine, row, caller.id, caller.name)
        return {"channel": row["name"], "agent_id": caller.id, "already_member": not added}

    return ok(await as_caller(request, work))


@routes.post("/v1/channels/{name}/leave")
async def _leave(request: web.Request) -> web.Response:
    engine = engine_of(request)

    def work(tx: Tx, caller: Caller) -> None:
        row = channels.find(tx, caller.workspace_id, request.match_info["name"])
        channels.leave(tx, engine, row, caller.id, caller.name)

    await as_caller(request, work)
    return web.Response(status=204)


@routes.post("/v1/channels/{name}/{verb:mute|unmute}")
async def _mute(request: web.Request) -> web.Response:
    engine = engine_of(request)
    muted = request.match_info["verb"] == "mute"

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        row = channels.find(tx, caller.workspace_id, request.match_info["name"])
        channels.mute(tx, engine, row, caller.id, caller.name, muted=muted)
        return {"channel": row["name"], "agent_id": caller.id, "muted": muted}

    return ok(await as_caller(request, work))


@routes.post("/v1/channels/{name}/invite")
async def _invite(request: web.Request) -> web.Response:
    engine = engine_of(request)
    body = await read_body(request, InviteBody)

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        row = channels.find(tx, caller.workspace_id, request.match_info["name"])
        guest = agents.find(tx, caller.workspace_id, body.agent_name)
        channels.join(tx, engine, row, guest["id"], guest["name"])
        return {"channel": row["name"], "agent": guest["name"]}

    return ok(await as_caller(request, work))


@routes.get("/v1/channels/{name}/members")
async def _members(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    return ok(
        await as_caller(
            request,
            lambda tx, caller: channels.members(tx, channels.find(tx, caller.workspace_id, name)["id"]),
        )
    )


@routes.get("/v1/channels/{name}/read-status")
async def _read_status(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    return ok(
        await as_caller(
            request,
            lambda tx, caller: reactions.read_status(tx, channels.find(tx, caller.workspace_id, name)["id"]),
        )
    )
