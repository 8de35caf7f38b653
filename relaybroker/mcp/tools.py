"""Every tool that there is: its name, its arguments, and what it changes. A tool that is not built is not in this table.

Source: spec/conversation.md section 2.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

import msgspec

from relaybroker.domain.decoding import NOT_READABLE
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.names import nearest_names
from relaybroker.mcp import arguments
from relaybroker.mcp.arguments import AnyArguments

_Changes = Literal["nothing", "adds", "adds once", "takes", "takes away"]
"""`takes`: what is given is not given again. `adds`: each call adds one more. `adds once`: again is the same as once.
`takes away`: something is gone afterwards, once."""

_CHANGES: Mapping[type[AnyArguments], _Changes] = MappingProxyType(
    {
        arguments.SendDm: "adds",
        arguments.PostMessage: "adds",
        arguments.ReplyToThread: "adds",
        arguments.GetMessageThread: "nothing",
        arguments.CheckInbox: "takes",
        arguments.ListMessages: "nothing",
        arguments.ListDms: "nothing",
        arguments.MarkMessageRead: "adds once",
        arguments.GetMessageReaders: "nothing",
        arguments.SearchMessages: "nothing",
        arguments.AddReaction: "adds once",
        arguments.RemoveReaction: "takes away",
        arguments.ListAgents: "nothing",
        arguments.ListChannels: "nothing",
        arguments.CreateChannel: "adds once",
        arguments.JoinChannel: "adds once",
        arguments.LeaveChannel: "takes away",
        arguments.InviteToChannel: "adds once",
        arguments.SendGroupDm: "adds",
        arguments.SetChannelTopic: "adds once",
        arguments.ListActions: "nothing",
        arguments.InvokeAction: "adds",
        arguments.Spawn: "adds",
        arguments.RemoveAgent: "takes away",
        arguments.SubmitResult: "adds",
        arguments.SaveContinuity: "adds once",
        arguments.LoadContinuity: "nothing",
        arguments.MyStatus: "nothing",
        arguments.WhyMessage: "nothing",
        arguments.ShowMessage: "nothing",
        arguments.ReadThread: "nothing",
        arguments.FindMessages: "nothing",
    }
)


FOR_AGENTS = frozenset(
    {
        arguments.MyStatus,
        arguments.Spawn,
        arguments.RemoveAgent,
        arguments.SubmitResult,
        arguments.SaveContinuity,
        arguments.LoadContinuity,
        arguments.InvokeAction,
    }
)
"""What only an agent asks; the operator has other ways."""
ALLOWED: Mapping[type[AnyArguments], str] = MappingProxyType(
    {arguments.Spawn: "spawn", arguments.RemoveAgent: "release"}
)
"""What an agent may only where the operator allows it, by the word for it (`RELAYBROKER_AGENT_MAY`)."""
FOR_COMMANDS = frozenset({arguments.ShowMessage, arguments.ReadThread, arguments.FindMessages})
"""What the command is made of, and models are not shown."""


class Tool(msgspec.Struct, frozen=True):
    """One tool."""

    name: str
    arguments: type[AnyArguments]
    changes: _Changes

    def is_for(self, *, operator: bool, model: bool, may: Container[str]) -> bool:
        """Whether the operator, or else an agent, may use it.

        Args:
            operator: whether the operator asks.
            model: over MCP, where a model chooses among tools.
            may: what the operator allows agents.
        """
        if operator:
            return self.arguments not in FOR_AGENTS
        if model and self.arguments in FOR_COMMANDS:
            return False
        return self.arguments not in ALLOWED or ALLOWED[self.arguments] in may

    @property
    def description(self) -> str:
        """One or two sentences for whoever chooses among tools."""
        return (self.arguments.__doc__ or "").strip()

    @property
    def annotations(self) -> dict[str, bool]:
        """What it changes, in the protocol's words."""
        if self.changes == "nothing":
            return {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
        return {
            "readOnlyHint": False,
            "destructiveHint": self.changes == "takes away",
            "idempotentHint": self.changes not in ("adds", "takes"),
            "openWorldHint": False,
        }

    def listed(self) -> dict[str, Any]:
        """As it is shown to agents."""
        return {
            "name": self.name,
            "description": self.description,
            "inputSchema": _schema(self.arguments),
            "annotations": self.annotations,
        }

    def read(self, given: Any) -> AnyArguments:
        """The arguments.

        Raises:
            InvalidRequest: `invalid_field`; the text says what is wrong with which argument.
        """
        try:
            return msgspec.convert(given, self.arguments)
        except NOT_READABLE as error:
            raise InvalidRequest(Refusal.INVALID, "invalid_field", f"{self.name}: {error}"[:500]) from error


def _name(kind: type[AnyArguments]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


@functools.cache
def _schema(kind: type[AnyArguments]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components([kind])
    schema: dict[str, Any] = components[kind.__name__]
    return {key: value for key, value in schema.items() if key not in ("title", "description")}


TOOLS: Mapping[str, Tool] = MappingProxyType(
    {_name(kind): Tool(_name(kind), kind, _CHANGES[kind]) for kind in get_args(AnyArguments)}
)
"""By name, in the order in which they are shown."""
MODELS_TOOLS: Mapping[str, Tool] = MappingProxyType(
    {name: tool for name, tool in TOOLS.items() if tool.arguments not in FOR_COMMANDS}
)
"""Those that may be offered over MCP."""


def offered(*, operator: bool = False, model: bool = False, may: Container[str] = ()) -> list[Tool]:
    """The tools that the operator, or else an agent, may use."""
    return [tool for tool in TOOLS.values() if tool.is_for(operator=operator, model=model, may=may)]


EVERYBODYS: Mapping[str, Tool] = MappingProxyType({tool.name: tool for tool in offered(model=True)})
"""Those that are offered over MCP where the operator allows nothing more."""


def tool_of(name: str, *, operator: bool = False, model: bool = False, may: Container[str] = ()) -> Tool:
    """The tool of this name, of those that are offered.

    Raises:
        InvalidRequest: `unknown_tool`, with the names that are nearest.
    """
    known = {tool.name: tool for tool in offered(operator=operator, model=model, may=may)}
    exact = known.get(name)
    if exact is not None:
        return exact
    nearest = nearest_names(name, known)
    text = f"no tool named '{name[:128]}'" + (f"; nearest: {', '.join(nearest)}" if nearest else "")
    raise InvalidRequest(Refusal.ABSENT, "unknown_tool", text)
