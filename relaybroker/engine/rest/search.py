"""Search.

Source: spec/engine-contract.md section 2.9.
"""

from __future__ import annotations

from aiohttp import web

from relaybroker.engine import channels, search
from relaybroker.engine.auth import Caller
from relaybroker.engine.rest.api import as_caller, between, limit_of, page_of
from relaybroker.engine.store import Tx

routes = web.RouteTableDef()


@routes.get("/v1/search")
async def _search(request: web.Request) -> web.Response:
    words, limit, (low, high) = (
        search.words_of(request.query.get("q", "")),
        limit_of(request, 50, 100),
        between(request),
    )
    place, sender = request.query.get("channel"), request.query.get("from")

    def work(tx: Tx, caller: Caller) -> list[dict[str, object]]:
        channel = channels.find(tx, caller.workspace_id, place)["name"] if place else None
        return search.find(tx, caller, search.Query(words, channel, sender or None, low, high), limit + 1)

    return page_of(await as_caller(request, work), limit)
