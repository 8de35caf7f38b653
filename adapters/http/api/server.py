"""The local API as a server: listens from the first moment, answers everything once the broker is ready.

Source: spec/local-api.md sections 0.3, 1, 7.4, 11.4.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from relaybroker.adapters.http.api.agent_scope import AgentCaller
from relaybroker.adapters.http.api.agent_tools import AgentToolRoutes, AgentTools, Fleet
from relaybroker.adapters.http.api.agents_routes import AgentRoutes
from relaybroker.adapters.http.api.audit_routes import AuditRoutes
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.broker_routes import About, BrokerRoutes, HealthRoute
from relaybroker.adapters.http.api.dead_letter_routes import DeadLetterRoutes
from relaybroker.adapters.http.api.envelope import Guard, Handler, refused
from relaybroker.adapters.http.api.event_routes import EventRoutes
from relaybroker.adapters.http.api.event_stream import EventStream
from relaybroker.adapters.http.api.fleet_socket import FleetSockets
from relaybroker.adapters.http.api.gateway import Gateway
from relaybroker.adapters.http.api.history_routes import HistoryRoutes
from relaybroker.adapters.http.api.hold_routes import HoldRoutes
from relaybroker.adapters.http.api.input_stream import InputStreams
from relaybroker.adapters.http.api.membership_routes import MembershipRoutes
from relaybroker.adapters.http.api.model_route import ModelRoute
from relaybroker.adapters.http.api.page_routes import Asset, PageRoutes
from relaybroker.adapters.http.api.page_sessions import PageSessions
from relaybroker.adapters.http.api.question_routes import QuestionRoutes
from relaybroker.adapters.http.api.result_route import ResultRoute
from relaybroker.adapters.http.api.routing import Route, served
from relaybroker.adapters.http.api.send_route import SendRoute
from relaybroker.adapters.http.api.table import AGENT_ROUTES, GROUPS, NOT_BUILT, OPEN_PATHS, TABLE
from relaybroker.adapters.http.api.viewers import Viewers
from relaybroker.adapters.sessions.host.protocol import Output
from relaybroker.domain.announcements import AgentExited, AgentReleased
from relaybroker.domain.effects import Announce, InvokeHandler, Reply
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.state import State
from relaybroker.serving.connections import Connections

BODY_LIMIT = 2 * 1024 * 1024
_STARTING = "Broker is starting, please retry"


class LocalApi:
    """The local HTTP and WebSocket API of one broker.

    Args:
        api_key: the key that every route but `/health` needs.
        version: of the broker.
        persist: whether the broker runs without an owner lease.
        base_url: of the engine, if the operator chose one.
        document: makes what `/api/openapi.json` answers.
        make_tools: makes what agents can do with their own tokens, over the broker.
        page: the files of the web page, by name.
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
        page: Mapping[str, Asset],
        allowed_hosts: Sequence[str] = (),
        allowed_origins: Sequence[str] = (),
        request_shutdown: Callable[[str], None],
    ) -> None:
        sessions = PageSessions()
        self._connections = Connections()
        self._guard = Guard(
            api_key,
            tuple(allowed_hosts),
            tuple(allowed_origins),
            agent_of=self._agent_of,
            agent_routes=frozenset(AGENT_ROUTES),
            open_paths=OPEN_PATHS,
            on_use=self._used,
            page=sessions,
            vouch=self._connections.vouch,
        )
        self._make_tools = make_tools
        self._about = About(version, persist, base_url, time.monotonic(), document, request_shutdown)
        self._last_use = time.monotonic()
        self._access: BrokerAccess | None = None
        self._events = EventStream(lambda: self._state)
        self._groups: dict[type, object] = {
            HealthRoute: HealthRoute(self._about, self._guard, self._events, lambda: self._access),
            PageRoutes: PageRoutes(sessions, page),
        }
        self._event_routes: EventRoutes | None = None
        self._fleet: FleetSockets | None = None
        self._keyboards: InputStreams | None = None
        self._runner: web.AppRunner | None = None

    # --- life cycle -----------------------------------------------------------------------------------------------------

    async def bind(self, host: str, port: int) -> int:
        """Listen, and answer as during start-up; the port. Raises OSError."""
        if self._runner is None:
            self._runner = web.AppRunner(self._front(), access_log=None, shutdown_timeout=0.5)
            await self._runner.setup()
        return await self._connections.listen(self._runner, host, port)

    def open(self, core: Gateway) -> None:
        """Answer everything from now on."""
        access = self._access = BrokerAccess(core)
        self._events.open()
        viewers = Viewers(access)
        agents, send = AgentRoutes(access, viewers), SendRoute(access)
        self._event_routes = EventRoutes(
            access, self._events, viewers, session_of=agents.session_of, on_leave=self._used
        )
        self._fleet = FleetSockets(
            access, agents, send, version=self._about.version, shutdown=self._about.request_shutdown
        )
        memberships = MembershipRoutes(access)
        self._keyboards = InputStreams(agents.session_of, agents.write)
        opened = (
            BrokerRoutes(self._about, self._events, access),
            agents,
            self._keyboards,
            memberships,
            ModelRoute(access, agents.write),
            QuestionRoutes(access, agents.ask_host, agents.write),
            ResultRoute(access),
            HistoryRoutes(access),
            HoldRoutes(access),
            DeadLetterRoutes(access),
            send,
            self._event_routes,
            AuditRoutes(core.audit, access),
            AgentToolRoutes(access, self._make_tools(access, agents)),
            self._fleet,
        )
        self._groups |= {type(group): group for group in opened}
        assert set(self._groups) == set(GROUPS), "every class of the table has its handlers"

    async def close(self) -> None:
        """End sockets with 1001, answer waiting requests with 503, stop listening."""
        if self._access is not None:
            self._access.close()
        await self._events.close()
        if self._keyboards is not None:
            await self._keyboards.close_all()
        if self._fleet is not None:
            await self._fleet.close_all()
        if self._runner is not None:
            await self._connections.close()
            await self._runner.cleanup()

    # --- what the broker says ---------------------------------------------------------------------------------------------

    def reply(self, reply: Reply) -> None:
        """Answer one request."""
        if self._access is not None:
            self._access.reply(reply)

    def announce(self, wanted: Announce) -> None:
        """Tell every `/ws` client. Before the router opens there is none, but the numbers count."""
        self._events.announce(wanted.announced)
        if self._keyboards is not None and isinstance(wanted.announced.what, AgentExited | AgentReleased):
            self._keyboards.ended(wanted.announced.what.name)

    def invoke_handler(self, wanted: InvokeHandler) -> None:
        """Give an invocation to a sidecar."""
        if self._fleet is not None:
            self._fleet.invoke(wanted)

    def close_sidecar(self, connection: str, detail: str) -> None:
        """Close a sidecar's socket after what was sent before."""
        if self._fleet is not None:
            self._fleet.close(connection, detail)

    def output(self, output: Output) -> None:
        """Give terminal output to who watches it."""
        if self._event_routes is not None:
            self._event_routes.output(output)

    def idle_s(self) -> float:
        """Seconds since anybody with the key asked for anything; 0 while a `/ws` is open."""
        return 0.0 if len(self._events) else time.monotonic() - self._last_use

    def _agent_of(self, token: str) -> AgentCaller | None:
        return None if self._access is None else self._access.agent_of(token)

    def _used(self) -> None:
        self._last_use = time.monotonic()

    @property
    def _state(self) -> State:
        return self._access.state if self._access is not None else State()

    # --- routing ------------------------------------------------------------------------------------------------------------

    def _front(self) -> web.Application:
        app = web.Application(
            middlewares=[self._connections.middleware, self._starting, self._guard.middleware],
            client_max_size=BODY_LIMIT,
            handler_args={"max_field_size": 32 * 1024, "max_line_size": 32 * 1024},
        )
        for group, routes in TABLE.items():
            for route in routes:
                handler = self._handler(group, route)
                app.router.add_route(route.method, route.path, handler)
                if route.is_open:
                    app.router.add_head(route.path, handler)  # monitors ask so
        for method, path in NOT_BUILT:
            app.router.add_route(method, path, _not_built)
        return app

    def _handler(self, group: type, route: Route) -> Handler:
        """The handler of a route, which is looked up when it is asked: most come with `open`."""

        async def handle(request: web.Request) -> web.StreamResponse:
            """What a settled route tells, a crash does not take back; and the log is read up to what was told before."""
            handler = served(route, self._groups[group])
            if self._access is None or not route.settled:
                return await handler(request)
            await self._access.gateway.settled()
            response = await handler(request)
            await self._access.gateway.settled()
            return response

        return handle

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


async def _not_built(request: web.Request) -> web.Response:
    name = request.match_info.get("name")
    about: dict[str, object] = {} if name is None else {"name": name}
    text = f"{request.method} {request.path} is not built yet"
    return refused(InvalidRequest(Refusal.NOT_BUILT, "not_implemented", text, **about))
