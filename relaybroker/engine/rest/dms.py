"""Direct and group messages.

Source: spec/engine-contract.md section 2.5.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from relaybroker.engine import conversations, messages
from relaybroker.engine.auth import Caller
from relaybroker.engine.models import DmBody, GroupBody, MessageBody, read_body
from relaybroker.engine.rest.api import as_caller, between, engine_of, limit_of, ok, post_once
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


@routes.get("/v1/dm/{conversation}/messages")
async def _dm_messages(request: web.Request) -> web.Response:
    limit, (low, high) = limit_of(request, 50, 100), between(request)

    def work(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
        row = conversations.conversation_of(tx, caller, request.match_info["conversation"])
        picked = ("id", "agent_id", "agent_name", "text", "injection_mode", "attachments", "created_at")
        rows = messages.page(tx, row["channel_id"], limit, low, high)
        return [{key: messages.view(item)[key] for key in picked} for item in rows]

    return ok(await as_caller(request, work))


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
