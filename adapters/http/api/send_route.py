"""POST /api/send: a message from a person or a program.

Source: spec/local-api.md section 1.3 route 17.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from aiohttp import web

from relaybroker.adapters.http.api.agent_scope import CALLER, AgentCaller
from relaybroker.adapters.http.api.answers import JsonObject, Sent
from relaybroker.adapters.http.api.bodies import SendBody, parse
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.rendering import answered
from relaybroker.adapters.http.api.routing import route
from relaybroker.domain.delivery import MAX_BODY_BYTES
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import SendRequested
from relaybroker.domain.message import THREAD, is_message_id, target_type

SEND_WAIT_S = 24.0
_PLACE = re.compile(r"#?[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""A channel or a conversation: it becomes part of a path at the engine."""
MAX_KEY = 128
KEY_HEADER = "Idempotency-Key"


class SendRoute:
    """The handler of the send route."""

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access

    @route(
        "POST /api/send", "Send a message.", errors=(404, 409, 429, 501, 502, 504), about="to", agents="send, as itself"
    )
    async def send(self, request: web.Request, body: Annotated[JsonObject, SendBody]) -> Sent:
        """POST /api/send."""
        keys = request.headers.getall(KEY_HEADER, [])
        return await self.send_as(body, keys, request.get(CALLER))

    async def send_as(self, value: dict[str, Any], keys: Sequence[str] = (), caller: AgentCaller | None = None) -> Sent:
        """Send a message from a request's value.

        Args:
            value: the body.
            keys: what came beside it, as a header.
            caller: the agent that asks; it sends as itself and as nobody else.
        """
        body = parse(SendBody, value)
        if caller is not None and body.sender.strip() not in ("", caller.name):
            raise InvalidRequest(Refusal.FORBIDDEN, "agent_scope", f"{caller.name} sends as itself only", field="from")
        in_body = [] if body.idempotency_key is None else [body.idempotency_key]
        reply = await self._access.ask(self._request(body, one_key([*keys, *in_body]), caller), SEND_WAIT_S)
        return answered(reply, Sent)

    def _request(self, body: SendBody, key: str, caller: AgentCaller | None) -> Callable[[str], SendRequested]:
        to, text, mode = body.to.strip(), body.message.strip(), body.mode.strip().lower() or "wait"
        if not to or not text:
            raise InvalidRequest(Refusal.INVALID, "missing_field", "Missing required fields: to, message")
        if len(text.encode()) > MAX_BODY_BYTES:
            too_large = f"a message has at most {MAX_BODY_BYTES // 1024} KiB; nothing was sent"
            raise InvalidRequest(Refusal.TOO_LARGE, "body_too_large", too_large, field="message")
        if mode not in ("wait", "steer"):
            raise InvalidRequest(
                Refusal.INVALID, "invalid_mode", f"invalid mode '{body.mode}'. expected 'wait' or 'steer'"
            )
        thread = body.thread.strip()
        if target_type(to) == "thread":
            thread = to.removeprefix(THREAD)
            if not is_message_id(thread):
                raise InvalidRequest(
                    Refusal.INVALID, "invalid_field", f"'{thread[:140]}' is not a message id", field="to"
                )
        elif target_type(to) != "agent" and not _PLACE.fullmatch(to):
            raise InvalidRequest(Refusal.INVALID, "invalid_field", "to is not a channel or conversation", field="to")
        self._check_workspace(body)
        return lambda request_id: SendRequested(
            request_id=request_id,
            to=to,
            text=text,
            sender=_sender(body.sender),
            thread_id=thread,
            mode=mode,
            data=body.data,
            attachments=tuple(body.attachments),
            key=key,
            priority=msgspec.UNSET if body.priority is None else body.priority,
            strict=True if body.strict else msgspec.UNSET,
            agent_id=msgspec.UNSET if caller is None else caller.agent_id,
        )

    def _check_workspace(self, body: SendBody) -> None:
        """A broker has one workspace, without an alias; the id beats the alias."""
        settings = self._access.state.settings
        known = settings.workspace_id if settings is not None else ""
        wanted = body.workspace_id or body.workspace_alias
        if wanted and wanted != known:
            raise InvalidRequest(Refusal.INVALID, "workspace_not_found", f"workspace '{wanted}' not found")


def one_key(given: Sequence[str]) -> str:
    """The one idempotency key that was given; "" if there is none.

    Raises:
        InvalidRequest: `invalid_field`, several, or none of 1 to 128 characters.
    """
    keys = {key.strip() for key in given}
    if not keys:
        return ""
    key = keys.pop()
    if keys or not 0 < len(key) <= MAX_KEY:
        text = f"idempotency_key: one key of 1 to {MAX_KEY} characters, the same wherever it is given"
        raise InvalidRequest(Refusal.INVALID, "invalid_field", text, field="idempotency_key")
    return key


def _sender(given: str) -> str:
    name = given.strip()
    return f"human:{name.removeprefix('human:').strip()}" if name.startswith("human:") else name
