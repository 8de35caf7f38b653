"""Who may do what on the engine's REST API: one table, one row for each route, and no route without a row.

Rules:

* The workspace key is the operator's: it reaches everything of its workspace. What only makes sense for an agent, it is refused.
* An agent's token reaches what is the agent's own, what is said where it is a member, and what a workspace shares: who is there, which
  channels, nodes and actions exist. `Reach` names how far; its check runs before the route does anything.
* An observer's token reads what its scopes name, in no other workspace, and changes nothing.
* The content of a file is sent and fetched by a ticket in its URL, which is for this file, one purpose and a limited time.
* A webhook's token speaks in the channel of that webhook, and does nothing else.
* A node's token opens the node's socket (`/v1/node/ws`), and speaks in channels: as an agent that is on the node, or under a name that
  no agent has. The implicit direct node of an agent serves that agent and no other one.
* What belongs to another workspace does not exist.
* A message that the caller may not read does not exist for it (404), whichever route asks.

Source: spec/engine-contract.md section 2.8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from relaybroker.engine import actions, channels, files, invocations, messages
from relaybroker.engine.auth import Caller
from relaybroker.engine.errors import EngineError, not_found
from relaybroker.engine.store import Tx

Check = Callable[[Tx, Caller, Mapping[str, str]], None]
"""Refuses an agent (EngineError) what the names in the path lead to."""


@dataclass(frozen=True)
class Reach:
    """How far an agent's token reaches by a route."""

    says: str
    check: Check | None = None


@dataclass(frozen=True)
class Sight:
    """The scope by which an observer's token reads a route; "" = any."""

    scope: str
    check: Check | None = None


@dataclass(frozen=True)
class Rule:
    """Who may use a route. `agent`, `observer` None: none of these. `workspace` False: 401, or 403 `agent_token_required` if it is told."""

    agent: Reach | None = None
    observer: Sight | None = None
    webhook: bool = False
    node: bool = False
    workspace: bool = True
    workspace_is_told: bool = False

    @property
    def letters(self) -> str:
        """The kinds of tokens that authentication lets through."""
        return (
            ("W" if self.workspace or self.workspace_is_told else "")
            + ("A" if self.agent else "")
            + ("O" if self.observer else "")
            + ("H" if self.webhook else "")
            + ("N" if self.node else "")
        )


def _reads_message(tx: Tx, caller: Caller, path: Mapping[str, str]) -> None:
    messages.readable(tx, caller, path["id"])


def _speaks_about_message(tx: Tx, caller: Caller, path: Mapping[str, str]) -> None:
    messages.answerable(tx, caller, path["id"])


def _reads_file(tx: Tx, caller: Caller, path: Mapping[str, str]) -> None:
    files.readable(tx, caller, path["id"])


def _owns_file(tx: Tx, caller: Caller, path: Mapping[str, str]) -> None:
    files.owned(tx, caller, path["id"])


def _in_channel(tx: Tx, caller: Caller, path: Mapping[str, str]) -> None:
    channel = channels.find(tx, caller.workspace_id, path["name"])
    if not channels.is_member(tx, channel["id"], caller.id):
        raise EngineError(403, "not_a_member", "Not a member of this channel")


def _owns_channel(tx: Tx, caller: Caller, path: Mapping[str, str]) -> None:
    channel = channels.find(tx, caller.workspace_id, path["name"])
    if not tx.one(
        "SELECT 1 FROM members WHERE channel_id = ? AND agent_id = ? AND role = 'owner'", channel["id"], caller.id
    ):
        raise EngineError(403, "forbidden", "Another one owns this channel")


def _is_named(_tx: Tx, caller: Caller, path: Mapping[str, str]) -> None:
    if path["name"] != caller.name:
        raise EngineError(403, "forbidden", "An agent speaks only about itself")


def _handles_action(tx: Tx, caller: Caller, path: Mapping[str, str]) -> None:
    if actions.find(tx, caller.workspace_id, path["name"])["handler_agent_id"] != caller.id:
        raise EngineError(403, "forbidden", "Another one handles this action")


def _takes_part_in_invocation(tx: Tx, caller: Caller, path: Mapping[str, str]) -> None:
    row = invocations.find(tx, caller.workspace_id, path["name"], path["id"])
    if caller.id not in (row["caller_id"], row["handler_agent_id"]):
        raise not_found("invocation_not_found", "Invocation not found")


SHARED = Reach("everything (shared by the workspace)")
ITSELF = Reach("itself")
MEMBER_READS = Reach("where it is a member, and its own messages", _reads_message)
MEMBER_FINDS = Reach("where it is a member, and its own messages")
MEMBER_ANSWERS = Reach("in its own conversations and in every channel", _speaks_about_message)
READS_FILES = Reach("its own files, and those of messages that it may read", _reads_file)
FINDS_FILES = Reach("its own files, and those of messages that it may read")
IN_CHANNEL = Reach("where it is a member", _in_channel)
IN_CONVERSATION = Reach("its own conversations")
ANY_CHANNEL = Reach("every channel, without becoming a member")

