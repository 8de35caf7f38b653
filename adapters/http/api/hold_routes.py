"""Routes about an agent's delivery mode: read it, set it, see what is held, flush it.

Source: spec/local-api.md section 1.3, routes 10 to 12, and section 6.3.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from relaybroker.adapters.http.api import views
from relaybroker.adapters.http.api.answers import Answer, HeldMessage
from relaybroker.adapters.http.api.bodies import Body, ModeBody
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.envelope import relayed
from relaybroker.adapters.http.api.routing import route
from relaybroker.domain import inputs
from relaybroker.domain.delivery import AUTO_INJECT, MANUAL_FLUSH
from relaybroker.domain.errors import InvalidRequest
from relaybroker.domain.rules import holds

WAIT_S = 20.0


class Mode(Answer, frozen=True, kw_only=True):
    """`auto_inject` or `manual_flush`; how many messages are held; log position of the hold's beginning, 0 = there is none."""

    mode: str
    held: int
    revision: int
    flushed: int | UnsetType = UNSET
    """Let through because the hold was lifted."""


class Held(Answer, frozen=True, kw_only=True):
    """What is held, in order."""

    pending: list[HeldMessage]


class Flushed(Answer, frozen=True, kw_only=True):
    """How many were let through, and how many are held still."""

    flushed: int
    failed: int
    remaining: int


class HoldRoutes:
    """Handlers of the routes about held messages."""

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access

    @route("GET /api/spawned/{name}/delivery-mode", "Whether messages are typed as they come or held.", errors=(404,))
    async def mode(self, request: web.Request) -> Mode:
        """GET /api/spawned/{name}/delivery-mode."""
        name = request.match_info["name"]
        if name.lower() not in self._access.state.flush_holds:
            self._check_there(name)
        return msgspec.convert(holds.mode_body(self._access.state, name), Mode)

    @route(
        "PUT /api/spawned/{name}/delivery-mode",
        "Hold messages, or let them through.",
        errors=(404, 409, 429, 504),
        about="name",
    )
    async def set_mode(self, request: web.Request, body: ModeBody) -> Annotated[web.Response, Mode]:
        """PUT /api/spawned/{name}/delivery-mode."""
        name, mode = request.match_info["name"], body.mode.strip().lower()
        if mode not in (AUTO_INJECT, MANUAL_FLUSH):
            text = f"invalid mode '{body.mode[:100]}'. expected '{AUTO_INJECT}' or '{MANUAL_FLUSH}'"
            raise InvalidRequest(400, "invalid_mode", text, field="mode")
        return relayed(
            await self._access.ask(
                lambda request_id: inputs.DeliveryModeRequested(
                    request_id=request_id, name=name, mode=mode, reason=body.reason, revision=body.revision
                ),
                WAIT_S,
            )
        )

    @route("GET /api/spawned/{name}/pending", "What is held until it is flushed.", errors=(404,))
    async def pending(self, request: web.Request) -> Held:
        """GET /api/spawned/{name}/pending."""
        name = request.match_info["name"]
        self._check_there(name)
        return Held(pending=views.held_messages(self._access.state, name))

    @route("POST /api/spawned/{name}/flush", "Let through what is held.", errors=(404, 429, 504), about="name")
    async def flush(self, request: web.Request, body: Body) -> Annotated[web.Response, Flushed]:
        """POST /api/spawned/{name}/flush."""
        del body  # nothing is asked for in it
        name = request.match_info["name"]
        return relayed(
            await self._access.ask(lambda request_id: inputs.FlushRequested(request_id=request_id, name=name), WAIT_S)
        )

    def _check_there(self, name: str) -> None:
        if holds.program_of(self._access.state, name) is None:
            raise InvalidRequest(404, "agent_not_found", f"unknown worker '{name}'", name=name)
