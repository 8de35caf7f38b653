"""Routes about agents: spawn, list, release, screen, input, size.

Source: spec/local-api.md section 1.3, routes 5 to 7, 9, 14, 16.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from relaybroker.adapters.http.api import views
from relaybroker.adapters.http.api.answers import AgentView, Answer, JsonObject, Released, Spawned
from relaybroker.adapters.http.api.bodies import InputBody, Query, ReleaseBody, ResizeBody, SpawnBody, parse
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.rendering import answered
from relaybroker.adapters.http.api.resizers import Resizers
from relaybroker.adapters.http.api.result_route import wanted
from relaybroker.adapters.http.api.routing import route
from relaybroker.adapters.http.api.send_route import KEY_HEADER, one_key
from relaybroker.adapters.http.api.spawn_request import refuse_ineffective, spawn_spec, variables
from relaybroker.adapters.http.api.touches import Touches
from relaybroker.adapters.http.api.viewers import Viewers
from relaybroker.adapters.sessions.host.client import HostBackpressure, HostUnavailable
from relaybroker.adapters.sessions.host.protocol import MAX_DIMENSION, MIN_COLS, MIN_ROWS, Asks, Resize, Snapshot
from relaybroker.adapters.sessions.host.protocol import Answer as HostAnswer
from relaybroker.adapters.sessions.host.protocol import Input as RawInput
from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.domain import inputs
from relaybroker.domain.continuity import GO_ON, preface
from relaybroker.domain.delivery import MAX_BODY_BYTES
from relaybroker.domain.entities import Registration
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import SpawnSpec
from relaybroker.domain.names import is_agent_name
from relaybroker.domain.replies import Refused

SPAWN_WAIT_S = 24.0
RELEASE_WAIT_S = 20.0
_KEYS = {"escape": b"\x1b", "ctrl_c": b"\x03"}
MAX_SPAWNS = 16
"""Spawns that may be open at once."""
MAX_INPUT_BYTES = 1024 * 1024

_HOST_ERRORS = {
    "agent_not_found": (Refusal.ABSENT, "agent_not_found"),
    "worker_disappeared": (Refusal.UNAVAILABLE, "worker_disappeared"),
    "worker_timeout": (Refusal.NO_ANSWER, "worker_timeout"),
    "queue_full": (Refusal.FULL, "queue_full"),
    "pty_write_failed": (Refusal.UNAVAILABLE, "worker_disappeared"),
    "invalid_dimensions": (Refusal.INVALID, "invalid_request"),
    "invalid_format": (Refusal.INVALID, "invalid_format"),
    "question_changed": (Refusal.CONFLICT, "question_changed"),
    "answer_not_taken": (Refusal.CONFLICT, "answer_not_taken"),
}
_HOST_TEXTS = {
    "invalid_dimensions": f"invalid_dimensions: a terminal has {MIN_ROWS} to {MAX_DIMENSION} rows and {MIN_COLS} to {MAX_DIMENSION}"
    " columns; it keeps the size that it has",
    "question_changed": "it asks something else by now, or nothing; nothing was chosen",
    "answer_not_taken": "nobody knows whether it was taken: look at it before you answer once more",
}
_OF_AGENT = (404, 429, 503, 504)
_SpawnValue = Annotated[JsonObject, SpawnBody]


class Agents(Answer, frozen=True, kw_only=True):
    """List the agents of this broker."""

    success: bool = True
    agents: list[AgentView]


class SnapshotQuery(Query):
    """`plain` (or `text`), or `ansi`."""

    format: str = ""


class Screen(Answer, frozen=True, kw_only=True):
    """The screen; the cursor is row and column from 1.

    `offset`: bytes of output that it shows; what `worker_stream` has up to there is in it. `modes`: private modes of the terminal that
    are on.
    """

    format: str
    rows: int
    cols: int
    cursor: tuple[int, int]
    screen: str
    offset: int | UnsetType = UNSET
    modes: list[int] | UnsetType = UNSET


class Written(Answer, frozen=True, kw_only=True):
    """What was written to the terminal."""

    name: str
    bytes_written: int


class Resized(Answer, frozen=True, kw_only=True):
    """The size that the terminal has now; not applied, where another one's size counts (`owner`)."""

    name: str
    rows: int
    cols: int
    applied: bool | UnsetType = UNSET
    owner: str | UnsetType = UNSET


class Interrupted(Answer, frozen=True, kw_only=True):
    """The key that was pressed: `escape` or `ctrl_c`."""

    success: bool
    name: str
    sent: str


