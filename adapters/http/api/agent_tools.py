"""The routes that agents use with their own token: who am I, the tools as plain HTTP, and the tools over MCP.

The tools themselves are the application's (`relaybroker.mcp`); this file only carries requests to them and answers back.

Source: spec/conversation.md sections 1 and 2.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Protocol

from aiohttp import web

from relaybroker.adapters.http.api import views
from relaybroker.adapters.http.api.agent_scope import OPERATOR, AgentCaller, caller_of
from relaybroker.adapters.http.api.answers import Answer, JsonObject, Own, Released, Spawned
from relaybroker.adapters.http.api.bodies import BODY_WAIT_S, Body, ReleaseBody
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.envelope import answer
from relaybroker.adapters.http.api.routing import route
from relaybroker.adapters.http.api.send_route import KEY_HEADER, one_key
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import FetchEnded

_log = logging.getLogger(__name__)


class Answered(NamedTuple):
    """What goes back over HTTP for one MCP message: a JSON body, or none for what needs no answer."""

    status: int
    body: bytes | None
    fetch_id: str = ""
    """The fetch that this answers; the core must hear whether the answer went out whole."""


class Used(NamedTuple):
    """The result of a tool."""

    result: dict[str, Any]
    fetch_id: str = ""
    """As in `Answered`."""


class Fleet(Protocol):
    """Who starts and ends agents."""

    async def spawn_as(self, value: dict[str, Any], *, source: str = ..., invocation_id: str = ...) -> Spawned:
        """Spawn an agent from a request's value. Raises InvalidRequest."""

    async def release_as(self, name: str, body: ReleaseBody) -> Released:
        """Release an agent. Raises InvalidRequest."""


class AgentTools(Protocol):
    """What agents can do, as tools."""

    def listing(self, caller: AgentCaller) -> list[dict[str, Any]]:
        """Every tool that this agent may use: name, description, schema of the arguments, what it changes."""

    async def call(self, caller: AgentCaller, tool: str, arguments: dict[str, Any], key: str) -> Used:
        """Use a tool; its result. The same `key` again does nothing more. Raises InvalidRequest."""

    async def answered(self, caller: AgentCaller, message: bytes, headers: Mapping[str, str], key: str) -> Answered:
        """The answer to one MCP message; `headers` by lower-case name. Whatever the message is, this raises nothing for it."""


class Tools(Answer, frozen=True, kw_only=True):
    """Every tool that the agent may use: name, description, schema of the arguments, what it changes."""

    tools: list[JsonObject]


class AgentToolRoutes:
    """Handlers of the routes for agents."""

    def __init__(self, access: BrokerAccess, tools: AgentTools) -> None:
        self._access = access
        self._tools = tools

    @route(
        "GET /api/agent",
        "Identify the calling agent and list what is waiting for it, and why.",
        agents="who it is, and what is waiting for it",
    )
    async def who(self, request: web.Request) -> Own:
        """GET /api/agent."""
        caller = caller_of(request)
        own = views.own(self._access.state, caller.agent_id, self._access.now())
        if own is None:
            raise InvalidRequest(Refusal.UNKNOWN_CALLER, "unauthorized", "the agent is no longer registered here")
        return own

    @route("GET /api/agent/tools", "List the calling agent's tools.", agents="list its tools")
    async def listing(self, request: web.Request) -> Tools:
        """GET /api/agent/tools."""
        return Tools(tools=self._tools.listing(caller_of(request)))

    @route(
        "POST /api/agent/tools/{tool}",
        "Call a tool: its arguments as the body, its result as the answer.",
        errors=(404, 409, 413, 429, 502, 504),
        about="tool",
        agents="call a tool, as over MCP",
    )
    async def call(
        self, request: web.Request, body: Annotated[JsonObject, Body]
    ) -> Annotated[web.Response, JsonObject]:
        """POST /api/agent/tools/{tool}."""
        caller = caller_of(request)
        used = await self._tools.call(caller, request.match_info["tool"], body, _key_of(request))
        return await self._sent(request, answer(used.result), caller, used.fetch_id)

    async def _sent(
        self, request: web.Request, response: web.Response, caller: AgentCaller, fetch_id: str
    ) -> web.Response:
        """The answer; where it answers a fetch it is sent here, and the core hears whether it went out whole."""
        if not fetch_id:
            return response
        whole = False
        try:
            await response.prepare(request)
            await response.write_eof()
            whole = request.transport is not None and not request.transport.is_closing()
        except (ConnectionError, asyncio.CancelledError):
            _log.info("the answer to a fetch of %s broke off", caller.name)
            raise
        finally:
            ended = FetchEnded(agent_id=caller.agent_id, fetch_id=fetch_id, answered=whole)
            if not self._access.gateway.offer(ended):
                _log.warning("no room for the end of a fetch of %s: it counts as doubtful", caller.name)
        return response

    @route("GET /api/operator/tools", "List the tools that the operator can use as the broker's own identity.")
    async def operators_listing(self, _request: web.Request) -> Tools:
        """GET /api/operator/tools."""
        return Tools(tools=self._tools.listing(OPERATOR))

    @route(
        "POST /api/operator/tools/{tool}",
        "Call a tool as the broker's own identity: its arguments as the body, its result as the answer.",
        errors=(404, 409, 413, 429, 502, 504),
        about="tool",
    )
    async def operators_call(self, request: web.Request, body: Annotated[JsonObject, Body]) -> JsonObject:
        """POST /api/operator/tools/{tool}."""
        used = await self._tools.call(self._access.operator(), request.match_info["tool"], body, _key_of(request))
        return used.result

    @route(
        "POST /mcp",
        "One message of the Model Context Protocol (Streamable HTTP with JSON answers), with an agent's own token.",
        errors=(400, 404, 408),
        agents="use the tools over the Model Context Protocol",
    )
    async def mcp(self, request: web.Request) -> web.Response:
        """POST /mcp."""
        caller = caller_of(request)
        try:
            async with asyncio.timeout(BODY_WAIT_S):
                message = await request.read()
        except TimeoutError as error:
            text = f"The body did not arrive within {BODY_WAIT_S:.0f} s"
            raise InvalidRequest(Refusal.SLOW, "request_timeout", text) from error
        headers = {name.lower(): value for name, value in request.headers.items()}
        status, body, fetch_id = await self._tools.answered(caller, message, headers, _key_of(request))
        response = web.Response(status=status, body=body, content_type="application/json" if body is not None else None)
        return await self._sent(request, response, caller, fetch_id)


def _key_of(request: web.Request) -> str:
    return one_key(request.headers.getall(KEY_HEADER, []))
