"""The bodies of local API requests: aliases tried in order, null means absent, a wrong type names its key.

Source: spec/local-api.md sections 1.1 and 1.3.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from aiohttp import web
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from relaybroker.adapters.sessions.host.protocol import MAX_DIMENSION, MIN_COLS, MIN_ROWS
from relaybroker.domain.decoding import MAX_DEPTH, NOT_READABLE, is_too_deep
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import RestartPolicy
from relaybroker.domain.questions import MAX_BY

BODY_WAIT_S = 30.0
"""How long a body may take to arrive."""


class Body(BaseModel):
    """Common shape: unknown fields are ignored, types are strict."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Query(BaseModel):
    """Common shape of queries: an unknown name is left alone, as in bodies."""

    model_config = ConfigDict(extra="ignore")


def _without_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not hold NUL")
    return value


Text = Annotated[str, AfterValidator(_without_nul)]
"""Text that can be an argument, a path or an environment value."""


def _alias(*names: str, default: Any = None) -> Any:
    return Field(default=default, validation_alias=AliasChoices(*names))


class HarnessConfig(Body):
    """How the program of an agent is run, in place of `cli` and `args` (local-api.md section 5.2)."""

    runtime: str = "pty"
    command: Text = ""
    args: list[Text] = []
    cwd: Text = ""
    env: dict[str, Text] = {}
    session_id: str = _alias("sessionId", "session_id", default="")


class SpawnBody(Body):
    """POST /api/spawn."""

    name: str = ""
    cli: Text = "claude"
    transport: str = _alias("transport", "runtime", default="pty")
    model: str = ""
    args: list[Text] = []
    task: str = ""
    continue_from: str = _alias("continue_from", "continueFrom", default="")
    channels: list[Text] = []
    cwd: Text = ""
    team: str = ""
    shadow_of: str = _alias("shadow_of", "shadowOf", default="")
    shadow_mode: str = _alias("shadow_mode", "shadowMode", default="")
    idle_threshold_secs: int = Field(
        default=30,
        ge=0,
        le=2**32 - 1,
        validation_alias=AliasChoices("idle_threshold_secs", "idleThresholdSecs"),
    )
    restart_policy: dict[str, Any] | None = _alias("restart_policy", "restartPolicy")
    spawn_mode: str = _alias("spawn_mode", "spawnMode", default="interactive")
    exit_after_task: bool = _alias("exit_after_task", "exitAfterTask", default=False)
    skip_relay_prompt: bool = _alias("skip_relay_prompt", "skipRelayPrompt", default=False)
    session_id: str = _alias("session_id", "sessionId", default="")
    permission_mode: str = _alias("permission_mode", "permissionMode", default="")
    harness: Text = ""
    rows: int = Field(default=24, ge=MIN_ROWS, le=MAX_DIMENSION)
    cols: int = Field(default=80, ge=MIN_COLS, le=MAX_DIMENSION)
    surface: list[Literal["reaction", "receipt"]] | None = None
    doors: list[Text] | None = None
    env: dict[str, Text] = {}
    harness_config: HarnessConfig | None = _alias("harness_config", "harnessConfig", "harness_plan", "harnessPlan")
    agent_token: SecretStr = _alias("agent_token", "agentToken", default=SecretStr(""))
    idempotency_key: str | None = _alias("idempotency_key", "idempotencyKey")


class SendBody(Body):
    """POST /api/send."""

    to: str = ""
    message: str = _alias("message", "text", "body", "content", default="")
    sender: str = _alias("from", default="")
    thread: str = _alias("thread", "thread_id", "threadId", default="")
    workspace_id: str = _alias("workspaceId", "workspace_id", default="")
    workspace_alias: str = _alias("workspaceAlias", "workspace_alias", default="")
    mode: str = _alias("mode", "injectionMode", "injection_mode", default="wait")
    priority: int | None = Field(default=None, ge=0, le=4)
    data: dict[str, Any] | None = None
    attachments: list[Text] = Field(default=[], max_length=32)
    strict: bool = False
    idempotency_key: str | None = _alias("idempotency_key", "idempotencyKey")


class InputBody(Body):
    """POST /api/input/{name}."""

    data: str


class ResizeBody(Body):
    """POST /api/resize/{name}. `session_id`: whoever attached; of several the first one decides until it is silent for 300 s."""

    rows: int = Field(ge=0, le=65535)
    cols: int = Field(ge=0, le=65535)
    owner: str = Field(default="", max_length=128, validation_alias=AliasChoices("session_id", "sessionId"))


class ReleaseBody(Body):
    """DELETE /api/spawned/{name}."""

    reason: str = ""


class ModeBody(Body):
    """PUT /api/spawned/{name}/delivery-mode."""

    mode: str
    reason: str = Field(default="", max_length=500)
    revision: int | None = Field(
        default=None, ge=0, lt=2**63, validation_alias=AliasChoices("expected_revision", "expectedRevision", "revision")
    )
    expected_mode: str = _alias("expected_mode", "expectedMode", default="")


class AgentResultBody(Body):
    """POST /api/agent-result: `data` (or `result`), any JSON value, is required."""

    data: Any = None
    name: str = _alias("name", "agent", default="")
    final: bool = _alias("final", "final_result", default=True)
    metadata: Any = None


