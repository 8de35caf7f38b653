"""Routes that answer from the log: what became of something and why, and events by what they are about.

Source: spec/architecture.md section 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relaybroker.adapters.http.api.envelope import answer
from relaybroker.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from relaybroker.adapters.http.api.gateway import AuditLog

MAX_EVENTS = 1000
"""Events in one answer."""

_Word = Annotated[str, Field(max_length=1024)]


class LogQuery(BaseModel):
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


class AuditRoutes:
    """Handlers of the audit routes."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    async def why(self, request: web.Request) -> web.Response:
        """GET /api/why/{id}."""
        return answer({"stories": await self._log.why(request.match_info["id"])})

    async def search(self, request: web.Request) -> web.Response:
        """GET /api/log."""
        try:
            query = LogQuery.model_validate(dict(request.query))
        except ValidationError as error:
            wrong = error.errors()[0]
            key = str(wrong["loc"][0]) if wrong["loc"] else ""
            raise InvalidRequest(400, "invalid_field", f"{key}: {wrong['msg']}", field=key) from error
        found = await self._log.search(**query.model_dump())
        return answer({"events": found, "last": found[-1]["position"] if found else query.after})
