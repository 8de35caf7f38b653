"""Routes about the broker itself: whether it lives, which one it is, how it stands, its end.

Source: spec/local-api.md sections 1.2 and 7.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import msgspec
import psutil
from aiohttp import web

from relaybroker.adapters.http.api import views
from relaybroker.adapters.http.api.answers import (
    Answer,
    BrokerMetrics,
    DiskView,
    Health,
    JsonObject,
    Link,
    Membership,
    Status,
)
from relaybroker.adapters.http.api.bodies import Query
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.envelope import Guard, answer
from relaybroker.adapters.http.api.event_stream import EventStream
from relaybroker.adapters.http.api.rendering import answered
from relaybroker.adapters.http.api.routing import route
from relaybroker.adapters.http.proof import HEADER, is_challenge
from relaybroker.domain import inputs
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.state import State

LEASE_S = 120
ENROL_WAIT_S = 20.0
PROTOCOL_VERSION = 2


class About(NamedTuple):
    """What a broker says of itself that is not in its state."""

    version: str
    persist: bool
    """It runs without an owner lease."""
    base_url: str | None
    """Of the engine, if the operator chose one."""
    began: float
    """On the monotonic clock."""
    document: Callable[[], dict[str, Any]]
    """Makes what `/api/openapi.json` answers."""
    request_shutdown: Callable[[str], None]


class Session(Answer, frozen=True, kw_only=True):
    """Which broker this is, its epoch and its last event."""

    broker_version: str
    protocol_version: int
    workspace_key: str | None
    relay_base_url: str | None
    default_workspace_id: str | None
    mode: str
    uptime_secs: int
    epoch: str
    boot_id: str
    last_seq: int
    link: Link


class Renewed(Answer, frozen=True, kw_only=True):
    """The owner's lease; 0 seconds = there is none to renew."""

    renewed: bool
    expires_in_secs: int
    persist: bool


class Config(Answer, frozen=True, kw_only=True):
    """Get the workspace key and memberships."""

    workspace_key: str | None = msgspec.field(name="workspaceKey")
    default_workspace_id: str | None = msgspec.field(name="defaultWorkspaceId")
    memberships: list[Membership]


class Enrolling(Answer, frozen=True, kw_only=True):
    """Whether the link begins anew, and how it stands now."""

    begun: bool
    link: Link


class AgentMetrics(Answer, frozen=True, kw_only=True):
    """What the program of an agent uses."""

    name: str
    pid: int
    memory_bytes: int
    uptime_secs: int


class Metrics(Answer, frozen=True, kw_only=True):
    """Resources of agents, and totals of the broker."""

    agents: list[AgentMetrics]
    broker: BrokerMetrics


class MetricsQuery(Query):
    """Of one agent, or of all."""

    agent: str | None = None


class ShuttingDown(Answer, frozen=True, kw_only=True):
    """The broker and its agents end."""

    status: str


class HealthRoute:
    """The handler of `/health`, which answers from the first moment.

    Args:
        about: the broker.
        guard: knows who has the key.
        events: whose sockets are counted.
        access: the broker behind it, None until it is there.
    """

    def __init__(
        self, about: About, guard: Guard, events: EventStream, access: Callable[[], BrokerAccess | None]
    ) -> None:
        self._about, self._guard, self._events, self._access = about, guard, events, access

    @route("GET /health", "Check liveness; needs no key.", agents="open to everyone", settled=False, is_open=True)
    async def health(self, request: web.Request) -> Health:
        """GET /health."""
        access = self._access()
        state = access.state if access is not None else State()
        locked_s = log_locked_s(access)
        body = msgspec.structs.replace(
            views.health(state, time.time(), known=self._guard.has_key(request)),
            version=self._about.version,
            uptime_ms=int(1000 * (time.monotonic() - self._about.began)),
            socket_count=len(self._events),
            memory_mb=psutil.Process().memory_info().rss // (1024 * 1024),
            log_locked_s=locked_s,
        )
        challenged = request.headers.get(HEADER, "")
        if is_challenge(challenged) and request.transport is not None:
            port = request.transport.get_extra_info("sockname")[1]
            body = msgspec.structs.replace(body, proof=self._guard.proof(challenged, port))
        if locked_s:
            body = msgspec.structs.replace(body, status="degraded", code="log_locked")
        if access is not None and not access.gateway.disk_room().takes_more:
            body = msgspec.structs.replace(body, status="degraded", code="disk_full")
        if error := os.environ.get("AGENT_RELAY_STARTUP_ERROR_CODE", "").strip().lower():
            status = "degraded" if error == "rate_limit_exceeded" else body.status
            body = msgspec.structs.replace(body, status=status, engine_connected=False)
        return body


