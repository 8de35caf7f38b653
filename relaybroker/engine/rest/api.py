"""What every REST route shares: the envelope, the caller, the one transaction, idempotency.

Source: spec/engine-contract.md sections 1.1, 1.3, 1.4.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from relaybroker.engine.auth import Caller, authenticate, bearer, require_scope
from relaybroker.engine.authority import ABSENT, AUTHORITY
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError, invalid, not_found
from relaybroker.engine.hub import encode
from relaybroker.engine.idempotency import checked, once
from relaybroker.engine.json_text import MAX_WHOLE, whole
from relaybroker.engine.refusals import STATUSES
from relaybroker.engine.rest.origin import OriginCheck
from relaybroker.engine.store import Tx
from relaybroker.serving.connections import Connections

log = logging.getLogger(__name__)
ENGINE: web.AppKey[Engine] = web.AppKey("engine", Engine)
CONNECTIONS: web.AppKey[Connections] = web.AppKey("connections", Connections)
ORIGIN: web.AppKey[OriginCheck] = web.AppKey("origin", OriginCheck)
RETRY_AFTER_S = 5
"""What 429 says about when to come again."""
_CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)
SOCKET_PATHS = ("/v1/node/ws", "/v1/ws")

Work = Callable[[Tx, Caller], Any]


def engine_of(request: web.Request) -> Engine:
    """The engine that serves this request."""
    return request.app[ENGINE]


def base_of(request: web.Request) -> str:
    """Where the engine was reached."""
    return f"{request.scheme}://{request.host}"


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON body as it is."""
    return web.json_response(value, status=status, headers=headers, dumps=encode)


def ok(data: Any, status: int = 200, **extra: Any) -> web.Response:
    """A success in the contract's envelope."""
    return json_answer({"ok": True, "data": data} | extra, status)


def _refusal(status: int, code: str, message: str) -> web.Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 429 else None
    return json_answer({"ok": False, "error": {"code": code, "message": message}}, status, headers)


@web.middleware
async def envelope(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Every refusal in the contract's envelope; an upgrade on any path but the two sockets is 426."""
    try:
        request.app[ORIGIN].require(request)
        if (request.headers.get("Upgrade", "").lower() == "websocket") != (request.path in SOCKET_PATHS):
            return _refusal(426, "upgrade_required", f"WebSockets are at {' and '.join(SOCKET_PATHS)}")
        return await handler(request)
    except EngineError as error:
        refused = await _refused_caller(request) if error.status == 400 else None
        error = refused or error
        _note(request, error)
        return _refusal(error.status, error.code, error.message)
    except web.RequestPayloadError:
        return _refusal(400, "invalid_request", "The body cannot be read")
    except web.HTTPRequestEntityTooLarge:
        return _refusal(413, "body_too_large", "The body is too large")
    except web.HTTPException as error:
        return _refusal(error.status, "invalid_request", error.reason)
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _refusal(500, "internal_error", "Internal error")


def _note(request: web.Request, error: EngineError) -> None:
    """For the operator. A stranger that asks for what is not there is of no interest."""
    caller: Caller | None = request.get(_CALLER)
    if error.status in STATUSES and (caller is not None or error.status in (401, 403)):
        is_route = request.match_info.route.resource is not None
        engine_of(request).refusals.note(
            engine_of(request).store, caller, route_of(request) if is_route else request.method, error
        )


async def _refused_caller(request: web.Request) -> EngineError | None:
    """Why nobody with this token is told what is wrong with a request; None if somebody may be."""
    if request.match_info.route.resource is None or (rule := AUTHORITY.get(route_of(request))) is None:
        return None
    engine, token = engine_of(request), bearer(request.headers.get("Authorization"))
    try:
        await engine.store.run(lambda tx: authenticate(tx, engine, token, rule.letters))
    except EngineError as error:
        return error
    return None


async def unknown(request: web.Request) -> web.Response:
    """501 `not_implemented` for what SDKs know and this engine does not do, 404 `not_found` for everything else that is no route."""
    root, _, rest = request.path.removeprefix("/").partition("/")
    absent = ABSENT.get(rest.partition("/")[0]) if root == "v1" else None
    if absent is not None:
        raise EngineError(501, "not_implemented", f"This engine does not have {absent.what}")
    raise not_found("not_found", "Not found")


def route_of(request: web.Request) -> str:
    """Method and path of the route that a request has reached, as the table of authority names them."""
    resource = request.match_info.route.resource
    assert resource is not None, "only routes have handlers"
    return f"{'GET' if request.method == 'HEAD' else request.method} {resource.canonical}"


async def as_caller(request: web.Request, work: Work) -> Any:
    """Run work in one transaction as the authenticated caller, if the table of authority lets it."""
    engine, rule, path = engine_of(request), AUTHORITY[route_of(request)], request.match_info
    token = bearer(request.headers.get("Authorization"))

    def carry_out(tx: Tx) -> Any:
        caller = request[_CALLER] = authenticate(tx, engine, token, rule.letters)
        if caller.kind == "agent":
            assert rule.agent is not None, "authentication lets no agent through here"
            if rule.agent.check is not None:
                rule.agent.check(tx, caller, path)
        elif caller.kind == "observer":
            assert rule.observer is not None, "authentication lets no observer through here"
            require_scope(caller, rule.observer.scope)
            if rule.observer.check is not None:
                rule.observer.check(tx, caller, path)
        elif caller.kind == "webhook":
            if path["id"] != caller.id:
                raise not_found("webhook_not_found", "Webhook not found")
        elif caller.kind == "workspace" and not rule.workspace:
            raise EngineError(403, "agent_token_required", "Agent token required")
        return work(tx, caller)

    answer = await engine.store.run(carry_out)
    request.app[CONNECTIONS].vouch(request)
    return answer


def limit_of(request: web.Request, default: int, most: int) -> int:
    """The page size that was asked for, at most `most`. Raises EngineError 400."""
    wanted = number_of(request, "limit", default)
    if wanted < 1:
        raise invalid("limit must be a positive number")
    return min(wanted, most)


def page_of(rows: list[dict[str, Any]], limit: int) -> web.Response:
    """The first `limit` rows, and where the next page begins if there are more."""
    shown, more = rows[:limit], len(rows) > limit
    return ok(shown, cursor={"next": shown[-1]["id"] if more else None, "has_more": more})


def number_of(request: web.Request, name: str, default: int) -> int:
    """A whole number of the query. Raises EngineError 400."""
    text = request.query.get(name, "")
    try:
        return whole(text) if text else default
    except ValueError as error:
        raise invalid(f"{name}: {error}") from error


def between(request: web.Request) -> tuple[int, int]:
    """The message ids between which messages are asked for. Raises EngineError 400."""
    return number_of(request, "after", 0), number_of(request, "before", MAX_WHOLE)


async def post_once(
    request: web.Request, scope: str, given: dict[str, Any], work: Callable[[Tx, Caller], Any]
) -> web.Response:
    """Do something as an agent, once for each idempotency key, and answer 201."""
    headers = request.headers
    key = checked(headers.get("Idempotency-Key", headers.get("X-Idempotency-Key")))

    def run(tx: Tx, caller: Caller) -> tuple[int, Any, bool]:
        return once(tx, caller, scope, key, given, lambda: (201, work(tx, caller)))

    status, data, replayed = await as_caller(request, run)
    return json_answer({"ok": True, "data": data}, status, {"Idempotency-Replayed": "true"} if replayed else None)
