"""The bodies of local API requests: aliases tried in order, null means absent, a wrong type names its key.

Source: spec/local-api.md sections 1.1 and 1.3.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from domain.errors import InvalidRequest

BODY_WAIT_S = 30.0
"""How long a body may take to arrive."""


class Body(BaseModel):
    """Common shape: unknown fields are ignored, types are strict."""

    model_config = ConfigDict(extra="ignore", strict=True)


def _without_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not hold NUL")
    return value


Text = Annotated[str, AfterValidator(_without_nul)]
"""Text that can be an argument, a path or an environment value."""


def _alias(*names: str, default: Any = None) -> Any:
    return Field(default=default, validation_alias=AliasChoices(*names))


class SpawnBody(Body):
    """POST /api/spawn."""

    name: str = ""
    cli: Text = "claude"
    transport: str = _alias("transport", "runtime", default="pty")
    model: str = ""
    args: list[Text] = []
    task: str = ""
    channels: list[Text] = []
    cwd: Text = ""
    team: str = ""
    idle_threshold_secs: int = Field(
        default=30,
        ge=0,
        le=2**32 - 1,
        validation_alias=AliasChoices("idle_threshold_secs", "idleThresholdSecs"),
    )
    spawn_mode: str = _alias("spawn_mode", "spawnMode", default="interactive")
    exit_after_task: bool = _alias("exit_after_task", "exitAfterTask", default=False)
    skip_relay_prompt: bool = _alias("skip_relay_prompt", "skipRelayPrompt", default=False)
    session_id: str = _alias("session_id", "sessionId", default="")
    permission_mode: str = _alias("permission_mode", "permissionMode", default="")


class SendBody(Body):
    """POST /api/send."""

    to: str = ""
    message: str = _alias("message", "text", "body", "content", default="")
    sender: str = _alias("from", default="")
    thread: str = _alias("thread", "thread_id", "threadId", default="")
    workspace_id: str = _alias("workspaceId", "workspace_id", default="")
    workspace_alias: str = _alias("workspaceAlias", "workspace_alias", default="")
    mode: str = _alias("mode", "injectionMode", "injection_mode", default="wait")
    data: dict[str, Any] | None = None


class InputBody(Body):
    """POST /api/input/{name}."""

    data: str


class ResizeBody(Body):
    """POST /api/resize/{name}."""

    rows: int = Field(ge=0, le=65535)
    cols: int = Field(ge=0, le=65535)


class ReleaseBody(Body):
    """DELETE /api/spawned/{name}."""

    reason: str = ""


_B = TypeVar("_B", bound=Body)


async def read_json(request: web.Request) -> dict[str, Any]:
    """The request's JSON object, nulls removed; an empty body is `{}`.

    Raises:
        InvalidRequest: 400 `invalid_json` or `invalid_request`, 408 `request_timeout` if it arrives too slowly.
    """
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            raw = await request.read()
    except TimeoutError as error:
        raise InvalidRequest(408, "request_timeout", f"The body did not arrive within {BODY_WAIT_S:.0f} s") from error
    if not raw.strip():
        return {}
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(400, "invalid_json", f"The body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest(400, "invalid_request", "The body must be a JSON object")
    return {key: item for key, item in value.items() if item is not None}


def parse(model: type[_B], value: dict[str, Any]) -> _B:
    """The value as this body.

    Raises:
        InvalidRequest: 400 `missing_field` or `invalid_field`, with the key in `field`.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "body"
        if first["type"] == "missing":
            raise InvalidRequest(400, "missing_field", f"Missing required field: {field}", field=field) from error
        raise InvalidRequest(400, "invalid_field", f"{field}: {first['msg']}", field=field) from error
