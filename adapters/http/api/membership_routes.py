"""Routes by which a person has an agent join and leave channels: the agent itself does, with its own token.

Source: spec/local-api.md section 1.3, route 13.
"""

from __future__ import annotations

from aiohttp import web

from relaybroker.adapters.http.api.answers import Answer
from relaybroker.adapters.http.api.bodies import ChannelsBody
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.rendering import rendered
from relaybroker.adapters.http.api.routing import route
from relaybroker.domain import inputs
from relaybroker.domain.entities import Registration
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.rules import channels

ACT_WAIT_S = 16.0
_ERRORS = (401, 404, 409, 429, 502, 503, 504)


class Channels(Answer, frozen=True, kw_only=True):
    """The channels in which the agent is a member now."""

    name: str
    channels: list[str]


class MembershipRoutes:
    """Handlers of the routes about an agent's channels.

    Args:
        access: the broker.
    """

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access

    @route("POST /api/spawned/{name}/subscribe", "Have the agent join channels.", errors=_ERRORS, about="name")
    async def subscribe(self, request: web.Request, body: ChannelsBody) -> Channels:
        """POST /api/spawned/{name}/subscribe."""
        return await self.subscribe_as(request.match_info["name"], body.channels)

    @route("POST /api/spawned/{name}/unsubscribe", "Have the agent leave channels.", errors=_ERRORS, about="name")
    async def unsubscribe(self, request: web.Request, body: ChannelsBody) -> Channels:
        """POST /api/spawned/{name}/unsubscribe."""
        return await self.unsubscribe_as(request.match_info["name"], body.channels)

    async def subscribe_as(self, name: str, wanted: list[str]) -> Channels:
        """Join each channel; one that does not exist is created."""
        registration = self._find(name)
        for channel in _plain(wanted):
            try:
                await self._act(registration, "join_channel", channel=channel)
            except InvalidRequest as error:
                if error.code != "channel_not_found":
                    raise
                await self._act(registration, "create_channel", name=channel)
        return self._after(registration)

    async def unsubscribe_as(self, name: str, wanted: list[str]) -> Channels:
        """Leave each channel."""
        registration = self._find(name)
        for channel in _plain(wanted):
            await self._act(registration, "leave_channel", channel=channel)
        return self._after(registration)

    def _find(self, name: str) -> Registration:
        registration = self._access.state.registration_of(name)
        if registration is None or self._access.state.acting(registration.agent_id) is None:
            raise InvalidRequest(Refusal.ABSENT, "agent_not_found", f"unknown worker '{name}'", name=name)
        return registration

    async def _act(self, registration: Registration, act: str, **arguments: str) -> None:
        reply = await self._access.ask(
            lambda request_id: inputs.ActRequested(
                request_id=request_id, agent_id=registration.agent_id, act=act, arguments=arguments
            ),
            ACT_WAIT_S,
        )
        rendered(reply)

    def _after(self, registration: Registration) -> Channels:
        state = self._access.state
        assert state.settings is not None
        return Channels(name=registration.name, channels=channels.joined(registration, state.settings))


def _plain(names: list[str]) -> list[str]:
    """Channels without `#`, once each whatever the case; the first spelling counts."""
    seen: dict[str, str] = {}
    for name in names:
        if plain := name.strip().removeprefix("#"):
            seen.setdefault(plain.lower(), plain)
    if not seen:
        raise InvalidRequest(Refusal.INVALID, "missing_field", "Missing required field: channels", field="channels")
    return list(seen.values())
