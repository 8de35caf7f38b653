"""Routes about agents: spawn, list, release, screen, input, size.

Source: spec/local-api.md section 1.3, routes 5 to 7, 9, 14, 16.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from aiohttp import web

from adapters.http.api.bodies import (
    NOT_BUILT,
    InputBody,
    ReleaseBody,
    ResizeBody,
    SendBody,
    SpawnBody,
    parse,
    read_json,
)
from adapters.http.api.broker_access import BrokerAccess
from adapters.http.api.envelope import answer
from adapters.pty.client import HostUnavailable
from adapters.pty.protocol import Answer, Resize, Snapshot
from adapters.pty.protocol import Input as RawInput
from domain import inputs, views
from domain.errors import InvalidRequest
from domain.launch import command_line
from domain.state import Registration

SPAWN_WAIT_S = 24.0
RELEASE_WAIT_S = 20.0
SEND_WAIT_S = 24.0

_SPAWN_MODES = {
    "": False,
    "interactive": False,
    "task_exit": True,
    "task-exit": True,
    "single_shot": True,
    "single-shot": True,
}
_EXTRA_PATH = (
    "~/.local/bin",
    "~/.opencode/bin",
    "~/.claude/local",
    "/usr/local/bin",
    "/usr/bin",
    "/bin",
    "/opt/homebrew/bin",
)
_HOST_ERRORS = {
    "agent_not_found": (404, "agent_not_found"),
    "worker_disappeared": (503, "worker_disappeared"),
    "worker_timeout": (504, "worker_timeout"),
    "queue_full": (429, "queue_full"),
    "pty_write_failed": (503, "worker_disappeared"),
    "invalid_dimensions": (400, "invalid_request"),
    "invalid_format": (400, "invalid_format"),
}


class AgentRoutes:
    """Handlers of the agent routes."""

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access

    async def spawn(self, request: web.Request) -> web.Response:
        """POST /api/spawn."""
        value = await read_json(request)
        _refuse_unbuilt(value, request)
        spec = spawn_spec(parse(SpawnBody, value))
        reply = await self._access.ask(
            lambda request_id: inputs.SpawnRequested(request_id=request_id, spec=spec), SPAWN_WAIT_S
        )
        return answer(reply.body, reply.status)

    async def listing(self, _request: web.Request) -> web.Response:
        """GET /api/spawned."""
        return answer({"success": True, "agents": views.agents(self._access.state, self._access.now())})

    async def release(self, request: web.Request) -> web.Response:
        """DELETE /api/spawned/{name}."""
        name = request.match_info["name"]
        body = parse(ReleaseBody, await read_json(request))
        try:
            reply = await self._access.ask(
                lambda request_id: inputs.ReleaseRequested(request_id=request_id, name=name, reason=body.reason),
                RELEASE_WAIT_S,
            )
        except TimeoutError:
            return answer({"success": True, "name": name, "pending": True})
        return answer(reply.body, reply.status)

    async def send(self, request: web.Request) -> web.Response:
        """POST /api/send."""
        value = await read_json(request)
        if "idempotency_key" in value or "idempotencyKey" in value or "Idempotency-Key" in request.headers:
            raise InvalidRequest(501, "not_implemented", "idempotency keys on /api/send are not built yet")
        body = parse(SendBody, value)
        if body.priority is not None:
            raise InvalidRequest(501, "not_implemented", "priority is not built yet", field="priority")
        if body.mode not in ("wait", "steer"):
            raise InvalidRequest(
                400, "invalid_mode", f"invalid mode '{body.mode}'. expected 'wait' or 'steer'", to=body.to
            )
        self._check_workspace(body)
        reply = await self._access.ask(
            lambda request_id: inputs.SendRequested(
                request_id=request_id,
                to=body.to.strip(),
                text=body.message.strip(),
                sender=_sender(body.sender),
                thread_id=body.thread.strip(),
                mode=body.mode,
                data=body.data,
            ),
            SEND_WAIT_S,
        )
        return answer(reply.body, reply.status, {"Retry-After": "1"} if reply.status == 429 else None)

    def _check_workspace(self, body: SendBody) -> None:
        settings = self._access.state.settings
        if body.workspace_id and (settings is None or body.workspace_id != settings.workspace_id):
            raise InvalidRequest(400, "workspace_not_found", f"workspace '{body.workspace_id}' not found", to=body.to)
        if body.workspace_alias and not body.workspace_id:
            raise InvalidRequest(
                400, "workspace_not_found", f"workspace '{body.workspace_alias}' not found", to=body.to
            )

    # --- the terminal -------------------------------------------------------------------------------------------------

    async def snapshot(self, request: web.Request) -> web.Response:
        """GET /api/spawned/{name}/snapshot."""
        wanted = request.query.get("format", "").lower()
        if wanted not in ("", "plain", "text", "ansi"):
            raise InvalidRequest(400, "invalid_format", f"unknown format '{wanted}'")
        session_id = self._session(request.match_info["name"])
        found = await self._ask_host(
            Snapshot(request_id=uuid.uuid4().hex, session_id=session_id, format="ansi" if wanted == "ansi" else "plain")
        )
        return answer(found.data)

    async def type_raw(self, request: web.Request) -> web.Response:
        """POST /api/input/{name}."""
        name = request.match_info["name"]
        body = parse(InputBody, await read_json(request))
        data = body.data.encode("utf-8", "replace")
        found = await self._ask_host(RawInput(request_id=uuid.uuid4().hex, session_id=self._session(name), data=data))
        return answer({"name": name, "bytes_written": found.data.get("bytes_written", len(data))})

    async def resize(self, request: web.Request) -> web.Response:
        """POST /api/resize/{name}."""
        name = request.match_info["name"]
        body = parse(ResizeBody, await read_json(request))
        if not body.rows or not body.cols:
            raise InvalidRequest(400, "invalid_request", "invalid_dimensions: rows and cols must be >= 1")
        session_id = self._session(name)
        await self._ask_host(Resize(request_id=uuid.uuid4().hex, session_id=session_id, rows=body.rows, cols=body.cols))
        return answer({"name": name, "rows": body.rows, "cols": body.cols})

    def _session(self, name: str) -> str:
        found = self._find(name)
        if found is None:
            raise InvalidRequest(404, "agent_not_found", f"unknown worker '{name}'", name=name)
        return found.session_id

    def _find(self, name: str) -> Registration | None:
        found = self._access.state.registration_of(name)
        program = self._access.state.workers.get(found.session_id) if found is not None else None
        return found if program is not None and not program.ended else None

    async def _ask_host(self, request: RawInput | Resize | Snapshot) -> Answer:
        try:
            found = await self._access.ask_host(request)
        except HostUnavailable as error:
            raise InvalidRequest(503, "worker_disappeared", f"the PTY host is not there: {error}") from error
        if found.error:
            status, code = _HOST_ERRORS.get(found.error, (500, "internal_error"))
            raise InvalidRequest(status, code, found.error.replace("_", " "))
        return found


def _refuse_unbuilt(value: dict[str, object], request: web.Request) -> None:
    if "harness_id" in value or "harnessId" in value:
        raise InvalidRequest(
            400, "harness_id_unsupported", "harnessId is not supported by the broker API; send harnessConfig"
        )
    for names in NOT_BUILT:
        for name in names:
            if name in value:
                raise InvalidRequest(501, "not_implemented", f"'{name}' is not built yet", field=name)
    if "Idempotency-Key" in request.headers:
        raise InvalidRequest(501, "not_implemented", "idempotency keys on /api/spawn are not built yet")


def spawn_spec(body: SpawnBody) -> inputs.SpawnSpec:
    """The spec of a spawn request, with everything checked that this machine can tell.

    Raises:
        InvalidRequest: with the codes of local-api.md section 1.1; nothing has happened.
    """
    if not body.name:
        raise InvalidRequest(400, "missing_field", "Missing required field: name", field="name", name="")
    transport = body.transport.strip().lower()
    if transport == "headless":
        raise InvalidRequest(501, "not_implemented", "headless agents are not built yet", name=body.name)
    if transport != "pty":
        raise InvalidRequest(
            400,
            "invalid_transport",
            f"unsupported transport '{body.transport}' (expected 'pty' or 'headless')",
            name=body.name,
        )
    mode = body.spawn_mode.strip().lower()
    if mode not in _SPAWN_MODES:
        raise InvalidRequest(
            400,
            "invalid_spawn_mode",
            f"unsupported spawnMode '{body.spawn_mode}' (expected 'interactive' or 'task_exit')",
            name=body.name,
        )
    if _SPAWN_MODES[mode] or body.exit_after_task:
        raise InvalidRequest(501, "not_implemented", "exit after task is not built yet", name=body.name)
    if body.permission_mode.strip().lower() not in ("", "ask"):
        raise InvalidRequest(403, "bypass_not_allowed", "permission bypass is not enabled here", name=body.name)
    cwd = _directory(body)
    _program(body, cwd)
    return inputs.SpawnSpec(
        name=body.name,
        cli=body.cli,
        args=tuple(body.args),
        cwd=cwd,
        task=body.task,
        channels=_channels(body.channels),
        model=body.model.strip(),
        team=body.team,
        session_ref=body.session_id.strip(),
        idle_threshold_s=float(body.idle_threshold_secs),
        skip_relay_prompt=body.skip_relay_prompt,
    )


def _directory(body: SpawnBody) -> str:
    if not body.cwd:
        return ""
    if not Path(body.cwd).is_absolute() or not Path(body.cwd).is_dir():
        raise InvalidRequest(
            400, "invalid_cwd", f"cwd '{body.cwd}' is not an existing absolute directory", name=body.name
        )
    return body.cwd


def _program(body: SpawnBody, cwd: str) -> None:
    """Refuse a command that this machine does not have."""
    word = command_line(body.cli, body.args)[0]
    if "/" in word:
        path = Path(cwd or Path.cwd()) / Path(word).expanduser()
        found = path.is_file() and os.access(path, os.X_OK)
    else:
        extra = os.pathsep.join(str(Path(item).expanduser()) for item in _EXTRA_PATH)
        found = shutil.which(word, path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{extra}") is not None
    if not found:
        raise InvalidRequest(400, "cli_not_found", f"command '{word}' not found", name=body.name)


def _channels(names: list[str]) -> tuple[str, ...]:
    seen: dict[str, str] = {}
    for name in names:
        plain = name.strip().removeprefix("#")
        if plain:
            seen.setdefault(plain.lower(), plain)
    return tuple(seen.values())


def _sender(given: str) -> str:
    name = given.strip()
    return f"human:{name.removeprefix('human:').strip()}" if name.startswith("human:") else name
