"""Routes about an agent's delivery mode: read it, set it, see what is held, flush it.

Source: spec/local-api.md section 1.3, routes 10 to 12, and section 6.3.
"""

from __future__ import annotations

from aiohttp import web

from relaybroker.adapters.http.api import views
from relaybroker.adapters.http.api.answers import Answer, Flushed, HeldMessage, Mode
from relaybroker.adapters.http.api.bodies import Body, ModeBody
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.rendering import answered
from relaybroker.adapters.http.api.routing import route
from relaybroker.domain import inputs
from relaybroker.domain.delivery import AUTO_INJECT, MANUAL_FLUSH
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.rules import holds

WAIT_S = 20.0


class Held(Answer, frozen=True, kw_only=True):
    """What is held, in order."""

    pending: list[HeldMessage]


class HoldRoutes:
    """Handlers of the routes about held messages."""

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access

    @route("GET /api/spawned/{name}/delivery-mode", "Get an agent's delivery mode.", errors=(404,))
    async def mode(self, request: web.Request) -> Mode:
        """GET /api/spawned/{name}/delivery-mode."""
        name = request.match_info["name"]
        if name.lower() not in self._access.state.flush_holds:
            self._check_there(name)
        return views.mode(self._access.state, name)

    @route(
        "PUT /api/spawned/{name}/delivery-mode",
        "Set an agent's delivery mode.",
        errors=(404, 409, 429, 504),
        about="name",
    )
    async def set_mode(self, request: web.Request, body: ModeBody) -> Mode:
        """PUT /api/spawned/{name}/delivery-mode."""
        name, mode = request.match_info["name"], _mode(body.mode, "mode")
        expected = _mode(body.expected_mode, "expected_mode") if body.expected_mode.strip() else ""
        reply = await self._access.ask(
            lambda request_id: inputs.DeliveryModeRequested(
                request_id=request_id,
                name=name,
                mode=mode,
                reason=body.reason,
                revision=body.revision,
                expected=expected,
            ),
            WAIT_S,
        )
        return answered(reply, Mode)

    @route("GET /api/spawned/{name}/pending", "List the messages held for an agent.", errors=(404,))
    async def pending(self, request: web.Request) -> Held:
        """GET /api/spawned/{name}/pending."""
        name = request.match_info["name"]
        self._check_there(name)
        return Held(pending=views.held_messages(self._access.state, name))

    @route("POST /api/spawned/{name}/flush", "Release held messages.", errors=(404, 429, 504), about="name")
    async def flush(self, request: web.Request, body: Body) -> Flushed:
        """POST /api/spawned/{name}/flush."""
        del body  # nothing is asked for in it
        name = request.match_info["name"]
        reply = await self._access.ask(
            lambda request_id: inputs.FlushRequested(request_id=request_id, name=name), WAIT_S
        )
        return answered(reply, Flushed)

    def _check_there(self, name: str) -> None:
        if holds.program_of(self._access.state, name) is None:
            raise InvalidRequest(Refusal.ABSENT, "agent_not_found", f"unknown worker '{name}'", name=name)


def _mode(given: str, field: str) -> str:
    mode = given.strip().lower()
    if mode not in (AUTO_INJECT, MANUAL_FLUSH):
        text = f"invalid mode '{given[:100]}'. expected '{AUTO_INJECT}' or '{MANUAL_FLUSH}'"
        raise InvalidRequest(Refusal.INVALID, "invalid_mode", text, field=field)
    return mode
