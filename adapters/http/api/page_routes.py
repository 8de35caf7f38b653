"""Routes of the web page: its files, the link that logs a browser in, the session.

Source: ADR-0060.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Protocol

from aiohttp import web

from relaybroker.adapters.http.api.answers import Answer
from relaybroker.adapters.http.api.bodies import Body, Query
from relaybroker.adapters.http.api.page_sessions import (
    COOKIE,
    HEADERS,
    SESSION_S,
    TICKET_S,
    PageSessions,
    not_logged_in,
)
from relaybroker.adapters.http.api.routing import route

_ENTERED = (
    '<!doctype html><meta charset="utf-8"><title>relaybroker</title><link rel="icon" href="data:,">'
    '<meta http-equiv="refresh" content="0;url=/ui"><p><a href="/ui">To the page</a></p>'
)


class Asset(Protocol):
    """A file of the page."""

    @property
    def body(self) -> bytes:
        """What is in it."""

    @property
    def media(self) -> str:
        """Its type."""


class TicketBody(Body):
    """POST /api/page/tickets."""

    read_only: bool = False


class Ticket(Answer, frozen=True, kw_only=True):
    """A path that logs a browser in, once."""

    path: str
    expires_in_secs: int


class EnterQuery(Query):
    """The ticket."""

    ticket: str = ""


class SessionView(Answer, frozen=True, kw_only=True):
    """What a page needs to change something; `csrf` is "" for the holder of the key, who needs none."""

    csrf: str
    read_only: bool


class Left(Answer, frozen=True, kw_only=True):
    """The session is over."""

    left: bool


class PageRoutes:
    """Handlers of the page.

    Args:
        sessions: who is logged in.
        assets: its files, by name.
    """

    def __init__(self, sessions: PageSessions, assets: Mapping[str, Asset]) -> None:
        self._sessions, self._assets = sessions, assets

    @route("GET /ui", "The web page; 401 and how to log in, before login.", settled=False, media="text/html")
    async def page(self, _request: web.Request) -> Annotated[web.Response, str]:
        """GET /ui."""
        return self._file("index.html")

    @route("GET /ui/app.js", "A file of the page.", settled=False, media="text/javascript")
    async def script(self, _request: web.Request) -> Annotated[web.Response, str]:
        """GET /ui/app.js."""
        return self._file("app.js")

    @route("GET /ui/app.css", "A file of the page.", settled=False, media="text/css")
    async def style(self, _request: web.Request) -> Annotated[web.Response, str]:
        """GET /ui/app.css."""
        return self._file("app.css")

    @route(
        "GET /ui/enter",
        "Log a browser in with a ticket and open the page.",
        errors=(401,),
        settled=False,
        is_open=True,
        media="text/html",
    )
    async def enter(self, request: web.Request, query: EnterQuery) -> Annotated[web.Response, str]:
        """GET /ui/enter. Whoever is logged in already needs no ticket."""
        cookie = self._sessions.enter(query.ticket) if request.method == "GET" else ""
        if not cookie and self._sessions.of(request) is None:
            return not_logged_in()
        response = web.Response(text=_ENTERED, content_type="text/html", headers=HEADERS)
        if cookie:
            response.set_cookie(COOKIE, cookie, path="/", max_age=int(SESSION_S), httponly=True, samesite="Strict")
        return response

    @route("POST /api/page/tickets", "Create a link that logs in one browser, once.")
    async def ticket(self, _request: web.Request, body: TicketBody) -> Ticket:
        """POST /api/page/tickets."""
        made = self._sessions.ticket(read_only=body.read_only)
        return Ticket(path=f"/ui/enter?ticket={made}", expires_in_secs=int(TICKET_S))

    @route("GET /api/page/session", "Get what this browser's session may do.", settled=False)
    async def session(self, request: web.Request) -> SessionView:
        """GET /api/page/session."""
        session = self._sessions.of(request)
        return SessionView(csrf=session.csrf if session else "", read_only=session.read_only if session else False)

    @route("POST /api/page/leave", "Log this browser out.")
    async def leave(self, request: web.Request) -> Left:
        """POST /api/page/leave."""
        self._sessions.leave(request)
        return Left(left=True)

    def _file(self, name: str) -> web.Response:
        asset = self._assets[name]
        return web.Response(body=asset.body, content_type=asset.media, charset="utf-8", headers=HEADERS)