class ModelBody(Body):
    """POST /api/spawned/{name}/model."""

    model: str = ""
    timeout_ms: int = Field(default=5000, ge=0, le=20_000, validation_alias=AliasChoices("timeout_ms", "timeoutMs"))


class AnswerBody(Body):
    """POST /api/spawned/{name}/answer."""

    option: str = Field(default="", max_length=256)
    question: str = Field(default="", max_length=256)
    by: str = Field(default="", max_length=MAX_BY)
    timeout_ms: int = Field(default=10_000, ge=0, le=60_000, validation_alias=AliasChoices("timeout_ms", "timeoutMs"))


class ChannelsBody(Body):
    """POST /api/spawned/{name}/subscribe and /unsubscribe."""

    channels: list[Annotated[str, Field(max_length=128)]] = Field(max_length=64)


class PreflightAgent(Body):
    """An agent that may be asked for."""

    name: str
    cli: Text = "claude"


class PreflightBody(Body):
    """POST /api/preflight."""

    agents: list[PreflightAgent] = Field(max_length=256)


class LettersBody(Body):
    """POST /api/dead-letters/redeliver and /purge: one letter, some, or all (of one agent)."""

    id: str = Field(default="", max_length=1024)
    ids: list[Annotated[str, Field(min_length=1, max_length=1024)]] = Field(default=[], max_length=500)
    all: bool = False
    agent: str = _alias("agent", "name", default="")
    force: bool = False

    @property
    def letter_ids(self) -> tuple[str, ...]:
        """The letters that are named, each once."""
        return tuple(dict.fromkeys([*([self.id] if self.id else []), *self.ids]))


class CapabilityBody(Body):
    """One capability of a manifest."""

    name: str = Field(min_length=1, max_length=200)
    kind: str = ""
    metadata: dict[str, Any] | None = None


class ManifestBody(Body):
    """What a sidecar wants the node to offer."""

    name: str = ""
    node_id: str = ""
    capabilities: list[CapabilityBody] = []
    max_agents: int = Field(default=0, ge=0, lt=2**32)
    tags: list[str] = Field(default=[], max_length=256)
    version: str = ""

    @field_validator("capabilities", mode="before")
    @classmethod
    def _without_nulls(cls, listed: Any) -> Any:
        """Absent and null are the same, here as everywhere."""
        if not isinstance(listed, list):
            return listed
        return [_present(row) if isinstance(row, dict) else row for row in listed]


class RestartPolicyBody(Body):
    """When a supervised program is started again."""

    enabled: bool = True
    max_restarts: int = Field(default=5, ge=0, le=1000)
    cooldown_ms: int = Field(default=2000, ge=0, le=3_600_000)
    max_consecutive_failures: int = Field(default=3, ge=0, le=1000)

    def policy(self) -> RestartPolicy:
        """As the core knows it."""
        return RestartPolicy(
            enabled=self.enabled,
            max_restarts=self.max_restarts,
            cooldown_s=self.cooldown_ms / 1000,
            max_consecutive_failures=self.max_consecutive_failures,
        )


class AgentRestartBody(RestartPolicyBody):
    """When the program of an agent is started again; a misspelt limit is no limit, so it is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class SupervisionBody(Body):
    """The program behind a sidecar."""

    argv: list[Text] = Field(default=[], max_length=1024)
    cwd: Text = ""
    env: dict[str, Text] = {}
    restart_policy: RestartPolicyBody = RestartPolicyBody()


class NodeBody(Body):
    """`register_node` of a sidecar."""

    manifest: ManifestBody
    supervision: SupervisionBody | None = None

    @field_validator("manifest", "supervision", mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return _present(value) if isinstance(value, dict) else value


class HandlersBody(Body):
    """`register_handlers` of a sidecar."""

    names: list[str]


class ResultBody(Body):
    """`handler_result` of a sidecar."""

    model_config = ConfigDict(extra="forbid", strict=True)

    invocation_id: str
    output: Any = None
    error: str | None = None


def _present(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item is not None}


_B = TypeVar("_B", bound=Body)


async def read_json(request: web.Request) -> dict[str, Any]:
    """The request's JSON object, nulls removed; an empty body is `{}`.

    Raises:
        InvalidRequest: `invalid_json` or `invalid_request`, `request_timeout` if it arrives too slowly.
    """
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            raw = await request.read()
    except TimeoutError as error:
        raise InvalidRequest(
            Refusal.SLOW, "request_timeout", f"The body did not arrive within {BODY_WAIT_S:.0f} s"
        ) from error
    if not raw.strip():
        return {}
    try:
        value = msgspec.json.decode(raw)
    except NOT_READABLE as error:
        raise InvalidRequest(Refusal.INVALID, "invalid_json", f"The body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest(Refusal.INVALID, "invalid_request", "The body must be a JSON object")
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and is_too_deep(value):
        raise InvalidRequest(Refusal.INVALID, "invalid_json", f"The body has more than {MAX_DEPTH} levels")
    return _present(value)


def parse(model: type[_B], value: dict[str, Any]) -> _B:
    """The value as this body.

    Raises:
        InvalidRequest: `missing_field` or `invalid_field`, with the key in `field`.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "body"
        if first["type"] == "missing":
            raise InvalidRequest(
                Refusal.INVALID, "missing_field", f"Missing required field: {field}", field=field
            ) from error
        raise InvalidRequest(Refusal.INVALID, "invalid_field", f"{field}: {first['msg']}", field=field) from error
