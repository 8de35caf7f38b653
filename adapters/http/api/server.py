"""The local API as a server: listens from the first moment, answers everything once the broker is ready.

Source: spec/local-api.md sections 0.3, 1, 7.4, 11.4.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil
from aiohttp import web

from relaybroker.adapters.http.api.agent_scope import AgentCaller
from relaybroker.adapters.http.api.agent_tools import AgentToolRoutes, AgentTools, Fleet
from relaybroker.adapters.http.api.agents_routes import AgentRoutes
from relaybroker.adapters.http.api.audit_routes import AuditRoutes
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.dead_letter_routes import DeadLetterRoutes
from relaybroker.adapters.http.api.envelope import Guard, Handler, answer, refusal
from relaybroker.adapters.http.api.event_stream import EventStream, gap, stored
from relaybroker.adapters.http.api.fleet_socket import FleetSockets
from relaybroker.adapters.http.api.gateway import Gateway
from relaybroker.adapters.http.api.hold_routes import HoldRoutes
from relaybroker.adapters.http.api.send_route import SendRoute
from relaybroker.adapters.http.api.timestamps import dated
from relaybroker.adapters.http.api.viewers import Viewers
from relaybroker.adapters.pty.protocol import Output
from relaybroker.domain import views
from relaybroker.domain.effects import InvokeHandler, Notify, Reply
from relaybroker.domain.errors import InvalidRequest
from relaybroker.domain.state import Notification, State

BODY_LIMIT = 2 * 1024 * 1024
LEASE_S = 120
PROTOCOL_VERSION = 2
_DIGITS = 20
"""Of a 64-bit number."""
_STARTING = "Broker is starting, please retry"

NOT_BUILT = (
    ("POST", "/api/spawned/{name}/model"),
    ("POST", "/api/spawned/{name}/subscribe"),
    ("POST", "/api/spawned/{name}/unsubscribe"),
    ("GET", "/api/input/{name}/stream"),
    ("GET", "/api/threads"),
    ("GET", "/api/crash-insights"),
    ("POST", "/api/preflight"),
    ("POST", "/api/agent-result"),
    ("POST", "/api/agents/by-name/{name}/interrupt"),
    ("GET", "/api/history/stats"),
    ("GET", "/metrics"),
)
"""Routes of the index that answer 501 until they are built; never 404, which means "no such agent" to clients."""

_SHOWING = ("/api/agent", "/api/spawned", "/api/status", "/api/metrics", "/api/dead-letters", "/api/why", "/api/log")
"""Where the routes begin that show the state or the log."""


class LocalApi:
    """The local HTTP and WebSocket API of one broker.

    Args:
        api_key: the key that every route but `/health` needs.
        version: of the broker.
        persist: whether the broker runs without an owner lease.
        base_url: of the engine, if the operator chose one.
        document: makes what `/api/openapi.json` answers.
        make_tools: makes what agents can do with their own tokens, over the broker.
        allowed_hosts: further Host names.
        allowed_origins: further browser origins.
        request_shutdown: asks the broker to stop, with a reason.
    """

    def __init__(
        self,
        *,
        api_key: str,
        version: str,
        persist: bool,
        base_url: str | None,
        document: Callable[[], dict[str, Any]],
        make_tools: Callable[[BrokerAccess, Fleet], AgentTools],
        allowed_hosts: Sequence[str] = (),
        allowed_origins: Sequence[str] = (),
        request_shutdown: Callable[[str], None],
    ) -> None:
        self._guard = Guard(
            api_key, tuple(allowed_hosts), tuple(allowed_origins), agent_of=self._agent_of, on_use=self._used
        )
        self._make_tools = make_tools
        self._version, self._persist, self._base_url = version, persist, base_url
        self._document = document
        self._request_shutdown = request_shutdown
        self._began = time.monotonic()
        self._last_use = time.monotonic()
        self._access: BrokerAccess | None = None
        self._events = EventStream(lambda: self._state)
        self._routes: dict[str, Handler] = {}
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._fleet: FleetSockets | None = None
        self._agents: AgentRoutes
        self._viewers: Viewers
        self._runner: web.AppRunner | None = None

    # --- life cycle -----------------------------------------------------------------------------------------------------

    async def bind(self, host: str, port: int) -> int:
        """Listen, and answer as during start-up; the port. Raises OSError."""
        if self._runner is None:
            self._runner = web.AppRunner(self._front(), access_log=None, shutdown_timeout=0.5)
            await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        return int(self._runner.addresses[-1][1])

    def open(self, core: Gateway) -> None:
        """Answer everything from now on."""
        self._access = BrokerAccess(core)
        self._events.open()
        self._viewers = Viewers(self._access)
        self._agents, send = AgentRoutes(self._access, self._viewers), SendRoute(self._access)
        agents = self._agents
        self._fleet = FleetSockets(self._access, agents, send, version=self._version, shutdown=self._request_shutdown)
        self._routes = self._table(agents, send, self._fleet, AuditRoutes(core.audit))
        self._routes |= DeadLetterRoutes(self._access).table | HoldRoutes(self._access).table
        self._routes |= AgentToolRoutes(self._access, self._make_tools(self._access, agents)).table

    async def close(self) -> None:
        """End sockets with 1001, answer waiting requests with 503, stop listening."""
        if self._access is not None:
            self._access.close()
        await self._events.close()
        if self._fleet is not None:
            await self._fleet.close_all()
        if self._runner is not None:
            await self._runner.cleanup()

    # --- what the broker says ---------------------------------------------------------------------------------------------

    def reply(self, reply: Reply) -> None:
        """Answer one request."""
        if self._access is not None:
            self._access.reply(reply)

    def notify(self, notification: Notify) -> None:
        """Tell every `/ws` client. Before the router opens there is none, but the numbers count."""
        self._events.notify(Notification(notification.seq, notification.body))

    def invoke_handler(self, wanted: InvokeHandler) -> None:
        """Give an invocation to a sidecar."""
        if self._fleet is not None:
            self._fleet.invoke(wanted)

    def close_sidecar(self, connection: str, detail: str) -> None:
        """Close a sidecar's socket after what was sent before."""
        if self._fleet is not None:
            self._fleet.close(connection, detail)

    def output(self, output: Output) -> None:
        """Give terminal output to who watches it; a code point is never split."""
        if self._access is None or not len(self._events):
            return
        workers = self._access.state.workers
        program = workers.get(output.session_id)
        if program is None:
            return
        if len(self._decoders) > len(workers):
            self._decoders = {known: kept for known, kept in self._decoders.items() if known in workers}
        decoder = self._decoders.setdefault(output.session_id, codecs.getincrementaldecoder("utf-8")("replace"))
        if text := decoder.decode(output.data):
            self._events.output(program.name, text, self._access.now())

    def idle_s(self) -> float:
        """Seconds since anybody with the key asked for anything; 0 while a `/ws` is open."""
        return 0.0 if len(self._events) else time.monotonic() - self._last_use

    def _agent_of(self, token: str) -> AgentCaller | None:
        return None if self._access is None else self._access.agent_of(token)

    def _used(self) -> None:
        self._last_use = time.monotonic()

    # --- routing ------------------------------------------------------------------------------------------------------------

    def _front(self) -> web.Application:
        app = web.Application(
            middlewares=[self._starting, self._guard.middleware, self._durable],
            client_max_size=BODY_LIMIT,
            handler_args={"max_field_size": 32 * 1024, "max_line_size": 32 * 1024},
        )
        app.router.add_get("/health", self._health)
        for method, path, handler in self._routes_by_path():
            app.router.add_route(method, path, handler)
        for method, path in NOT_BUILT:
            app.router.add_route(method, path, _not_built)
        return app

    def _routes_by_path(self) -> list[tuple[str, str, Handler]]:
        def late(name: str) -> Handler:
            async def handler(request: web.Request) -> web.StreamResponse:
                return await self._routes[name](request)

            return handler

        return [(method, path, late(f"{method} {path}")) for method, path in ROUTES]

    def _table(
        self, agents: AgentRoutes, send: SendRoute, fleet: FleetSockets, audit: AuditRoutes
    ) -> dict[str, Handler]:
        return {
            "GET /api/session": self._session,
            "POST /api/session/renew": self._renew,
            "GET /api/config": self._config,
            "POST /api/spawn": agents.spawn,
            "GET /api/spawned": agents.listing,
            "DELETE /api/spawned/{name}": agents.release,
            "GET /api/spawned/{name}/snapshot": agents.snapshot,
            "POST /api/input/{name}": agents.type_raw,
            "POST /api/resize/{name}": agents.resize,
            "POST /api/send": send.send,
            "GET /api/fleet/ws": fleet.serve,
            "GET /api/events/replay": self._replay,
            "GET /ws": self._ws,
            "GET /api/status": self._status,
            "GET /api/metrics": self._metrics,
            "GET /api/why/{id}": audit.why,
            "GET /api/log": audit.search,
            "GET /api/openapi.json": self._openapi,
            "POST /api/shutdown": self._shutdown,
        }

    @property
    def _starting(self) -> Any:
        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            if self._access is None and request.path != "/health":
                return web.Response(
                    status=503,
                    reason="Service Unavailable",
                    text=_STARTING,
                    content_type="text/plain",
                    charset="utf-8",
                    headers={"Connection": "close"},
                )
            return await handler(request)

        return check

    @property
    def _durable(self) -> Any:
        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            """What a reading route tells, a crash does not take back; and the log is read up to what was told before."""
            if self._access is None or request.method != "GET" or not request.path.startswith(_SHOWING):
                return await handler(request)
            await self._access.gateway.settled()
            told = await handler(request)
            await self._access.gateway.settled()
            return told

        return check

    @property
    def _broker(self) -> BrokerAccess:
        assert self._access is not None, "routes are reached only after open()"
        return self._access

    @property
    def _state(self) -> State:
        return self._access.state if self._access is not None else State()

    # --- routes about the broker ------------------------------------------------------------------------------------------

    async def _health(self, request: web.Request) -> web.Response:
        body = views.health(self._state, time.time(), known=self._guard.has_key(request))
        body |= {
            "version": self._version,
            "uptimeMs": int(1000 * (time.monotonic() - self._began)),
            "wsConnections": len(self._events),
            "memoryMb": psutil.Process().memory_info().rss // (1024 * 1024),
            "logLockedSecs": (locked_s := self._log_locked_s),
        }
        if locked_s:
            body |= {"status": "degraded", "code": "log_locked"}
        error = os.environ.get("AGENT_RELAY_STARTUP_ERROR_CODE", "").strip().lower()
        if error:
            body["relaycastConnected"] = False
            if error == "rate_limit_exceeded":
                body["status"] = "degraded"
        return answer(body)

    @property
    def _log_locked_s(self) -> float:
        return 0.0 if self._access is None else round(self._access.gateway.log_locked_s(), 1)

    async def _session(self, _request: web.Request) -> web.Response:
        state = self._state
        return answer(
            {
                "broker_version": self._version,
                "protocol_version": PROTOCOL_VERSION,
                "workspace_key": self._broker.gateway.workspace_key or None,
                "relay_base_url": self._base_url,
                "default_workspace_id": state.settings.workspace_id if state.settings else None,
                "mode": "persist" if self._persist else "ephemeral",
                "uptime_secs": int(time.monotonic() - self._began),
                "epoch": state.epoch,
                "boot_id": f"bo_{state.boot_id}",
                "last_seq": self._events.published,
                "link": views.link(state, time.time()),
            }
        )

    async def _renew(self, _request: web.Request) -> web.Response:
        lease = 0 if self._persist else LEASE_S
        return answer({"renewed": True, "expires_in_secs": lease, "persist": self._persist})

    async def _config(self, _request: web.Request) -> web.Response:
        settings = self._state.settings
        return answer(
            {
                "workspaceKey": self._broker.gateway.workspace_key or None,
                "defaultWorkspaceId": settings.workspace_id if settings else None,
                "memberships": views.memberships(self._state),
            }
        )

    async def _status(self, _request: web.Request) -> web.Response:
        body = views.status(self._state, time.time())
        return answer(body | {"agents": dated(body["agents"]), "log_locked_secs": self._log_locked_s})

    async def _metrics(self, request: web.Request) -> web.Response:
        wanted = request.query.get("agent")
        programs = [found for found in views.live_workers(self._state) if wanted in (None, found.name)]
        if wanted is not None and not programs:
            raise InvalidRequest(404, "agent_not_found", f"unknown worker '{wanted}'")
        now = time.time()
        listed = [
            {
                "name": found.name,
                "pid": found.pid,
                "memory_bytes": _memory(found.pid),
                "uptime_secs": int(max(0.0, now - found.launched_at)),
            }
            for found in sorted(programs, key=lambda found: found.name)
        ]
        return answer({"agents": listed, "broker": views.broker_metrics(self._state, now)})

    async def _replay(self, request: web.Request) -> web.Response:
        since, limit = _since(request), _number(request, "limit", 1000)
        upto = self._events.published
        missing = gap(self._state, since, upto, request.query.get("epoch"))
        return answer(
            {
                "events": stored(self._state, since if missing is None else missing["seq"], upto, limit),
                "gap": missing is not None,
                "oldestAvailable": since if missing is None else missing["oldestAvailable"],
                "currentSeq": upto,
                "epoch": self._state.epoch,
            }
        )

    async def _ws(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise InvalidRequest(400, "invalid_request", "/ws is a WebSocket endpoint: the request must be an upgrade")
        since, epoch = _since(request), request.query.get("epoch")
        session_id = self._agents.session_of(request.query["view"]) if "view" in request.query else ""
        viewer = object()

        async def heard(message: str) -> None:
            if session_id:
                await self._viewers.told(viewer, session_id, message)

        self._broker.gateway.watch_output(on=True)
        try:
            return await self._events.serve(request, since, epoch, heard)
        finally:
            self._used()
            if session_id:
                await asyncio.shield(self._viewers.left(viewer, session_id))
            if not len(self._events):
                self._decoders.clear()
                self._broker.gateway.watch_output(on=False)

    async def _openapi(self, _request: web.Request) -> web.Response:
        return answer(self._document())

    async def _shutdown(self, request: web.Request) -> web.Response:
        response = answer({"status": "shutting_down"})
        await response.prepare(request)
        await response.write_eof()
        self._request_shutdown("api_shutdown")
        return response


ROUTES = (
    ("GET", "/api/session"),
    ("POST", "/api/session/renew"),
    ("GET", "/api/config"),
    ("POST", "/api/spawn"),
    ("GET", "/api/spawned"),
    ("DELETE", "/api/spawned/{name}"),
    ("GET", "/api/spawned/{name}/snapshot"),
    ("POST", "/api/input/{name}"),
    ("POST", "/api/resize/{name}"),
    ("POST", "/api/send"),
    ("GET", "/api/spawned/{name}/delivery-mode"),
    ("PUT", "/api/spawned/{name}/delivery-mode"),
    ("GET", "/api/spawned/{name}/pending"),
    ("POST", "/api/spawned/{name}/flush"),
    ("GET", "/api/dead-letters"),
    ("GET", "/api/dead-letters/{id}"),
    ("POST", "/api/dead-letters/redeliver"),
    ("POST", "/api/dead-letters/purge"),
    ("GET", "/api/fleet/ws"),
    ("GET", "/api/events/replay"),
    ("GET", "/ws"),
    ("GET", "/api/status"),
    ("GET", "/api/metrics"),
    ("GET", "/api/why/{id}"),
    ("GET", "/api/log"),
    ("GET", "/api/openapi.json"),
    ("POST", "/api/shutdown"),
    ("GET", "/api/agent"),
    ("GET", "/api/agent/tools"),
    ("POST", "/api/agent/tools/{tool}"),
    ("POST", "/mcp"),
    ("GET", "/api/operator/tools"),
    ("POST", "/api/operator/tools/{tool}"),
)


async def _not_built(request: web.Request) -> web.Response:
    name = request.match_info.get("name")
    extra = {} if name is None else {"name": name}
    return refusal(501, "not_implemented", f"{request.method} {request.path} is not built yet", **extra)


def _since(request: web.Request) -> int:
    for key in ("sinceSeq", "since_seq"):
        if key in request.query:
            return _number(request, key, 0)
    return 0


def _number(request: web.Request, key: str, default: int) -> int:
    text = request.query.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise InvalidRequest(400, "invalid_field", f"{key} must be a whole number", field=key)
    return int(text)


def _memory(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
