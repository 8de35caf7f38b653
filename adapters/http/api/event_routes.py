"""Routes of the events: the WebSocket, the stored ones, and the terminal output that goes along.

Source: spec/local-api.md sections 1.4 and 2.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Callable
from typing import Annotated

import msgspec
from aiohttp import web
from pydantic import AliasChoices, Field

from relaybroker.adapters.http.api.answers import Answer, JsonObject
from relaybroker.adapters.http.api.bodies import Query
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.event_stream import EventStream, gap, stored
from relaybroker.adapters.http.api.routing import route
from relaybroker.adapters.http.api.viewers import Viewers
from relaybroker.adapters.sessions.host.protocol import Output
from relaybroker.domain.errors import InvalidRequest, Refusal

_Count = Annotated[int, Field(ge=0, lt=10**20)]


class SinceQuery(Query):
    """After which event, of which sequence."""

    since: _Count = Field(default=0, validation_alias=AliasChoices("sinceSeq", "since_seq"))
    epoch: str | None = None


class WatchQuery(SinceQuery):
    """`view`: an agent whose terminal is watched."""

    view: str | None = None


class ReplayQuery(SinceQuery):
    """At most `limit` events."""

    limit: _Count = 1000


class Replayed(Answer, frozen=True, kw_only=True):
    """Stored events (local-api.md section 2), oldest first. `gap`: some before `oldestAvailable` are not stored any more."""

    events: list[JsonObject]
    gap: bool
    oldest: int = msgspec.field(name="oldestAvailable")
    current: int = msgspec.field(name="currentSeq")
    epoch: str


class EventRoutes:
    """Handlers of the event routes.

    Args:
        access: the broker.
        events: its event stream.
        viewers: who looks at terminals.
        session_of: the session of the agent of a name; raises InvalidRequest 404.
        on_leave: called when a client has left.
    """

    def __init__(
        self,
        access: BrokerAccess,
        events: EventStream,
        viewers: Viewers,
        *,
        session_of: Callable[[str], str],
        on_leave: Callable[[], None],
    ) -> None:
        self._access, self._events, self._viewers = access, events, viewers
        self._session_of, self._on_leave = session_of, on_leave
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}

    @route("GET /api/events/replay", "Get stored events after a sequence number.", settled=False)
    async def replay(self, _request: web.Request, query: ReplayQuery) -> Replayed:
        """GET /api/events/replay."""
        state, upto = self._access.state, self._events.published
        missing = gap(state, query.since, upto, query.epoch)
        return Replayed(
            events=stored(state, query.since if missing is None else missing["seq"], upto, query.limit),
            gap=missing is not None,
            oldest=query.since if missing is None else missing["oldestAvailable"],
            current=upto,
            epoch=state.epoch,
        )

    @route(
        "GET /ws",
        "WebSocket of events; with `view` its client may send the size of its terminal for an agent's.",
        errors=(404,),
        settled=False,
    )
    async def ws(self, request: web.Request, query: WatchQuery) -> web.StreamResponse:
        """GET /ws."""
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise InvalidRequest(
                Refusal.INVALID, "invalid_request", "/ws is a WebSocket endpoint: the request must be an upgrade"
            )
        session_id = self._session_of(query.view) if query.view is not None else ""
        viewer = object()

        async def heard(message: str) -> None:
            if session_id:
                await self._viewers.received(viewer, session_id, message)

        self._access.gateway.watch_output(on=True)
        try:
            return await self._events.serve(request, query.since, query.epoch, heard)
        finally:
            self._on_leave()
            if session_id:
                await asyncio.shield(self._viewers.left(viewer, session_id))
            if not len(self._events):
                self._decoders.clear()
                self._access.gateway.watch_output(on=False)

    def output(self, output: Output) -> None:
        """Give terminal output to who watches it; a code point is never split."""
        workers = self._access.state.workers
        program = workers.get(output.session_id)
        if program is None or not len(self._events):
            return
        if len(self._decoders) > len(workers):
            self._decoders = {known: kept for known, kept in self._decoders.items() if known in workers}
        decoder = self._decoders.setdefault(output.session_id, codecs.getincrementaldecoder("utf-8")("replace"))
        if text := decoder.decode(output.data):
            shown = output.offset + len(output.data) - len(decoder.getstate()[0])
            self._events.output(program.name, text, shown, self._access.now())
