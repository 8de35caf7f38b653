"""Routes that answer from the log: what became of something and why, and events by what they are about.

Source: spec/architecture.md section 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from aiohttp import web
from pydantic import ConfigDict, Field

from relaybroker.adapters.http.api.answers import Answer, JsonObject
from relaybroker.adapters.http.api.bodies import Query
from relaybroker.adapters.http.api.routing import route
from relaybroker.domain.story import Story

if TYPE_CHECKING:
    from relaybroker.adapters.http.api.gateway import AuditLog

MAX_EVENTS = 1000
"""Events in one answer."""

_Word = Annotated[str, Field(max_length=1024)]


class LogQuery(Query):
    """The query of GET /api/log: every filter that is given must fit; times are seconds since 1970, `after` is a position."""

    model_config = ConfigDict(extra="forbid")

    machine: _Word = ""
    stream: _Word = ""
    topic: _Word = ""
    reason: _Word = ""
    agent: _Word = ""
    text: _Word = ""
    since: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    until: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_EVENTS)] = 100
    newest: bool = False


class Stories(Answer, frozen=True, kw_only=True):
    """A story for each thing that the id means."""

    stories: list[Story]


class LogEvent(Answer, frozen=True, kw_only=True):
    """One event of the log (docs/events.md). `kind` is `fact` or `decision`, `at` seconds since 1970."""

    position: Annotated[int, msgspec.Meta(ge=1)]
    stream: str
    topic: str
    kind: str
    at: float
    causation: str
    correlation: str
    body: JsonObject


class LogEvents(Answer, frozen=True, kw_only=True):
    """Events that fit; `last` is where the next question goes on (`after`)."""

    events: list[LogEvent]
    last: Annotated[int, msgspec.Meta(ge=0)]


class DeliveriesQuery(Query):
    """The query of GET /api/deliveries: the newest first; `before` = those that were offered before this position."""

    model_config = ConfigDict(extra="forbid")

    agent: _Word = ""
    state: _Word = ""
    before: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_EVENTS)] = 100


class DeliveryRow(Answer, frozen=True, kw_only=True):
    """One attempt of a delivery, as the log has it. Times are seconds since 1970; `position` is that of its offer."""

    position: Annotated[int, msgspec.Meta(ge=1)]
    stream: str
    delivery_id: str
    msg_id: str
    agent: str
    seq: int | None
    sender: str
    state: str
    reason: str
    verification: str
    in_custody: bool
    offered_at: float
    changed_at: float


class Deliveries(Answer, frozen=True, kw_only=True):
    """Deliveries, the newest first; `before` asks for the next ones, 0 = there may be no more."""

    deliveries: list[DeliveryRow]
    before: Annotated[int, msgspec.Meta(ge=0)]


class AuditRoutes:
    """Handlers of the audit routes."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    @route(
        "GET /api/why/{id}",
        "Explain what became of a message, delivery, AGENT@SEQ, invocation, agent or node.",
        errors=(404, 409),
    )
    async def why(self, request: web.Request) -> Stories:
        """GET /api/why/{id}."""
        return Stories(stories=await self._log.why(request.match_info["id"]))

    @route("GET /api/deliveries", "The newest deliveries, of all or of an agent or in a state.")
    async def deliveries(self, _request: web.Request, query: DeliveriesQuery) -> Deliveries:
        """GET /api/deliveries."""
        found = await self._log.deliveries(**query.model_dump())
        rows = [msgspec.convert(row, DeliveryRow) for row in found]
        return Deliveries(deliveries=rows, before=rows[-1].position if len(rows) == query.limit else 0)

    @route("GET /api/log", "Search the events of the log.")
    async def search(self, _request: web.Request, query: LogQuery) -> LogEvents:
        """GET /api/log."""
        found = await self._log.search(**query.model_dump())
        events = [msgspec.convert(row, LogEvent) for row in found]
        return LogEvents(events=events, last=events[-1].position if events else query.after)
