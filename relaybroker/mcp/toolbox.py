"""The tools as agents reach them: listed and used over plain HTTP, and as an MCP server.

Source: spec/conversation.md section 2.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from relaybroker import __version__
from relaybroker.adapters.http.api import views
from relaybroker.adapters.http.api.agent_scope import AgentCaller
from relaybroker.adapters.http.api.agent_tools import Answered, Fleet, Used
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.domain.errors import InvalidRequest
from relaybroker.domain.reasons import Reason
from relaybroker.mcp import protocol
from relaybroker.mcp.arguments import AnyArguments, CheckInbox
from relaybroker.mcp.conversation import Conversation, encoded
from relaybroker.mcp.protocol import ProtocolError, Request, Silent
from relaybroker.mcp.tools import offered, tool_of

_log = logging.getLogger(__name__)

SERVER = {"name": "agent-relay", "version": __version__}
INSTRUCTIONS = (
    "Messages from other agents are typed to you as 'Relay message from NAME [ID]: ...'. Answer with reply_to_thread and that ID, or "
    "send_dm to NAME. You act as yourself; do not register. What you send is stored at once and published as soon as the engine is there."
)


class AgentToolbox:
    """What agents can do, as tools (`relaybroker.adapters.http.api.agent_tools.AgentTools`).

    Args:
        access: the broker.
        fleet: starts and ends agents.
    """

    def __init__(self, access: BrokerAccess, fleet: Fleet) -> None:
        self._access = access
        self._conversation = Conversation(access, fleet)

    def listing(self, caller: AgentCaller) -> list[dict[str, Any]]:
        """Every tool that this caller may use."""
        return [tool.listed() for tool in offered(operator=caller.is_operator, may=self._may)]

    @property
    def _may(self) -> tuple[str, ...]:
        """What the operator allows agents."""
        settings = self._access.state.settings
        return settings.agent_may if settings is not None else ()

    async def call(self, caller: AgentCaller, tool: str, arguments: dict[str, Any], key: str) -> Used:
        """Use a tool; its result.

        Raises:
            InvalidRequest: it was not used, or not done, with a stable code.
        """
        wanted = tool_of(tool, operator=caller.is_operator, may=self._may).read(arguments)
        return await self._do(caller, wanted, key)

    async def _do(self, caller: AgentCaller, wanted: AnyArguments, key: str) -> Used:
        if isinstance(wanted, CheckInbox) and not caller.is_operator:
            return await self._conversation.fetch(caller, wanted.limit)
        return Used(await self._conversation.do(caller, wanted, key))

    async def answered(self, caller: AgentCaller, message: bytes, headers: Mapping[str, str], key: str) -> Answered:
        """The answer to one MCP message."""
        try:
            request = protocol.read(message, headers)
            body, fetch_id = await self._answer(caller, request, key)
            return Answered(200, body, fetch_id)
        except Silent:
            return Answered(202, None)
        except ProtocolError as error:
            return Answered(*protocol.failure(error))

    async def _answer(self, caller: AgentCaller, request: Request, key: str) -> tuple[bytes, str]:
        if request.method == "tools/call":
            result, fetch_id = await self._called(caller, request, key)
            return protocol.result(request, result, SERVER), fetch_id
        return self._protocol_answer(request), ""

    def _protocol_answer(self, request: Request) -> bytes:
        match request:
            case Request(method="initialize", stateless=False):
                return protocol.result(request, protocol.initialized(request, SERVER, INSTRUCTIONS), SERVER)
            case Request(method="ping", stateless=False):
                return protocol.result(request, {}, SERVER)
            case Request(method="server/discover"):
                return protocol.result(request, protocol.discovered(SERVER, INSTRUCTIONS), SERVER, cached=True)
            case Request(method="tools/list"):
                if request.params.get("cursor") is not None:
                    raise _invalid(request, "there is only one page")
                return protocol.result(
                    request,
                    {"tools": [tool.listed() for tool in offered(model=True, may=self._may)]},
                    SERVER,
                    cached=True,
                )
            case _:
                text = f"there is no method {request.method[:100]!r} here"
                raise ProtocolError(protocol.METHOD_NOT_FOUND, text, request_id=request.id, stateless=request.stateless)

    async def _called(self, caller: AgentCaller, request: Request, key: str) -> tuple[dict[str, Any], str]:
        name, given = request.params.get("name"), request.params.get("arguments")
        if not isinstance(name, str):
            raise _invalid(request, "name must be the name of a tool")
        try:
            tool = tool_of(name, model=True, may=self._may)
        except InvalidRequest as error:
            raise _invalid(request, error.message) from error
        try:
            result, fetch_id = await self._do(caller, tool.read({} if given is None else given), key)
        except InvalidRequest as error:
            return _refused(error), ""
        except Exception as error:
            _log.exception("the tool %s failed", name)
            text = "Internal error; see the broker's log"
            raise ProtocolError(
                protocol.INTERNAL_ERROR, text, request_id=request.id, stateless=request.stateless
            ) from error
        content = [{"type": "text", "text": encoded(result)}]
        if tool.changes != "nothing" and (waits := self._waits(caller)):
            content.append({"type": "text", "text": waits})
        return {"content": content, "structuredContent": result, "isError": False}, fetch_id

    def _waits(self, caller: AgentCaller) -> str:
        """One line about what waits for the agent; "" if nothing does."""
        waiting = views.waiting_for(self._access.state, caller.agent_id)
        count = sum(one.reason not in (Reason.BEING_FETCHED, Reason.MANUAL_FLUSH) for one in waiting)
        return f"{count} message{'s wait' if count > 1 else ' waits'} for you: check_inbox" if count else ""


def _invalid(request: Request, text: str) -> ProtocolError:
    return ProtocolError(protocol.INVALID_PARAMS, text, request_id=request.id, stateless=request.stateless)


def _refused(error: InvalidRequest) -> dict[str, Any]:
    """A tool that did not do it: the model reads why, and the code."""
    return {
        "content": [{"type": "text", "text": f"{error.message} [{error.code}]"}],
        "structuredContent": {
            "error": {
                "code": error.code,
                "message": error.message,
                "retryable": error.is_retryable,
            }
            | error.extra
        },
        "isError": True,
    }
