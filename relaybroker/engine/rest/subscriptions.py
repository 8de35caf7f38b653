"""Subscriptions.

Source: spec/engine-contract.md section 2.13.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from relaybroker.engine import subscriptions
from relaybroker.engine.auth import Caller
from relaybroker.engine.errors import EngineError, invalid
from relaybroker.engine.models import SubscriptionBody, read_body
from relaybroker.engine.rest.api import as_caller, between, engine_of, limit_of, ok, page_of
from relaybroker.engine.store import Tx

EVENTS = frozenset(
    {
        "message.created", "thread.reply", "message.reacted", "message.read", "dm.received", "group_dm.received",
        "agent.status.active", "agent.status.idle", "agent.status.blocked", "agent.status.waiting", "agent.status.offline",
        "channel.created", "channel.updated", "channel.archived", "member.joined", "member.left",
        "file.uploaded", "webhook.received", "delivery.deferred", "delivery.failed", "action.completed", "action.failed",
    }
)  # fmt: skip
"""What happens here and can be subscribed to."""
NOT_TOLD = frozenset(
    {"message.updated", "agent.status.changed", "delivery.accepted", "delivery.delivered", "action.invoked", "action.denied"}
)  # fmt: skip
"""What SDKs can ask for besides, and this engine does not tell."""

routes = web.RouteTableDef()


def _require_told(events: list[str]) -> None:
    for event in events:
        if event in NOT_TOLD:
            raise EngineError(501, "not_implemented", f"This engine does not tell of {event}")
        if event not in EVENTS:
            raise invalid("events: unknown event")


@routes.post("/v1/subscriptions")
async def _create(request: web.Request) -> web.Response:
    engine = engine_of(request)
    given = (await read_body(request, SubscriptionBody)).model_dump()

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        _require_told(given["events"])
        return subscriptions.create(tx, engine, caller.workspace_id, given)

    return ok(await as_caller(request, work), 201)


@routes.get("/v1/subscriptions")
async def _list(request: web.Request) -> web.Response:
    return ok(await as_caller(request, lambda tx, caller: subscriptions.listing(tx, caller.workspace_id)))


@routes.get("/v1/subscriptions/{id}")
async def _show(request: web.Request) -> web.Response:
    wanted = request.match_info["id"]
    return ok(
        await as_caller(
            request, lambda tx, caller: subscriptions.view(tx, subscriptions.find(tx, caller.workspace_id, wanted))
        )
    )


@routes.delete("/v1/subscriptions/{id}")
async def _delete(request: web.Request) -> web.Response:
    wanted = request.match_info["id"]
    await as_caller(
        request, lambda tx, caller: subscriptions.delete(tx, subscriptions.find(tx, caller.workspace_id, wanted))
    )
    return web.Response(status=204)


@routes.get("/v1/subscriptions/{id}/posts")
async def _posts(request: web.Request) -> web.Response:
    wanted, status = request.match_info["id"], request.query.get("status")
    limit, (_low, high) = limit_of(request, 50, 200), between(request)
    if status not in (None, "waiting", "dead"):
        raise invalid("status is waiting or dead")

    def work(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
        row = subscriptions.find(tx, caller.workspace_id, wanted)
        return subscriptions.posts_of(tx, row, status, limit + 1, high)

    return page_of(await as_caller(request, work), limit)
