"""Direct and group messages.

Source: spec/engine-contract.md section 2.5.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from aiohttp import web

from relaybroker.engine import conversations, messages
from relaybroker.engine.auth import Caller
from relaybroker.engine.models import DmBody, GroupBody, InviteBody, MessageBody, read_body
from relaybroker.engine.rest.api import as_caller, between, engine_of, limit_of, ok, page_of, post_once
from relaybroker.engine.store import Tx

routes = web.RouteTableDef()


@routes.post("/v1/dm")
async def _dm(request: web.Request) -> web.Response:
    engine = engine_of(request)
    given = (await read_body(request, DmBody)).model_dump(exclude_none=True)
    return await post_once(request, "dm", given, lambda tx, caller: conversations.direct(tx, engine, caller, given))


@routes.get("/v1/dm/conversations")
async def _conversations(request: web.Request) -> web.Response:
    return ok(await as_caller(request, conversations.listing))


@routes.post("/v1/dm/group")
async def _group(request: web.Request) -> web.Response:
    engine = engine_of(request)
    body = await read_body(request, GroupBody)
    return ok(
        await as_caller(
            request,
            lambda tx, caller: conversations.open_group(tx, engine, caller, body.participants, body.name),
        ),
        201,
    )


@routes.get("/v1/dm/conversations/all")
async def _every_conversation(request: web.Request) -> web.Response:
    limit, before = limit_of(request, 100, 200), request.query.get("before", "")
    return page_of(
        await as_caller(
            request, lambda tx, caller: conversations.of_workspace(tx, caller.workspace_id, limit + 1, before)
        ),
        limit,
    )


@routes.get("/v1/dm/conversations/{conversation}/messages")
async def _operators_messages(request: web.Request) -> web.Response:
    return await _messages_of(request, lambda tx, caller, name: conversations.find(tx, caller.workspace_id, name))


@routes.get("/v1/dm/{conversation}/messages")
async def _dm_messages(request: web.Request) -> web.Response:
    return await _messages_of(request, conversations.conversation_of)


async def _messages_of(request: web.Request, find: Callable[[Tx, Caller, str], sqlite3.Row]) -> web.Response:
    limit, (low, high) = limit_of(request, 50, 100), between(request)

    def work(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
        row = find(tx, caller, request.match_info["conversation"])
        picked = ("id", "agent_id", "agent_name", "text", "injection_mode", "attachments", "created_at")
        rows = messages.page(tx, row["channel_id"], limit + 1, low, high)
        return [{key: messages.view(item)[key] for key in picked} for item in rows]

    return page_of(await as_caller(request, work), limit)


@routes.post("/v1/dm/{conversation}/participants")
async def _add_participant(request: web.Request) -> web.Response:
    conversation, body = request.match_info["conversation"], await read_body(request, InviteBody)
    return ok(
        await as_caller(
            request, lambda tx, caller: conversations.add_participant(tx, caller, conversation, body.agent_name)
        )
    )


@routes.delete("/v1/dm/{conversation}/participants/{agent}")
async def _leave(request: web.Request) -> web.Response:
    conversation, name = request.match_info["conversation"], request.match_info["agent"]
    await as_caller(request, lambda tx, caller: conversations.leave(tx, caller, conversation, name))
    return web.Response(status=204)


@routes.post("/v1/dm/{conversation}/messages")
async def _dm_post(request: web.Request) -> web.Response:
    engine, conversation = engine_of(request), request.match_info["conversation"]
    given = (await read_body(request, MessageBody)).model_dump(exclude_none=True)
    return await post_once(
        request,
        f"dm:{conversation}",
        given,
        lambda tx, caller: conversations.post_to_conversation(tx, engine, caller, conversation, given),
    )