class AgentRoutes:
    """Handlers of the agent routes."""

    def __init__(self, access: BrokerAccess, viewers: Viewers) -> None:
        self._access = access
        self._viewers = viewers
        self._resizers = Resizers()
        self._touches = Touches(access.gateway.offer)
        self._spawning = 0

    @route("POST /api/spawn", "Start an agent.", errors=(404, 409, 429, 501, 502, 504), about="name")
    async def spawn(self, request: web.Request, body: _SpawnValue) -> Spawned:
        """POST /api/spawn."""
        return await self.spawn_as(body, keys=request.headers.getall(KEY_HEADER, []))

    async def spawn_as(
        self, value: dict[str, Any], *, source: str = "http_api", invocation_id: str = "", keys: Sequence[str] = ()
    ) -> Spawned:
        """Spawn an agent from a request's value. `keys`: what came beside it, as a header."""
        if self._spawning >= MAX_SPAWNS:
            raise InvalidRequest(Refusal.FULL, "queue_full", f"{MAX_SPAWNS} spawns are already open; try again")
        refuse_ineffective(value)
        body = parse(SpawnBody, value)
        in_body = [] if body.idempotency_key is None else [body.idempotency_key]
        key = one_key([*keys, *in_body])
        self._spawning += 1
        try:
            spec = await self._continuing(await asyncio.to_thread(spawn_spec, body), body.continue_from.strip())
            if token := body.agent_token.get_secret_value().strip():
                spec = msgspec.structs.replace(spec, supplied_token=self._access.gateway.keep_supplied_token(token))
            result = wanted(value)
            if result is not None:
                spec = msgspec.structs.replace(spec, result_schema=result.schema, result_digest=result.digest)
            if spec.env_names or result is not None:
                brought = variables(body) | ({} if result is None else result.variables)
                reference = await self._keep(brought)
                spec = msgspec.structs.replace(spec, env_ref=reference)
            reply = await self._access.ask(
                lambda request_id: inputs.SpawnRequested(
                    request_id=request_id, spec=spec, source=source, invocation_id=invocation_id, key=key
                ),
                SPAWN_WAIT_S,
            )
        finally:
            self._spawning -= 1
        if spec.env_ref and (isinstance(reply.answer, Refused) or getattr(reply.answer, "repeated", False)):
            await asyncio.to_thread(self._access.gateway.forget_variables, spec.env_ref)
        return answered(reply, Spawned)

    async def _continuing(self, spec: SpawnSpec, former: str) -> SpawnSpec:
        """The spec with what a former agent left in front of its task; as it is, if it continues none."""
        if not former:
            return spec
        if not is_agent_name(former):
            text = f"'{former[:140]}' is not an allowed agent name"
            raise InvalidRequest(Refusal.INVALID, "invalid_name", text, field="continue_from")
        left = await self._access.gateway.audit.continuity(former)
        if left is None:
            text = f"no agent called '{former}' left anything to go on with"
            raise InvalidRequest(Refusal.ABSENT, "continuity_not_found", text, field="continue_from")
        task = spec.task or GO_ON
        room = MAX_BODY_BYTES - len(task.encode())
        text = preface(left, room)
        if len(text.encode()) > room:
            text = f"task and what it continues have at most {MAX_BODY_BYTES // 1024} KiB together; nothing was started"
            raise InvalidRequest(Refusal.TOO_LARGE, "body_too_large", text, field="task")
        return msgspec.structs.replace(spec, task=task, preface=text, continue_from=former)

    async def _keep(self, values: dict[str, str]) -> str:
        try:
            return await asyncio.to_thread(self._access.gateway.keep_variables, values)
        except OSError as error:
            raise InvalidRequest(Refusal.FAILED, "spawn_failed", f"env cannot be kept: {error}", field="env") from error

    @route("GET /api/spawned", "List the agents of this broker.")
    async def listing(self, _request: web.Request) -> Agents:
        """GET /api/spawned."""
        return self.listed()

    def listed(self) -> Agents:
        """The agents that live here."""
        return Agents(agents=views.agents(self._access.state, self._access.now()))

    @route("DELETE /api/spawned/{name}", "Release an agent.", errors=_OF_AGENT, about="name")
    async def release(self, request: web.Request, body: ReleaseBody) -> Released:
        """DELETE /api/spawned/{name}."""
        return await self.release_as(request.match_info["name"], body)

    async def release_as(self, name: str, body: ReleaseBody) -> Released:
        """Release an agent; if that takes long, it goes on without the caller."""
        try:
            reply = await self._access.ask(
                lambda request_id: inputs.ReleaseRequested(request_id=request_id, name=name, reason=body.reason),
                RELEASE_WAIT_S,
            )
        except TimeoutError:
            return Released(success=True, name=name, pending=True)
        return answered(reply, Released)

    # --- the terminal -------------------------------------------------------------------------------------------------

    @route("GET /api/spawned/{name}/snapshot", "Get the agent's screen.", errors=_OF_AGENT)
    async def snapshot(self, request: web.Request, query: SnapshotQuery) -> Screen:
        """GET /api/spawned/{name}/snapshot."""
        wanted = query.format.lower()
        if wanted not in ("", "plain", "text", "ansi"):
            raise InvalidRequest(Refusal.INVALID, "invalid_format", f"unknown format '{wanted}'")
        session_id = self.session_of(request.match_info["name"])
        answer = await self.ask_host(
            Snapshot(request_id=uuid.uuid4().hex, session_id=session_id, format="ansi" if wanted == "ansi" else "plain")
        )
        return msgspec.convert(answer.data, Screen)

    @route("POST /api/input/{name}", "Write to the agent's terminal.", errors=_OF_AGENT)
    async def type_raw(self, request: web.Request, body: InputBody) -> Written:
        """POST /api/input/{name}."""
        return await self.type_as(request.match_info["name"], body)

    async def type_as(self, name: str, body: InputBody) -> Written:
        """Write bytes to an agent's terminal; how many."""
        data = body.data.encode()
        if len(data) > MAX_INPUT_BYTES:
            raise InvalidRequest(
                Refusal.TOO_LARGE, "body_too_large", "data is larger than 1 MiB", field="data", name=name
            )
        return Written(name=name, bytes_written=await self.write(self.session_of(name), data))

    async def write(self, session_id: str, data: bytes) -> int:
        """Write bytes to the terminal of a session; how many."""
        answer = await self.ask_host(RawInput(request_id=uuid.uuid4().hex, session_id=session_id, data=data))
        self._touches.typed(session_id, data)
        return msgspec.convert(answer.data["bytes_written"], int)

    @route("POST /api/agents/by-name/{name}/interrupt", "Press the key that interrupts the agent.", errors=_OF_AGENT)
    async def interrupt(self, request: web.Request) -> Interrupted:
        """POST /api/agents/by-name/{name}/interrupt: Escape for programs with a composer, Ctrl-C for all others."""
        name = request.match_info["name"]
        session_id = self.session_of(name)
        registration = self._find(name)
        assert registration is not None, "its session was found"
        key = "escape" if harnesses.profile(registration.harness.profile).composer else "ctrl_c"
        await self.write(session_id, _KEYS[key])
        return Interrupted(success=True, name=registration.name, sent=key)

    @route("POST /api/resize/{name}", "Resize the agent's terminal.", errors=_OF_AGENT)
    async def resize(self, request: web.Request, body: ResizeBody) -> Resized:
        """POST /api/resize/{name}."""
        name = request.match_info["name"]
        if not body.rows or not body.cols:
            raise InvalidRequest(Refusal.INVALID, "invalid_request", "invalid_dimensions: rows and cols must be >= 1")
        session_id = self.session_of(name)
        if (owner := self._resizers.other_than(body.owner, session_id)) is not None:
            answer = await self.ask_host(Snapshot(request_id=uuid.uuid4().hex, session_id=session_id))
            size = msgspec.convert(answer.data, Screen)
            return Resized(name=name, rows=size.rows, cols=size.cols, applied=False, owner=owner)
        await self.ask_host(Resize(request_id=uuid.uuid4().hex, session_id=session_id, rows=body.rows, cols=body.cols))
        self._resizers.resized(body.owner, session_id)
        self._touches.sized(session_id, body.rows, body.cols, body.owner)
        self._viewers.resized(session_id, body.rows, body.cols)
        return Resized(name=name, rows=body.rows, cols=body.cols)

    def session_of(self, name: str) -> str:
        """The session of the agent of this name; 404 if its program does not exist."""
        registration = self._find(name)
        if registration is None:
            raise InvalidRequest(Refusal.ABSENT, "agent_not_found", f"unknown worker '{name}'", name=name)
        return registration.session_id

    def _find(self, name: str) -> Registration | None:
        """The agent of this name, whatever its spelling, if its program exists."""
        registration = self._access.state.registration_of(name)
        if registration is None:
            return None
        program = self._access.state.workers.get(registration.session_id)
        return registration if program is not None and not program.ended else None

    async def ask_host(self, request: Asks) -> HostAnswer:
        """Ask the PTY host about a terminal. Raises InvalidRequest with why it does not answer."""
        try:
            answer = await self._access.ask_host(request)
        except HostUnavailable as error:
            raise InvalidRequest(
                Refusal.UNAVAILABLE, "worker_disappeared", f"the PTY host is not there: {error}"
            ) from error
        except HostBackpressure as error:
            raise InvalidRequest(Refusal.FULL, "queue_full", str(error)) from error
        if answer.error:
            kind, code = _HOST_ERRORS.get(answer.error, (Refusal.FAILED, "internal_error"))
            raise InvalidRequest(kind, code, _HOST_TEXTS.get(answer.error) or answer.error.replace("_", " "))
        return answer