_OPERATOR = Rule()


def _seen(rule: Rule, scope: str, check: Check | None = None) -> Rule:
    return replace(rule, observer=Sight(scope, check))


_SHARED = Rule(SHARED)
_AGENT = Rule(ITSELF, workspace=False)


def _agent(reach: Reach, *, workspace_is_told: bool = False) -> Rule:
    return Rule(reach, workspace=False, workspace_is_told=workspace_is_told)


AUTHORITY: Mapping[str, Rule] = MappingProxyType(
    {
        "GET /v1/workspace": _seen(_OPERATOR, ""),
        "PATCH /v1/workspace": _OPERATOR,
        "DELETE /v1/workspace": _OPERATOR,
        "GET /v1/workspace/system-prompt": _OPERATOR,
        "PUT /v1/workspace/system-prompt": _OPERATOR,
        "GET /v1/workspace/stream": _OPERATOR,
        "PUT /v1/workspace/stream": _OPERATOR,
        "POST /v1/webhooks": _OPERATOR,
        "GET /v1/webhooks": _OPERATOR,
        "DELETE /v1/webhooks/{id}": _OPERATOR,
        "POST /v1/hooks/{id}": Rule(webhook=True, workspace=False),
        "POST /v1/subscriptions": _OPERATOR,
        "GET /v1/subscriptions": _OPERATOR,
        "GET /v1/subscriptions/{id}": _OPERATOR,
        "DELETE /v1/subscriptions/{id}": _OPERATOR,
        "GET /v1/subscriptions/{id}/posts": _OPERATOR,
        "GET /v1/refusals": _OPERATOR,
        "POST /v1/observer-tokens": _OPERATOR,
        "GET /v1/observer-tokens": _OPERATOR,
        "GET /v1/observer-tokens/{id}": _OPERATOR,
        "PATCH /v1/observer-tokens/{id}": _OPERATOR,
        "POST /v1/observer-tokens/{id}/rotate": _OPERATOR,
        "DELETE /v1/observer-tokens/{id}": _OPERATOR,
        "GET /v1/activity": _seen(_OPERATOR, "activity:read"),
        "POST /v1/agents": _OPERATOR,
        "GET /v1/agents": _seen(_OPERATOR, "agents:read"),
        "GET /v1/agents/presence": _seen(_SHARED, "agents:read"),
        "POST /v1/agents/heartbeat": _AGENT,
        "POST /v1/agents/disconnect": _AGENT,
        "POST /v1/agents/spawn": Rule(Reach("new names, and agents it started")),
        "POST /v1/agents/release": Rule(Reach("itself, and agents it started")),
        "GET /v1/agents/{name}": _OPERATOR,
        "PATCH /v1/agents/{name}": _OPERATOR,
        "DELETE /v1/agents/{name}": _OPERATOR,
        "POST /v1/agents/{name}/rotate-token": _OPERATOR,
        "POST /v1/agents/{name}/events": Rule(Reach("itself", _is_named)),
        "GET /v1/agents/{name}/events": _seen(_OPERATOR, "agents:read"),
        "GET /v1/agent": _AGENT,
        "POST /v1/agent/node-token": _AGENT,
        "POST /v1/nodes": _OPERATOR,
        "GET /v1/nodes": _seen(_SHARED, "nodes:read"),
        "GET /v1/nodes/{name}": _seen(_SHARED, "nodes:read"),
        "GET /v1/nodes/{name}/agents": _seen(_SHARED, "nodes:read"),
        "POST /v1/nodes/{name}/agents": _OPERATOR,
        "DELETE /v1/nodes/{name}/agents/{agent}": _OPERATOR,
        "POST /v1/channels": Rule(Reach("new names")),
        "GET /v1/channels": _seen(_SHARED, "channels:read"),
        "GET /v1/channels/{name}": _seen(_SHARED, "channels:read"),
        "GET /v1/channels/{name}/members": _seen(_SHARED, "channels:read"),
        "PATCH /v1/channels/{name}": Rule(IN_CHANNEL),
        "PATCH /v1/channels/{name}/topic": Rule(IN_CHANNEL),
        "DELETE /v1/channels/{name}": Rule(Reach("channels that it owns", _owns_channel)),
        "POST /v1/channels/{name}/join": _AGENT,
        "POST /v1/channels/{name}/leave": _AGENT,
        "POST /v1/channels/{name}/{verb}": _AGENT,
        "POST /v1/channels/{name}/invite": _agent(IN_CHANNEL, workspace_is_told=True),
        "GET /v1/channels/{name}/read-status": Rule(IN_CHANNEL),
        "GET /v1/channels/{name}/messages": _seen(Rule(IN_CHANNEL), "messages:read"),
        "POST /v1/channels/{name}/messages": replace(_agent(ANY_CHANNEL, workspace_is_told=True), node=True),
        "GET /v1/messages/{id}": _seen(Rule(MEMBER_READS), "messages:read", _reads_message),
        "GET /v1/messages/{id}/replies": _seen(Rule(MEMBER_READS), "threads:read", _reads_message),
        "GET /v1/messages/{id}/reactions": _seen(Rule(MEMBER_READS), "reactions:read", _reads_message),
        "GET /v1/messages/{id}/readers": Rule(MEMBER_READS),
        "POST /v1/messages/{id}/replies": _agent(MEMBER_ANSWERS),
        "POST /v1/messages/{id}/reactions": _agent(MEMBER_READS),
        "DELETE /v1/messages/{id}/reactions/{emoji}": _agent(MEMBER_READS),
        "POST /v1/messages/{id}/read": _agent(MEMBER_READS),
        "GET /v1/search": _seen(Rule(MEMBER_FINDS), "search:read"),
        "POST /v1/dm": _agent(Reach("every agent of the workspace")),
        "GET /v1/dm/conversations": _agent(IN_CONVERSATION),
        "GET /v1/dm/conversations/all": _seen(_OPERATOR, "dms:read"),
        "GET /v1/dm/conversations/{conversation}/messages": _seen(_OPERATOR, "dms:read"),
        "POST /v1/dm/group": _agent(Reach("itself and every agent of the workspace")),
        "GET /v1/dm/{conversation}/messages": _agent(IN_CONVERSATION),
        "POST /v1/dm/{conversation}/messages": _agent(IN_CONVERSATION),
        "POST /v1/dm/{conversation}/participants": _agent(Reach("its own groups, and every agent of the workspace")),
        "DELETE /v1/dm/{conversation}/participants/{agent}": _agent(Reach("its own groups, and only itself")),
        "POST /v1/files/upload": _AGENT,
        "POST /v1/files/{id}/complete": _agent(Reach("its own files", _owns_file)),
        "GET /v1/files": _seen(Rule(FINDS_FILES), "files:read"),
        "GET /v1/files/{id}": _seen(Rule(READS_FILES), "files:read", _reads_file),
        "DELETE /v1/files/{id}": Rule(Reach("its own files", _owns_file)),
        "GET /v1/deliveries": _AGENT,
        "POST /v1/deliveries/{id}/ack": _AGENT,
        "POST /v1/deliveries/{id}/fail": _AGENT,
        "POST /v1/deliveries/{id}/defer": _AGENT,
        "GET /v1/inbox": _AGENT,
        "POST /v1/actions": Rule(Reach("itself as handler, for new names and those it already handles")),
        "GET /v1/actions": _SHARED,
        "GET /v1/actions/{name}": _SHARED,
        "DELETE /v1/actions/{name}": Rule(Reach("actions it handles", _handles_action)),
        "POST /v1/actions/{name}/invoke": _agent(Reach("actions available to it"), workspace_is_told=True),
        "GET /v1/actions/{name}/invocations/{id}": Rule(
            Reach("invocations it made or handles", _takes_part_in_invocation)
        ),
        "POST /v1/actions/{name}/invocations/{id}/complete": Rule(Reach("invocations it handles")),
    }
)
"""Route -> who may use it."""


