"""Routes about dead letters: list, show, redeliver, purge.

Source: ADR-0021; domain/dead_letter.py.
"""

from __future__ import annotations

from aiohttp import web

from relaybroker.adapters.http.api import views
from relaybroker.adapters.http.api.answers import Answer, DeadLetterView, Purged, Redelivered
from relaybroker.adapters.http.api.bodies import LettersBody, Query
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.rendering import answered
from relaybroker.adapters.http.api.routing import route
from relaybroker.domain import inputs
from relaybroker.domain.dead_letter import LIMIT
from relaybroker.domain.errors import InvalidRequest, Refusal

WAIT_S = 20.0


class LettersQuery(Query):
    """Of one agent, or of all."""

    agent: str = ""


class DeadLetters(Answer, frozen=True, kw_only=True):
    """Messages that could not be typed; `limit` is how many are kept at most."""

    success: bool = True
    dead_letters: list[DeadLetterView]
    count: int
    limit: int


class OneDeadLetter(Answer, frozen=True, kw_only=True):
    """A dead letter with what it says."""

    success: bool = True
    dead_letter: DeadLetterView


class DeadLetterRoutes:
    """Handlers of the dead-letter routes."""

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access

    @route("GET /api/dead-letters", "List the messages that could not be typed.")
    async def listing(self, _request: web.Request, query: LettersQuery) -> DeadLetters:
        """GET /api/dead-letters."""
        rows = views.dead_letters(self._access.state, self._access.now(), query.agent)
        return DeadLetters(dead_letters=rows, count=len(rows), limit=LIMIT)

    @route("GET /api/dead-letters/{id}", "Get one dead letter, with its text.", errors=(404,))
    async def show(self, request: web.Request) -> OneDeadLetter:
        """GET /api/dead-letters/{id}."""
        letter_id = request.match_info["id"]
        letter = self._access.state.dead_letters.get(letter_id)
        if letter is None:
            raise InvalidRequest(
                Refusal.ABSENT, "not_found", f"there is no dead letter '{letter_id[:200]}'", id=letter_id[:200]
            )
        return OneDeadLetter(dead_letter=views.dead_letter(letter, self._access.now()))

    @route(
        "POST /api/dead-letters/redeliver",
        "Redeliver dead letters, each as a new attempt.",
        errors=(404, 409, 429, 504),
        about="id",
    )
    async def redeliver(self, _request: web.Request, body: LettersBody) -> Redelivered:
        """POST /api/dead-letters/redeliver."""
        _check(body)
        reply = await self._access.ask(
            lambda request_id: inputs.RedeliverRequested(
                request_id=request_id,
                letter_ids=body.letter_ids,
                every=body.all,
                agent=body.agent,
                force=body.force,
            ),
            WAIT_S,
        )
        return answered(reply, Redelivered)

    @route("POST /api/dead-letters/purge", "Remove dead letters from the list.", errors=(404, 429, 504), about="id")
    async def purge(self, _request: web.Request, body: LettersBody) -> Purged:
        """POST /api/dead-letters/purge."""
        _check(body)
        if body.force:
            raise InvalidRequest(Refusal.INVALID, "invalid_field", "force is only for redeliver", field="force")
        reply = await self._access.ask(
            lambda request_id: inputs.PurgeRequested(
                request_id=request_id, letter_ids=body.letter_ids, every=body.all, agent=body.agent
            ),
            WAIT_S,
        )
        return answered(reply, Purged)


def _check(body: LettersBody) -> None:
    """Refuse a body that does not say exactly which letters it means."""
    if bool(body.letter_ids) == body.all:
        raise InvalidRequest(
            Refusal.INVALID, "missing_field", "name the letters with id or ids, or set all: true", field="id"
        )
    if body.agent and not body.all:
        raise InvalidRequest(Refusal.INVALID, "invalid_field", "agent works only with all, not with id", field="agent")
