"""What an agent may do with its own token on the local API: a table, and everything that is not in it is refused.

Rules:

* The credential is the agent's newest token (`RELAY_AGENT_TOKEN`). It acts as that agent, only while its registration here lives.
* A wrong, former or foreign token is 401 `unauthorized`; a route that is not in the table is 403 `agent_scope`, whatever the route does.
* A route of agents asked with the broker's key is 403 `agent_token_required`: the operator is no agent.
* An agent's requests do not renew the owner's lease.

Source: spec/conversation.md section 1; ADR-0048.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from aiohttp import web

from relaybroker.domain.errors import InvalidRequest

AGENT_ROUTES: Mapping[str, str] = MappingProxyType(
    {
        "GET /health": "everybody may",
        "GET /api/agent": "who it is, and what waits for it",
        "GET /api/agent/tools": "what it can do, as tools",
        "POST /api/agent/tools/{tool}": "use a tool: the same as over MCP",
        "POST /mcp": "use the tools over the Model Context Protocol",
        "POST /api/send": "send, as itself",
        "GET /api/openapi.json": "how to ask",
    }
)
"""Route -> what an agent does with it. Nothing else answers an agent."""


_PATHS = frozenset(route.partition(" ")[2] for route in AGENT_ROUTES)


class AgentCaller(NamedTuple):
    """An agent that was recognised by its token; without an id the operator, who acts as the broker's own identity."""

    agent_id: str
    name: str

    @property
    def is_operator(self) -> bool:
        """Whether the broker's key was used."""
        return not self.agent_id

    @property
    def credential(self) -> str:
        """Whose token goes to the engine, as `EngineCall.auth` names it."""
        return f"agent:{self.agent_id}" if self.agent_id else "own"


OPERATOR = AgentCaller("", "")
"""The operator, whatever the broker's identity is called."""

CALLER: web.RequestKey[AgentCaller] = web.RequestKey("caller", AgentCaller)
"""Where a request has the agent that asks; the operator's has nothing there."""


def caller_of(request: web.Request) -> AgentCaller:
    """The agent that asks.

    Raises:
        InvalidRequest: 403 `agent_token_required`, the broker's key was used.
    """
    caller: AgentCaller | None = request.get(CALLER)
    if caller is None:
        text = "this route is for agents: it takes an agent's own token (RELAY_AGENT_TOKEN), not the broker's key"
        raise InvalidRequest(403, "agent_token_required", text)
    return caller


def is_outside(request: web.Request) -> bool:
    """Whether a request asks for something that is not in the table. A known path with another method is 405 as for everybody."""
    resource = request.match_info.route.resource
    if resource is None:
        return not (isinstance(request.match_info.http_exception, web.HTTPMethodNotAllowed) and request.path in _PATHS)
    return f"{request.method} {resource.canonical}" not in AGENT_ROUTES
