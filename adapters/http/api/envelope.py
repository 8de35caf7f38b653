"""The one error envelope of the local API, and the guard in front of every route.

Source: spec/local-api.md sections 1.1 and 11.4.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from relaybroker.adapters.http.api.agent_scope import CALLER, AgentCaller
from relaybroker.adapters.http.api.page_sessions import PageSessions, is_of_page, not_logged_in
from relaybroker.adapters.http.api.rendering import STATUS
from relaybroker.adapters.http.proof import proof
from relaybroker.domain.errors import InvalidRequest, Refusal

_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_STATUS_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(
        body=msgspec.json.encode(body), status=status, headers=headers, content_type="application/json", charset="utf-8"
    )


def refused(error: InvalidRequest) -> web.Response:
    """A refusal in the envelope."""
    return refusal(STATUS[error.kind], error.code, error.message, retryable=error.is_retryable, **error.extra)


def refusal(status: int, code: str, message: str, *, retryable: bool = False, **extra: object) -> web.Response:
    """An error in the envelope."""
    body: dict[str, object] = {
        "success": False,
        "code": code,
        "message": message,
        "error": message,
        "retryable": retryable,
        "statusCode": status,
    } | extra
    return answer(body, status, {"Retry-After": "1"} if status == 429 else None)


def unauthorized() -> web.Response:
    """The 401 of the API key, with its legacy nested error."""
    error = {
        "code": "unauthorized",
        "message": "Missing or invalid API key",
        "retryable": False,
        "statusCode": 401,
    }
    return answer({"success": False} | error | {"error": error}, 401)


@contextmanager
def about(key: str, value: object) -> Iterator[None]:
    """Errors inside carry the legacy key ("" = none) that says what they are about; waiting for too long is a 504."""
    named = {key: value if isinstance(value, str) else ""} if key else {}
    try:
        yield
    except TimeoutError as error:
        text = "The broker did not answer in time; the request may still be carried out"
        raise InvalidRequest(Refusal.NO_ANSWER, "request_timeout", text, **named) from error
    except InvalidRequest as error:
        error.extra = named | error.extra
        raise


class Guard:
    """Checks Host and Origin, then the key, or an agent's token and its scope; turns every exception into the envelope.

    Args:
        api_key: the one key.
        allowed_hosts: further names that a Host header may have.
        allowed_origins: further origins that a browser may have; `null` is never one.
        agent_of: the agent whose token this is, None if it is nobody's or its registration does not live.
        agent_routes: those that agents may use (`METHOD /path`).
        open_paths: those that need no key.
        on_use: called for every request that carries the key (it renews the owner's lease).
        page: browsers that are logged in.
        vouch: called for every request with a valid key or token: its connection is not one of a stranger.
    """

    def __init__(
        self,
        api_key: str,
        allowed_hosts: tuple[str, ...],
        allowed_origins: tuple[str, ...],
        *,
        agent_of: Callable[[str], AgentCaller | None],
        agent_routes: frozenset[str],
        open_paths: frozenset[str],
        on_use: Callable[[], None],
        page: PageSessions,
        vouch: Callable[[web.Request], None],
    ) -> None:
        self._page = page
        self._secret = api_key
        self._key = _digest(api_key)
        self._hosts = frozenset(name.lower() for name in allowed_hosts)
        self._origins = frozenset(origin.lower() for origin in allowed_origins) - {"null"}
        self._agent_of = agent_of
        self._agent_routes = agent_routes
        self._agent_paths = frozenset(route.partition(" ")[2] for route in agent_routes)
        self._open_paths = open_paths
        self._on_use = on_use
        self._vouch = vouch

    def has_key(self, request: web.Request) -> bool:
        """Whether the request carries the key. Constant-time, whatever the length."""
        return hmac.compare_digest(_digest(_credential(request)), self._key)

    def proof(self, challenged: str, port: int) -> str:
        """What proves that this broker has the key and listens on this port."""
        return proof(self._secret, challenged, port)

    def trouble(self, request: web.Request) -> web.Response | None:
        """The refusal of a request that comes from the wrong place."""
        given = request.headers.get("Host", "")
        host = _host_part(given)
        if not (_is_ip(host) or host == "localhost" or host in self._hosts):
            return refusal(403, "forbidden_host", "This Host is not allowed (see RELAYBROKER_ALLOWED_HOSTS)")
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() not in self._origins | {f"{request.scheme}://{given}".lower()}:
            return refusal(403, "forbidden_origin", "This Origin is not allowed (see RELAYBROKER_ALLOWED_ORIGINS)")
        return None

    @property
    def middleware(self) -> Any:
        """For `web.Application(middlewares=…)`."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            if (trouble := self.trouble(request)) is not None:
                return trouble
            if self.has_key(request):
                self._on_use()
                self._vouch(request)
            elif (caller := self._agent_of(_credential(request))) is not None:
                if self._is_outside(request):
                    return refusal(403, "agent_scope", f"{request.method} {request.path} is not for agents")
                request[CALLER] = caller
                self._vouch(request)
            elif (session := self._page.of(request)) is not None and request.path not in self._open_paths:
                if (why := self._page.trouble(session, request)) is not None:
                    return refusal(403, *why)
                self._on_use()
                self._vouch(request)
            elif request.path not in self._open_paths:
                return not_logged_in() if is_of_page(request.path) else unauthorized()
            return await _enveloped(request, handler)

        return check

    def _is_outside(self, request: web.Request) -> bool:
        """Whether an agent asks for something that is not for agents. A known path with another method is 405 as for everybody."""
        info = request.match_info
        if (resource := info.route.resource) is None:
            is_known = isinstance(info.http_exception, web.HTTPMethodNotAllowed) and request.path in self._agent_paths
            return not is_known
        return f"{request.method} {resource.canonical}" not in self._agent_routes


async def _enveloped(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except InvalidRequest as error:
        return refused(error)
    except web.HTTPException as error:
        response = refusal(error.status, _STATUS_CODES.get(error.status, "invalid_request"), _explained(error))
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except web.RequestPayloadError as error:
        return refusal(400, "invalid_request", f"The body cannot be read: {error}")
    except Exception:  # noqa: BLE001 - logged with its trace; the client gets an honest 500
        _log.exception("%s %s failed", request.method, request.path)
        return refusal(500, "internal_error", "Internal error; see the broker's log", retryable=True)


def _explained(error: web.HTTPException) -> str:
    match error.status:
        case 404:
            return "This API has no such path"
        case 405:
            return "This path does not support this method"
        case 413:
            return "The body is larger than 2 MiB"
        case _:
            return error.text or error.reason


def _credential(request: web.Request) -> str:
    """The key or token of a request; a non-blank X-API-Key decides alone."""
    if given := request.headers.get("X-API-Key", "").strip():
        return given
    scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _digest(value: str) -> bytes:
    return hmac.digest(b"relaybroker", value.encode("utf-8", "surrogateescape"), "sha256")


def _host_part(host: str) -> str:
    """The host of a Host header, in lower case; "" if it is none."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018 - raises ValueError where the port is no number
    except ValueError:
        return ""
    return parts.hostname or "" if parts.netloc == host and "@" not in host else ""


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
