"""Routes about an agent's delivery mode: read it, set it, see what is held, flush it.

Source: spec/local-api.md section 1.3, routes 10 to 12, and section 6.3.
"""

from __future__ import annotations

from aiohttp import web

from relaybroker.adapters.http.api.bodies import ModeBody, parse, read_json
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.envelope import Handler, about, answer, relayed
from relaybroker.domain import inputs, views
from relaybroker.domain.delivery import AUTO_INJECT, MANUAL_FLUSH
from relaybroker.domain.errors import InvalidRequest
from relaybroker.domain.rules import holds

WAIT_S = 20.0


class HoldRoutes:
    """Handlers of the routes about held messages."""

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access

    @property
    def table(self) -> dict[str, Handler]:
        """Handlers by method and path."""
        return {
            "GET /api/spawned/{name}/delivery-mode": self.mode,
            "PUT /api/spawned/{name}/delivery-mode": self.set_mode,
            "GET /api/spawned/{name}/pending": self.pending,
            "POST /api/spawned/{name}/flush": self.flush,
        }

    async def mode(self, request: web.Request) -> web.Response:
        """GET /api/spawned/{name}/delivery-mode."""
        name = request.match_info["name"]
        if name.lower() not in self._access.state.flush_holds:
            self._check_there(name)
        return answer(holds.mode_body(self._access.state, name))

    async def set_mode(self, request: web.Request) -> web.Response:
        """PUT /api/spawned/{name}/delivery-mode."""
        name = request.match_info["name"]
        with about("name", name):
            body = parse(ModeBody, await read_json(request))
            mode = body.mode.strip().lower()
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

    async def pending(self, request: web.Request) -> web.Response:
        """GET /api/spawned/{name}/pending."""
        name = request.match_info["name"]
        self._check_there(name)
        return answer({"pending": views.held_messages(self._access.state, name)})

    async def flush(self, request: web.Request) -> web.Response:
        """POST /api/spawned/{name}/flush."""
        name = request.match_info["name"]
        await read_json(request)
        with about("name", name):
            return relayed(
                await self._access.ask(
                    lambda request_id: inputs.FlushRequested(request_id=request_id, name=name), WAIT_S
                )
            )

    def _check_there(self, name: str) -> None:
        if holds.program_of(self._access.state, name) is None:
            raise InvalidRequest(404, "agent_not_found", f"unknown worker '{name}'", name=name)
