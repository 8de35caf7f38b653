"""Routes about dead letters: list, show, redeliver, purge.

Source: ADR-0021; domain/dead_letter.py.
"""

from __future__ import annotations

from aiohttp import web

from relaybroker.adapters.http.api.bodies import LettersBody, parse, read_json
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.envelope import Handler, about, answer, relayed
from relaybroker.domain import inputs, views
from relaybroker.domain.dead_letter import LIMIT
from relaybroker.domain.errors import InvalidRequest

WAIT_S = 20.0


class DeadLetterRoutes:
    """Handlers of the dead-letter routes."""

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access

    @property
    def table(self) -> dict[str, Handler]:
        """Handlers by method and path."""
        return {
            "GET /api/dead-letters": self.listing,
            "GET /api/dead-letters/{id}": self.show,
            "POST /api/dead-letters/redeliver": self.redeliver,
            "POST /api/dead-letters/purge": self.purge,
        }

    async def listing(self, request: web.Request) -> web.Response:
        """GET /api/dead-letters."""
        rows = views.dead_letters(self._access.state, self._access.now(), request.query.get("agent", ""))
        return answer({"success": True, "dead_letters": rows, "count": len(rows), "limit": LIMIT})

    async def show(self, request: web.Request) -> web.Response:
        """GET /api/dead-letters/{id}."""
        letter_id = request.match_info["id"]
        found = self._access.state.dead_letters.get(letter_id)
        if found is None:
            raise InvalidRequest(404, "not_found", f"there is no dead letter '{letter_id[:200]}'", id=letter_id[:200])
        return answer({"success": True, "dead_letter": views.dead_letter(found, self._access.now())})

    async def redeliver(self, request: web.Request) -> web.Response:
        """POST /api/dead-letters/redeliver."""
        body = _named(parse(LettersBody, await read_json(request)))
        with about("id", body.id):
            return relayed(
                await self._access.ask(
                    lambda request_id: inputs.RedeliverRequested(
                        request_id=request_id,
                        letter_ids=body.letter_ids,
                        every=body.all,
                        agent=body.agent,
                        force=body.force,
                    ),
                    WAIT_S,
                )
            )

    async def purge(self, request: web.Request) -> web.Response:
        """POST /api/dead-letters/purge."""
        body = _named(parse(LettersBody, await read_json(request)))
        if body.force:
            raise InvalidRequest(400, "invalid_field", "force belongs to redeliver", field="force")
        with about("id", body.id):
            return relayed(
                await self._access.ask(
                    lambda request_id: inputs.PurgeRequested(
                        request_id=request_id, letter_ids=body.letter_ids, every=body.all, agent=body.agent
                    ),
                    WAIT_S,
                )
            )


def _named(body: LettersBody) -> LettersBody:
    """The body, if it says exactly which letters it means."""
    if bool(body.letter_ids) == body.all:
        raise InvalidRequest(400, "missing_field", "name the letters with id or ids, or say all: true", field="id")
    if body.agent and not body.all:
        raise InvalidRequest(400, "invalid_field", "agent narrows all; it does not go with id", field="agent")
    return body
