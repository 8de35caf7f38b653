"""Who may use the web page: a one-time link becomes a session of a browser, which may do less than the key.

Rules:

* The holder of the key asks for a ticket; it is good once, for a minute.
* A session is a cookie (`HttpOnly`, `SameSite=Strict`), ends with the broker or after half a day, and opens only `PAGE_ROUTES`.
* Whatever changes something needs the session's CSRF token in a header besides, and a session that may do more than look.
* Tickets and cookies are kept as hashes; of each at most `LIMIT`, the oldest go first.

Source: ADR-0060.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from aiohttp import web

COOKIE = "relaybroker_page"
CSRF_HEADER = "X-CSRF-Token"
TICKET_S = 60.0
SESSION_S = 12 * 3600.0
LIMIT = 32

_Value = TypeVar("_Value")

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Of every file of the page: nothing from elsewhere, no script in a text."""
_NOT_LOGGED_IN = (
    '<!doctype html><meta charset="utf-8"><title>relaybroker</title><link rel="icon" href="data:,">'
    "<p>This page is not logged in. In a terminal: <code>relaybroker open</code></p>"
    '<p><a href="/ui">To the page</a>, if this browser is logged in and a link from elsewhere led here.</p>'
)
PAGE_ROUTES = frozenset(
    {
        "GET /ui",
        "GET /ui/app.js",
        "GET /ui/app.css",
        "GET /api/page/session",
        "POST /api/page/leave",
        "GET /api/status",
        "GET /api/spawned",
        "GET /api/spawned/{name}/snapshot",
        "GET /api/spawned/{name}/delivery-mode",
        "PUT /api/spawned/{name}/delivery-mode",
        "GET /api/spawned/{name}/pending",
        "POST /api/spawned/{name}/flush",
        "POST /api/input/{name}",
        "GET /api/questions",
        "POST /api/spawned/{name}/answer",
        "GET /api/dead-letters",
        "GET /api/dead-letters/{id}",
        "POST /api/dead-letters/redeliver",
        "POST /api/dead-letters/purge",
        "GET /api/deliveries",
        "GET /api/messages",
        "GET /api/machines",
        "GET /api/why/{id}",
        "GET /api/log",
    }
)
"""What the page asks for, and nothing else: no key, no start or end of anything."""


class PageSession(NamedTuple):
    """A browser that is logged in."""

    csrf: str
    read_only: bool
    until: float


class PageSessions:
    """Tickets and sessions of one broker; in memory.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tickets: dict[str, tuple[float, bool]] = {}
        self._sessions: dict[str, PageSession] = {}

    def ticket(self, *, read_only: bool) -> str:
        """A new ticket."""
        made = secrets.token_urlsafe(32)
        _keep(self._tickets, _digest(made), (self._clock() + TICKET_S, read_only))
        return made

    def enter(self, ticket: str) -> str:
        """The cookie that a ticket buys, once; "" if it is none, was used, or is too old."""
        until, read_only = self._tickets.pop(_digest(ticket), (0.0, True))
        if self._clock() >= until:
            return ""
        cookie = secrets.token_urlsafe(32)
        session = PageSession(secrets.token_urlsafe(32), read_only, self._clock() + SESSION_S)
        _keep(self._sessions, _digest(cookie), session)
        return cookie

    def of(self, request: web.Request) -> PageSession | None:
        """The session of a request; None if it has none."""
        cookie = request.cookies.get(COOKIE, "")
        session = self._sessions.get(_digest(cookie)) if cookie else None
        if session is not None and self._clock() >= session.until:
            self.leave(request)
            return None
        return session

    def leave(self, request: web.Request) -> None:
        """End the session of a request."""
        self._sessions.pop(_digest(request.cookies.get(COOKIE, "")), None)

    @staticmethod
    def trouble(session: PageSession, request: web.Request) -> tuple[str, str] | None:
        """Code and reason why a session may not ask this; None if it may."""
        resource = request.match_info.route.resource
        if resource is None or f"{request.method} {resource.canonical}" not in PAGE_ROUTES:
            return "page_scope", f"{request.method} {request.path} is not for the page"
        if request.method in ("GET", "HEAD"):
            return None
        if not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), session.csrf.encode()):
            return "csrf", f"the header {CSRF_HEADER} is not that of this session"
        if session.read_only and not request.path.endswith("/leave"):
            return (
                "read_only",
                "this page is read-only; for a page that can make changes run relaybroker open without --read-only",
            )
        return None


def is_of_page(path: str) -> bool:
    """Whether a browser that is not logged in is told how to log in there, and no client what is wrong."""
    return f"{path}/".startswith("/ui/")


def not_logged_in() -> web.Response:
    """401 for a browser: how to log it in."""
    return web.Response(status=401, text=_NOT_LOGGED_IN, content_type="text/html", headers=HEADERS)


def _keep(kept: dict[str, _Value], key: str, value: _Value) -> None:
    kept[key] = value
    while len(kept) > LIMIT:
        del kept[next(iter(kept))]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
