"""Routes about agents: spawn, list, release, screen, input, size.

Source: spec/local-api.md section 1.3, routes 5 to 7, 9, 14, 16.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import msgspec
from aiohttp import web

from relaybroker.adapters.http.api.bodies import InputBody, ReleaseBody, ResizeBody, SpawnBody, parse, read_json
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.envelope import about, answer, relayed
from relaybroker.adapters.http.api.spawn_request import refuse_unbuilt, spawn_spec, unbuilt, variables
from relaybroker.adapters.http.api.timestamps import dated
from relaybroker.adapters.http.api.viewers import Viewers
from relaybroker.adapters.pty.client import HostBackpressure, HostUnavailable
from relaybroker.adapters.pty.protocol import MAX_DIMENSION, MIN_COLS, MIN_ROWS, Answer, Resize, Snapshot
from relaybroker.adapters.pty.protocol import Input as RawInput
from relaybroker.domain import inputs, views
from relaybroker.domain.effects import Reply
from relaybroker.domain.errors import InvalidRequest
from relaybroker.domain.state import Registration

SPAWN_WAIT_S = 24.0
RELEASE_WAIT_S = 20.0
MAX_SPAWNS = 16
"""Spawns that may be open at once."""
MAX_INPUT_BYTES = 1024 * 1024

_HOST_ERRORS = {
    "agent_not_found": (404, "agent_not_found"),
    "worker_disappeared": (503, "worker_disappeared"),
    "worker_timeout": (504, "worker_timeout"),
    "queue_full": (429, "queue_full"),
    "pty_write_failed": (503, "worker_disappeared"),
    "invalid_dimensions": (400, "invalid_request"),
    "invalid_format": (400, "invalid_format"),
}
_HOST_TEXTS = {
    "invalid_dimensions": f"invalid_dimensions: a terminal has {MIN_ROWS} to {MAX_DIMENSION} rows and {MIN_COLS} to {MAX_DIMENSION}"
    " columns; it keeps the size that it has"
}


class AgentRoutes:
    """Handlers of the agent routes."""

    def __init__(self, access: BrokerAccess, viewers: Viewers) -> None:
        self._access = access
        self._viewers = viewers
        self._spawning = 0

    async def spawn(self, request: web.Request) -> web.Response:
        """POST /api/spawn."""
        value = await read_json(request)
        with about("name", value.get("name")):
            if "Idempotency-Key" in request.headers:
                raise unbuilt("Idempotency-Key")
            return relayed(await self.spawn_as(value))

    async def spawn_as(self, value: dict[str, Any], *, source: str = "http_api", invocation_id: str = "") -> Reply:
        """Spawn an agent from a request's value; the core's answer."""
        if self._spawning >= MAX_SPAWNS:
            raise InvalidRequest(429, "queue_full", f"{MAX_SPAWNS} spawns are open already; try again")
        refuse_unbuilt(value)
        body = parse(SpawnBody, value)
        self._spawning += 1
        try:
            spec = await asyncio.to_thread(spawn_spec, body)
            if token := body.agent_token.get_secret_value().strip():
                spec = msgspec.structs.replace(spec, supplied_token=self._access.gateway.keep_supplied_token(token))
            if spec.env_names:
                reference = await self._keep(variables(body))
                spec = msgspec.structs.replace(spec, env_ref=reference)
            reply = await self._access.ask(
                lambda request_id: inputs.SpawnRequested(
                    request_id=request_id, spec=spec, source=source, invocation_id=invocation_id
                ),
                SPAWN_WAIT_S,
            )
        finally:
            self._spawning -= 1
        if spec.env_ref and reply.status >= 400:
            await asyncio.to_thread(self._access.gateway.forget_variables, spec.env_ref)
        return reply

    async def _keep(self, values: dict[str, str]) -> str:
        try:
            return await asyncio.to_thread(self._access.gateway.keep_variables, values)
        except OSError as error:
            raise InvalidRequest(500, "spawn_failed", f"env cannot be kept: {error}", field="env") from error

    async def listing(self, _request: web.Request) -> web.Response:
        """GET /api/spawned."""
        return answer(self.listed())

    def listed(self) -> dict[str, Any]:
        """The agents that live here."""
        return {"success": True, "agents": dated(views.agents(self._access.state, self._access.now()))}

    async def release(self, request: web.Request) -> web.Response:
        """DELETE /api/spawned/{name}."""
        name = request.match_info["name"]
        with about("name", name):
            return relayed(await self.release_as(name, await read_json(request)))

    async def release_as(self, name: str, value: dict[str, Any]) -> Reply:
        """Release an agent; the core's answer, or that it goes on without the caller."""
        body = parse(ReleaseBody, value)
        try:
            return await self._access.ask(
                lambda request_id: inputs.ReleaseRequested(request_id=request_id, name=name, reason=body.reason),
                RELEASE_WAIT_S,
            )
        except TimeoutError:
            return _done({"success": True, "name": name, "pending": True})

    # --- the terminal -------------------------------------------------------------------------------------------------

    async def snapshot(self, request: web.Request) -> web.Response:
        """GET /api/spawned/{name}/snapshot."""
        wanted = request.query.get("format", "").lower()
        if wanted not in ("", "plain", "text", "ansi"):
            raise InvalidRequest(400, "invalid_format", f"unknown format '{wanted}'")
        session_id = self.session_of(request.match_info["name"])
        found = await self._ask_host(
            Snapshot(request_id=uuid.uuid4().hex, session_id=session_id, format="ansi" if wanted == "ansi" else "plain")
        )
        return answer(found.data)

    async def type_raw(self, request: web.Request) -> web.Response:
        """POST /api/input/{name}."""
        return answer(await self.type_as(request.match_info["name"], await read_json(request)))

    async def type_as(self, name: str, value: dict[str, Any]) -> dict[str, Any]:
        """Write bytes to an agent's terminal; how many."""
        data = parse(InputBody, value).data.encode()
        if len(data) > MAX_INPUT_BYTES:
            raise InvalidRequest(413, "body_too_large", "data is larger than 1 MiB", field="data", name=name)
        found = await self._ask_host(RawInput(request_id=uuid.uuid4().hex, session_id=self.session_of(name), data=data))
        return {"name": name, "bytes_written": found.data["bytes_written"]}

    async def resize(self, request: web.Request) -> web.Response:
        """POST /api/resize/{name}."""
        name = request.match_info["name"]
        body = parse(ResizeBody, await read_json(request))
        if not body.rows or not body.cols:
            raise InvalidRequest(400, "invalid_request", "invalid_dimensions: rows and cols must be >= 1")
        session_id = self.session_of(name)
        await self._ask_host(Resize(request_id=uuid.uuid4().hex, session_id=session_id, rows=body.rows, cols=body.cols))
        self._viewers.resized(session_id, body.rows, body.cols)
        return answer({"name": name, "rows": body.rows, "cols": body.cols})

    def session_of(self, name: str) -> str:
        """The session of the agent of this name; 404 if its program does not exist."""
        found = self._find(name)
        if found is None:
            raise InvalidRequest(404, "agent_not_found", f"unknown worker '{name}'", name=name)
        return found.session_id

    def _find(self, name: str) -> Registration | None:
        """The agent of this name, whatever its spelling, if its program exists."""
        found = self._access.state.registration_of(name)
        if found is None:
            return None
        program = self._access.state.workers.get(found.session_id)
        return found if program is not None and not program.ended else None

    async def _ask_host(self, request: RawInput | Resize | Snapshot) -> Answer:
        try:
            found = await self._access.ask_host(request)
        except HostUnavailable as error:
            raise InvalidRequest(503, "worker_disappeared", f"the PTY host is not there: {error}") from error
        except HostBackpressure as error:
            raise InvalidRequest(429, "queue_full", str(error)) from error
        if found.error:
            status, code = _HOST_ERRORS.get(found.error, (500, "internal_error"))
            raise InvalidRequest(status, code, _HOST_TEXTS.get(found.error) or found.error.replace("_", " "))
        return found


def _done(body: dict[str, Any]) -> Reply:
    return Reply(request_id="", status=200, body=body)
