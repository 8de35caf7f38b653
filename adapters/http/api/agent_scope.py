"""What an agent may do with its own token on the local API: the routes that say so, and nothing else.

Rules:

* The credential is the agent's newest token (`RELAY_AGENT_TOKEN`). It acts as that agent, only while its registration here lives.
* A wrong, former or foreign token is 401 `unauthorized`; a route that is not marked for agents is 403 `agent_scope`, whatever it does.
* A route of agents asked with the broker's key is 403 `agent_token_required`: the operator is no agent.
* An agent's requests do not renew the owner's lease.

Source: spec/conversation.md section 1; ADR-0048.
"""

from __future__ import annotations

from typing import NamedTuple

from aiohttp import web

from relaybroker.domain.errors import InvalidRequest, Refusal


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
        InvalidRequest: `agent_token_required`, the broker's key was used.
    """
    caller: AgentCaller | None = request.get(CALLER)
    if caller is None:
        text = "this route is for agents: use an agent's own token (RELAY_AGENT_TOKEN), not the broker's key"
        raise InvalidRequest(Refusal.FORBIDDEN, "agent_token_required", text)
    return caller
