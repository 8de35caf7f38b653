"""Messages, threads, reactions, receipts.

Source: spec/engine-contract.md section 2.4.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from relaybroker.engine import channels, messages, providers, reactions
from relaybroker.engine.auth import Caller
from relaybroker.engine.models import ChannelMessageBody, MessageBody, ReactionBody, read_body
from relaybroker.engine.rest.api import as_caller, between, engine_of, limit_of, ok, page_of, post_once
from relaybroker.engine.store import Tx

routes = web.RouteTableDef()


@routes.post("/v1/channels/{name}/messages")
async def _post_message(request: web.Request) -> web.Response:
    engine, name = engine_of(request), request.match_info["name"]
    given = (await read_body(request, ChannelMessageBody)).model_dump(exclude_none=True)

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        return messages.post(tx, engine, providers.speaker(tx, caller, given.get("sender")), name, given)

    return await post_once(request, f"channel:{name}", given, work)


@routes.get("/v1/channels/{name}/messages")
async def _list_messages(request: web.Request) -> web.Response:
    limit, (low, high) = limit_of(request, 50, 100), between(request)

    def work(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
        row = channels.find(tx, caller.workspace_id, request.match_info["name"])
        rows = messages.page(tx, row["id"], limit + 1, low, high)
        return [messages.view(item) for item in rows]

    return page_of(await as_caller(request, work), limit)


@routes.get("/v1/messages/{id}")
async def _get_message(request: web.Request) -> web.Response:
    message_id = request.match_info["id"]
    return ok(
        await as_caller(
            request,
            lambda tx, caller: reactions.details(tx, caller, messages.find(tx, caller.workspace_id, message_id)),
        )
    )


@routes.post("/v1/messages/{id}/replies")
async def _reply(request: web.Request) -> web.Response:
    engine, message_id = engine_of(request), request.match_info["id"]
    given = (await read_body(request, MessageBody)).model_dump(exclude_none=True)
    return await post_once(
        request,
        f"reply:{message_id}",
        given,
        lambda tx, caller: messages.reply(tx, engine, caller, message_id, given),
    )


@routes.get("/v1/messages/{id}/replies")
async def _replies(request: web.Request) -> web.Response:
    message_id = request.match_info["id"]
    return ok(
        await as_caller(
            request,
            lambda tx, caller: messages.replies_of(tx, messages.find(tx, caller.workspace_id, message_id)),
        )
    )


@routes.post("/v1/messages/{id}/reactions")
async def _react(request: web.Request) -> web.Response:
    engine, message_id = engine_of(request), request.match_info["id"]
    body = await read_body(request, ReactionBody)
    return ok(
        await as_caller(request, lambda tx, caller: reactions.react(tx, engine, caller, message_id, body.emoji)),
        201,
    )


@routes.delete("/v1/messages/{id}/reactions/{emoji}")
async def _unreact(request: web.Request) -> web.Response:
    engine, message_id, emoji = engine_of(request), request.match_info["id"], request.match_info["emoji"]
    await as_caller(request, lambda tx, caller: reactions.unreact(tx, engine, caller, message_id, emoji))
    return web.Response(status=204)


@routes.get("/v1/messages/{id}/reactions")
async def _reactions(request: web.Request) -> web.Response:
    message_id = request.match_info["id"]
    return ok(
        await as_caller(
            request,
            lambda tx, caller: reactions.grouped(tx, messages.find(tx, caller.workspace_id, message_id)["id"]),
        )
    )


@routes.post("/v1/messages/{id}/read")
async def _read(request: web.Request) -> web.Response:
    engine, message_id = engine_of(request), request.match_info["id"]
    return ok(await as_caller(request, lambda tx, caller: reactions.read(tx, engine, caller, message_id)))


@routes.get("/v1/messages/{id}/readers")
async def _readers(request: web.Request) -> web.Response:
    message_id = request.match_info["id"]
    return ok(
        await as_caller(
            request,
            lambda tx, caller: reactions.readers(tx, messages.find(tx, caller.workspace_id, message_id)["id"]),
        )
    )
