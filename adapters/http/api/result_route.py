"""POST /api/agent-result: an agent hands in the structured result that its spawn asked for, with a token of its own.

The token is known here by its digest alone, which the log keeps with the spawn: it is good for as long as the agent, over restarts of the
broker. The schema is checked before the core hears of the result, so that an agent can try again.

Source: spec/local-api.md section 1.3, route 25, and section 5.1.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import jsonschema_rs
import msgspec
from aiohttp import web

from relaybroker.adapters.http.api.answers import ResultTaken
from relaybroker.adapters.http.api.bodies import AgentResultBody, parse
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.rendering import answered
from relaybroker.adapters.http.api.routing import route
from relaybroker.domain import inputs
from relaybroker.domain.entities.agent import Registration
from relaybroker.domain.errors import InvalidRequest, Refusal

RESULT_WAIT_S = 8.0
MAX_SCHEMA_BYTES = 64 * 1024
HEADER = "X-Agent-Result-Token"
TOKEN_VARIABLE, SCHEMA_VARIABLE = "AGENT_RELAY_RESULT_TOKEN", "AGENT_RELAY_RESULT_SCHEMA"
_SCHEMA_KEYS = ("agent_result_schema", "agentResultSchema", "resultSchema")
_DATA_KEYS = ("data", "result")


class Wanted(NamedTuple):
    """A result that a spawn asks for."""

    digest: str
    """Of the token."""
    schema: Any
    variables: dict[str, str]
    """For the agent's environment."""


def wanted(value: Mapping[str, Any]) -> Wanted | None:
    """What a spawn request asks for; None if it asks for no result.

    Raises:
        InvalidRequest: 400 `invalid_field`, the schema is none.
    """
    key = next((key for key in _SCHEMA_KEYS if value.get(key) is not None), None)
    if key is None:
        return None
    schema = value[key]
    text = msgspec.json.encode(schema).decode()
    try:
        jsonschema_rs.validator_for(schema)
    except ValueError as error:
        said = f"this is not a JSON Schema: {str(error).splitlines()[0][:200]}"
        raise InvalidRequest(Refusal.INVALID, "invalid_field", said, field=key) from None
    if len(text) > MAX_SCHEMA_BYTES:
        raise InvalidRequest(Refusal.INVALID, "invalid_field", "the schema is larger than 64 KiB", field=key)
    token = f"arr_{secrets.token_hex(16)}"
    return Wanted(digest_of(token), schema, {TOKEN_VARIABLE: token, SCHEMA_VARIABLE: text})


def digest_of(token: str) -> str:
    """By what a token is known."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class ResultRoute:
    """The handler of the result route.

    Args:
        access: the broker.
    """

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access

    @route(
        "POST /api/agent-result",
        "Submit an agent's structured result, with its own token.",
        errors=(401, 409, 422, 429, 503, 504),
        is_open=True,
    )
    async def hand_in(self, request: web.Request, body: Annotated[dict[str, Any], AgentResultBody]) -> ResultTaken:
        """POST /api/agent-result."""
        registration = self._agent_of(request)
        given = parse(AgentResultBody, body)
        whole = msgspec.json.decode(await request.read() or b"{}")  # here null is a value
        if given.name.strip() not in ("", registration.name):
            raise _unknown("invalid_result_token")
        key = next((key for key in _DATA_KEYS if key in whole), None)
        if key is None:
            raise InvalidRequest(Refusal.INVALID, "missing_field", "Missing required field: data", field="data")
        trouble = next(jsonschema_rs.validator_for(registration.spec.result_schema).iter_errors(whole[key]), None)
        if trouble is not None:
            said = f"the result does not match its schema: {trouble.message[:300]}"
            raise InvalidRequest(Refusal.MISMATCH, "result_schema_mismatch", said, field=key, name=registration.name)
        reply = await self._access.ask(
            lambda request_id: inputs.ResultRequested(
                request_id=request_id,
                agent_id=registration.agent_id,
                data=whole[key],
                final=given.final,
                metadata=whole.get("metadata"),
            ),
            RESULT_WAIT_S,
        )
        return answered(reply, ResultTaken)

    def _agent_of(self, request: web.Request) -> Registration:
        token = request.headers.get(HEADER, "").strip()
        if not token:
            scheme, _, bearer = request.headers.get("Authorization", "").strip().partition(" ")
            token = bearer.strip() if scheme.lower() == "bearer" else ""
        if not token:
            raise _unknown("missing_result_token")
        digest = digest_of(token)
        living = self._access.state.live_registrations()
        for registration in living:
            if registration.spec.result_digest and hmac.compare_digest(registration.spec.result_digest, digest):
                return registration
        raise _unknown("invalid_result_token")


def _unknown(code: str) -> InvalidRequest:
    return InvalidRequest(Refusal.UNKNOWN_CALLER, code, code)