class BrokerRoutes:
    """Handlers of the other routes about the broker.

    Args:
        about: the broker.
        events: whose numbers are told.
        access: the broker behind it.
    """

    def __init__(self, about: About, events: EventStream, access: BrokerAccess) -> None:
        self._about, self._events, self._access = about, events, access

    @route("GET /api/session", "Identify the broker.", settled=False)
    async def session(self, _request: web.Request) -> Session:
        """GET /api/session."""
        state = self._access.state
        return Session(
            broker_version=self._about.version,
            protocol_version=PROTOCOL_VERSION,
            workspace_key=self._access.gateway.workspace_key or None,
            relay_base_url=self._about.base_url,
            default_workspace_id=state.settings.workspace_id if state.settings else None,
            mode="persist" if self._about.persist else "ephemeral",
            uptime_secs=int(time.monotonic() - self._about.began),
            epoch=state.epoch,
            boot_id=f"bo_{state.boot_id}",
            last_seq=self._events.published,
            link=views.link(state, time.time()),
        )

    @route("POST /api/session/renew", "Renew the owner's lease.")
    async def renew(self, _request: web.Request) -> Renewed:
        """POST /api/session/renew."""
        persist = self._about.persist
        return Renewed(renewed=True, expires_in_secs=0 if persist else LEASE_S, persist=persist)

    @route("GET /api/config", "Get the workspace key and memberships.", settled=False)
    async def config(self, _request: web.Request) -> Config:
        """GET /api/config."""
        state = self._access.state
        return Config(
            workspace_key=self._access.gateway.workspace_key or None,
            default_workspace_id=state.settings.workspace_id if state.settings else None,
            memberships=views.memberships(state),
        )

    @route("GET /api/status", "Get the state of the broker, its link and its agents.")
    async def status(self, _request: web.Request) -> Status:
        """GET /api/status."""
        status = views.status(self._access.state, time.time())
        room = self._access.gateway.disk_room()
        return msgspec.structs.replace(
            status,
            log_locked_secs=log_locked_s(self._access),
            disk=DiskView(state=room.grade, free_bytes=room.free),
        )

    @route("POST /api/node/enrol", "Enrol and connect the node now, regardless of earlier attempts.", errors=(503, 504))
    async def enrol(self, _request: web.Request) -> Enrolling:
        """POST /api/node/enrol."""
        reply = await self._access.ask(lambda request_id: inputs.EnrolRequested(request_id=request_id), ENROL_WAIT_S)
        return Enrolling(begun=answered(reply, dict)["begun"], link=views.link(self._access.state, time.time()))

    @route("GET /api/metrics", "Get the resource usage of agents.", errors=(404,))
    async def metrics(self, _request: web.Request, query: MetricsQuery) -> Metrics:
        """GET /api/metrics."""
        state, wanted, now = self._access.state, query.agent, time.time()
        programs = [program for program in views.live_workers(state) if wanted in (None, program.name)]
        if wanted is not None and not programs:
            raise InvalidRequest(Refusal.ABSENT, "agent_not_found", f"unknown worker '{wanted}'")
        agents = [
            AgentMetrics(
                name=program.name,
                pid=program.pid,
                memory_bytes=_memory(program.pid),
                uptime_secs=int(max(0.0, now - program.launched_at)),
            )
            for program in sorted(programs, key=lambda program: program.name)
        ]
        return Metrics(agents=agents, broker=views.broker_metrics(state, now))

    @route("GET /metrics", "Get metrics for Prometheus, as text.", settled=False, media="text/plain")
    async def exposition(self, request: web.Request) -> Annotated[web.Response, str]:
        """GET /metrics."""
        body, content_type = self._access.gateway.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    @route("GET /api/openapi.json", "This document.", agents="the API description", settled=False)
    async def openapi(self, _request: web.Request) -> JsonObject:
        """GET /api/openapi.json."""
        return self._about.document()

    @route("POST /api/shutdown", "Shut down the broker and its agents.")
    async def shutdown(self, request: web.Request) -> Annotated[web.Response, ShuttingDown]:
        """POST /api/shutdown."""
        response = answer(ShuttingDown(status="shutting_down"))
        await response.prepare(request)
        await response.write_eof()
        self._about.request_shutdown("api_shutdown")
        return response


def log_locked_s(access: BrokerAccess | None) -> float:
    """For how many seconds another program has kept the log from being written."""
    return 0.0 if access is None else round(access.gateway.log_locked_s(), 1)


def _memory(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
