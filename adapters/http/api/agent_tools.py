"""The routes that agents use with their own token: who am I, the tools as plain HTTP, and the tools over MCP.

The tools themselves are the application's (`relaybroker.mcp`); this file only carries requests to them and answers back.

Source: spec/conversation.md sections 1 and 2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Protocol

from aiohttp import web

from relaybroker.adapters.http.api import views
from relaybroker.adapters.http.api.agent_scope import AgentCaller, caller_of
from relaybroker.adapters.http.api.answers import Answer, JsonObject, Own
from relaybroker.adapters.http.api.bodies import BODY_WAIT_S, Body
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.routing import route
from relaybroker.adapters.http.api.send_route import KEY_HEADER, one_key
from relaybroker.domain.errors import InvalidRequest, Refusal


class Answered(NamedTuple):
    """What goes back over HTTP for one MCP message: a JSON body, or none for what needs no answer."""

    status: int
    body: bytes | None


class AgentTools(Protocol):
    """What agents can do, as tools."""

    def listing(self, caller: AgentCaller) -> list[dict[str, Any]]:
        """Every tool that this agent may use: name, description, schema of the arguments, what it changes."""

    async def call(self, caller: AgentCaller, tool: str, arguments: dict[str, Any], key: str) -> dict[str, Any]:
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
        "Identify the calling agent, and list what waits for it and why.",
        agents="who it is, and what waits for it",
    )
    async def who(self, request: web.Request) -> Own:
        """GET /api/agent."""
        caller = caller_of(request)
        found = views.own(self._access.state, caller.agent_id, self._access.now())
        if found is None:
            raise InvalidRequest(Refusal.UNKNOWN_CALLER, "unauthorized", "the agent is no longer registered here")
        return found

    @route("GET /api/agent/tools", "List the calling agent's tools.", agents="what it can do, as tools")
    async def listing(self, request: web.Request) -> Tools:
        """GET /api/agent/tools."""
        return Tools(tools=self._tools.listing(caller_of(request)))

    @route(
        "POST /api/agent/tools/{tool}",
        "Use a tool: its arguments as the body, its result as the answer.",
        errors=(404, 409, 413, 429, 502, 504),
        about="tool",
        agents="use a tool: the same as over MCP",
    )
    async def call(self, request: web.Request, body: Annotated[JsonObject, Body]) -> JsonObject:
        """POST /api/agent/tools/{tool}."""
        return await self._tools.call(caller_of(request), request.match_info["tool"], body, _key_of(request))

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
        status, body = await self._tools.answered(caller, message, headers, _key_of(request))
        return web.Response(status=status, body=body, content_type="application/json" if body is not None else None)


def _key_of(request: web.Request) -> str:
    return one_key(request.headers.getall(KEY_HEADER, []))
