"""The one table of routes: the classes whose handlers answer, and with them every route, its body, query, answer and errors.

A new route is a marked method of one of these classes (`relaybroker.adapters.http.api.routing`); nothing else has to know of it.

Source: spec/local-api.md section 1.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from relaybroker.adapters.http.api.agent_tools import AgentToolRoutes
from relaybroker.adapters.http.api.agents_routes import AgentRoutes
from relaybroker.adapters.http.api.audit_routes import AuditRoutes
from relaybroker.adapters.http.api.broker_routes import BrokerRoutes, HealthRoute
from relaybroker.adapters.http.api.dead_letter_routes import DeadLetterRoutes
from relaybroker.adapters.http.api.event_routes import EventRoutes
from relaybroker.adapters.http.api.fleet_socket import FleetSockets
from relaybroker.adapters.http.api.history_routes import HistoryRoutes
from relaybroker.adapters.http.api.hold_routes import HoldRoutes
from relaybroker.adapters.http.api.input_stream import InputStreams
from relaybroker.adapters.http.api.membership_routes import MembershipRoutes
from relaybroker.adapters.http.api.model_route import ModelRoute
from relaybroker.adapters.http.api.page_routes import PageRoutes
from relaybroker.adapters.http.api.question_routes import QuestionRoutes
from relaybroker.adapters.http.api.result_route import ResultRoute
from relaybroker.adapters.http.api.routing import Route, routes_of
from relaybroker.adapters.http.api.send_route import SendRoute

GROUPS: tuple[type, ...] = (
    HealthRoute,
    BrokerRoutes,
    AgentRoutes,
    InputStreams,
    MembershipRoutes,
    ModelRoute,
    QuestionRoutes,
    ResultRoute,
    HistoryRoutes,
    HoldRoutes,
    DeadLetterRoutes,
    SendRoute,
    EventRoutes,
    AuditRoutes,
    AgentToolRoutes,
    FleetSockets,
    PageRoutes,
)

TABLE: Mapping[type, tuple[Route, ...]] = MappingProxyType({group: routes_of(group) for group in GROUPS})
"""Class of handlers -> its routes."""

ROUTES: tuple[Route, ...] = tuple(route for routes in TABLE.values() for route in routes)
"""Every route that is built."""

AGENT_ROUTES: Mapping[str, str] = MappingProxyType({route.key: route.agents for route in ROUTES if route.agents})
"""Route -> what an agent does with it. Nothing else answers an agent."""

NOT_BUILT: tuple[tuple[str, str], ...] = ()
"""Routes of the index that answer 501 until they are built; never 404, which means "no such agent" to clients."""

OPEN_PATHS = frozenset({route.path for route in ROUTES if route.is_open})
"""What needs no key. `/api/agent-result` has a token of its own."""