class Absent(NamedTuple):
    """What SDKs ask for and this engine does not have, and why not."""

    what: str
    why: str


_FOREIGN = "the engine of one machine has no agents outside of it"
_HOSTED = "an offer of the hosted service to its customers"

ABSENT: Mapping[str, Absent] = MappingProxyType(
    {
        "a2a": Absent("agents of other protocols", _FOREIGN),
        "certify": Absent("certification", _HOSTED),
        "console": Absent("the console", _HOSTED),
        "directory": Absent("the directory", _FOREIGN),
        "route": Absent("semantic routing", "it needs a language model of its own"),
        "routing": Absent("semantic routing", "it needs a language model of its own"),
        "skills": Absent("skills", _FOREIGN),
        "triggers": Absent("triggers", "a subscription posts the same messages to a program, which invokes the action"),
    }
)
"""First part of a path below `/v1` -> what SDKs ask for there. The engine answers 501 `not_implemented` and names it."""

OPEN: Mapping[str, str] = MappingProxyType(
    {
        "GET /health": "whether the engine answers",
        "POST /v1/workspaces": "create a workspace, up to a limit; open an existing one only with its own key",
        "GET /v1/workspaces/by-name/{name}": "look up a workspace id by name",
        "PUT /v1/files/{id}/content": "send the content of a file, with the ticket in its `upload_url`",
        "GET /v1/files/{id}/content": "fetch the content of a file, with the ticket in its `download_url`",
    }
)
"""Route -> what anybody on this machine may do without a token. Web pages may not: their Origin is refused."""
