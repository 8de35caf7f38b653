"""The bodies of REST requests. Unknown keys are ignored: newer clients send more than this contract knows.

Source: spec/engine-contract.md sections 1.1 and 2.
"""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from aiohttp import web
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from relaybroker.engine.errors import EngineError, invalid
from relaybroker.engine.json_text import strict_json
from relaybroker.engine.names import LABEL_MAX, AgentName, FileName, Label

BODY_WAIT_S = 30.0
"""How long a body may take to arrive."""
PARTICIPANTS_MAX = 256
"""Agents in a new group conversation."""
TEXT_MAX = 256 * 1024
"""Characters of a message."""
EMOJI_MAX = 64
"""Characters of a reaction: an emoji with its modifiers, or its :name:."""

DESCRIPTION_MAX = 1024
"""Characters of what is said about an observer token or a channel, about a delivery that was not taken, or of who a webhook speaks for."""
METADATA_MAX = 16 * 1024
"""Characters of the metadata of an agent or a channel, of an agent's skills, and of its capabilities, each as JSON."""
Scope = Literal[
    "stream:read", "messages:read", "threads:read", "dms:read", "channels:read", "search:read", "agents:read", "nodes:read",
    "deliveries:read", "activity:read", "files:read", "reactions:read",
]  # fmt: skip
"""What an observer token may read."""
_TIME = "a time is written like 2026-01-31T12:00:00.000Z"
PROMPT_MAX = 64 * 1024
"""Characters of the system prompt of a workspace, and of the persona of an agent."""
FILE_MAX = 8 * 1024 * 1024
"""Bytes of a file."""
ATTACHMENTS_MAX = 16
"""Files of a message."""
CONTENT_TYPE_MAX = 127
"""Characters of the type of a file."""
_CONTENT_TYPE = (
    r"^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*(; ?[A-Za-z0-9_.-]+=[A-Za-z0-9_.-]+)?$"
)
HEADERS_MAX = 16
"""Headers of a subscription's own."""
SECRET_MAX = 256
"""Characters of the secret of a subscription."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_OWN_HEADERS = frozenset(
    {"host", "connection", "content-length", "content-type", "transfer-encoding", "upgrade", "te", "trailer", "expect"}
)
_Json = TypeVar("_Json", dict[str, Any], list[Any])


def _small(value: _Json) -> _Json:
    """The value itself. Raises ValueError where it is too long as JSON."""
    if len(json.dumps(value)) > METADATA_MAX:
        raise ValueError(f"may have {METADATA_MAX // 1024} Ki characters as JSON")
    return value


_Small = Annotated[dict[str, Any], AfterValidator(_small)]
_SmallList = Annotated[list[Any], AfterValidator(_small)]


_Attachments = Annotated[list[str], Field(max_length=ATTACHMENTS_MAX)]


def _headers(value: dict[str, str]) -> dict[str, str]:
    if len(value) > HEADERS_MAX:
        raise ValueError(f"may have {HEADERS_MAX} headers")
    for name, content in value.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS or name.lower().startswith("webhook-"):
            raise ValueError("has a header that may not be set")
        if len(content) > DESCRIPTION_MAX or not (content.isascii() and content.isprintable()):
            raise ValueError(f"has a value that is not {DESCRIPTION_MAX} visible ASCII characters at most")
    return value


class Body(BaseModel):
    """Common shape: lenient towards unknown keys, strict about types."""

    model_config = ConfigDict(extra="ignore", strict=True)


class WorkspaceBody(Body):
    """POST /v1/workspaces."""

    name: Label


class ObserverTokenBody(Body):
    """POST /v1/observer-tokens."""

    name: Label
    scopes: list[Scope] = Field(min_length=1)
    description: str | None = Field(default=None, max_length=DESCRIPTION_MAX)
    filters: dict[str, Any] | None = None
    expires_at: str | None = None


class ObserverTokenPatch(Body):
    """PATCH /v1/observer-tokens/:id."""

    name: Label | None = None
    scopes: list[Scope] | None = Field(default=None, min_length=1)
    description: str | None = Field(default=None, max_length=DESCRIPTION_MAX)
    filters: dict[str, Any] | None = None
    expires_at: str | None = None


class WorkspacePatch(Body):
    """PATCH /v1/workspace."""

    name: Label | None = None
    system_prompt: str | None = Field(default=None, max_length=PROMPT_MAX)


class PromptBody(Body):
    """PUT /v1/workspace/system-prompt."""

    prompt: str | None = Field(default=None, max_length=PROMPT_MAX)
    reset: bool | None = None


class StreamBody(Body):
    """PUT /v1/workspace/stream."""

    enabled: bool | None = None
    mode: Literal["inherit"] | None = None


class AgentEventBody(Body):
    """POST /v1/agents/:name/events."""

    type: Label
    payload: dict[str, Any] | None = None


class AgentBody(Body):
    """POST /v1/agents."""

    name: AgentName
    type: Literal["agent", "human", "system"] = "agent"
    persona: str | None = Field(default=None, max_length=PROMPT_MAX)
    metadata: _Small | None = None
    skills: _SmallList | None = None
    capabilities: _Small | None = None
    auto_join_general: bool | None = None


class AgentPatch(Body):
    """PATCH /v1/agents/:name."""

    status: Literal["active", "idle", "blocked", "waiting", "offline", "online"] | None = None
    persona: str | None = Field(default=None, max_length=PROMPT_MAX)
    metadata: _Small | None = None
    skills: _SmallList | None = None
    capabilities: _Small | None = None


class SpawnBody(Body):
    """POST /v1/agents/spawn."""

    name: AgentName
    cli: Literal["claude", "codex", "gemini", "aider", "goose", "opencode", "grok"]
    task: str = Field(min_length=1)
    channel: str | None = None
    persona: str | None = Field(default=None, max_length=PROMPT_MAX)
    model: str | None = None
    metadata: _Small | None = None


class ReleaseBody(Body):
    """POST /v1/agents/release."""

    name: str = Field(min_length=1)
    reason: str | None = None
    delete_agent: bool | None = None
    expected_token_hash: str | None = None


class NodeBody(Body):
    """POST /v1/nodes."""

    node_id: Label | None = None
    name: Label
    kind: Literal["ws", "http_push", "poll"] | None = None
    role: Literal["direct", "broker"] | None = None
    delivery_adapter: str | None = None
    delivery: dict[str, Any] | None = None
    capabilities: list[Label] | None = None
    max_agents: int | None = Field(default=None, ge=0, le=2**53 - 1)
    tags: list[Label] | None = None
    version: str | None = None


class BindingBody(Body):
    """POST /v1/nodes/:name/agents."""

    agent_name: str = Field(min_length=1)
    session_ref: str | None = None
    priority: int | None = Field(default=None, ge=-(2**31), lt=2**31)


class ChannelBody(Body):
    """POST /v1/channels."""

    name: str = Field(min_length=1, max_length=LABEL_MAX)
    topic: str | None = Field(default=None, max_length=DESCRIPTION_MAX)
    metadata: _Small | None = None


class ChannelPatch(Body):
    """PATCH /v1/channels/:name."""

    topic: str | None = Field(default=None, max_length=DESCRIPTION_MAX)
    metadata: _Small | None = None


class TopicBody(Body):
    """PATCH /v1/channels/:name/topic."""

    topic: str | None = Field(default=None, max_length=DESCRIPTION_MAX)


class InviteBody(Body):
    """POST /v1/channels/:name/invite, POST /v1/dm/:conversation/participants."""

    agent_name: str = Field(min_length=1)


class UploadBody(Body):
    """POST /v1/files/upload. The PyPI client calls the size `size`."""

    filename: FileName
    content_type: str = Field(min_length=1, max_length=CONTENT_TYPE_MAX, pattern=_CONTENT_TYPE)
    size_bytes: int = Field(ge=1, le=FILE_MAX, validation_alias=AliasChoices("size_bytes", "size"))


class MessageBody(Body):
    """A channel message, reply or conversation message."""

    text: str = Field(min_length=1, max_length=TEXT_MAX)
    blocks: list[Any] | None = None
    attachments: _Attachments | None = None
    data: dict[str, Any] | None = None
    content_type: str | None = None
    mode: Literal["wait", "steer"] | None = None


class ChannelMessageBody(MessageBody):
    """POST /v1/channels/:name/messages; a node says who speaks."""

    sender: AgentName | None = Field(default=None, validation_alias="from")


class DmBody(Body):
    """POST /v1/dm."""

    to: str = Field(min_length=1)
    text: str = Field(min_length=1, max_length=TEXT_MAX)
    attachments: _Attachments | None = None
    mode: Literal["wait", "steer"] | None = None


class GroupBody(Body):
    """POST /v1/dm/group."""

    participants: list[str] = Field(min_length=1, max_length=PARTICIPANTS_MAX)
    name: Label | None = None


class WebhookBody(Body):
    """POST /v1/webhooks."""

    name: Label | None = None
    channel: str = Field(min_length=1)


class SubscriptionFilter(Body):
    """Which of the events a subscription wants."""

    channel: str | None = Field(default=None, max_length=LABEL_MAX)
    mentions: str | None = Field(default=None, max_length=LABEL_MAX)


class SubscriptionBody(Body):
    """POST /v1/subscriptions."""

    events: list[str] = Field(min_length=1, max_length=64)
    filter: SubscriptionFilter | None = None
    url: str = Field(min_length=1)
    headers: Annotated[dict[str, str], AfterValidator(_headers)] | None = None
    secret: str | None = Field(default=None, min_length=1, max_length=SECRET_MAX)


class HookBody(Body):
    """POST /v1/hooks/:id."""

    text: str | None = Field(default=None, max_length=TEXT_MAX)
    message: str | None = Field(default=None, max_length=TEXT_MAX)
    blocks: list[Any] | None = None
    source: str | None = Field(default=None, max_length=DESCRIPTION_MAX)
    author: str | None = Field(default=None, max_length=DESCRIPTION_MAX)
    payload: dict[str, Any] | None = None


class FailBody(Body):
    """POST /v1/deliveries/:id/fail."""

    error: str | None = Field(default=None, max_length=DESCRIPTION_MAX)
    retryable: bool | None = None


class DeferBody(Body):
    """POST /v1/deliveries/:id/defer."""

    available_at: str
    reason: str | None = Field(default=None, max_length=DESCRIPTION_MAX)


class ReactionBody(Body):
    """POST /v1/messages/:id/reactions."""

    emoji: str = Field(min_length=1, max_length=EMOJI_MAX)


class ActionBody(Body):
    """POST /v1/actions."""

    name: Label
    description: str
    handler_agent: str | None = None
    handler_node: str | None = None
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    available_to: list[str] | None = None


class InvokeBody(Body):
    """POST /v1/actions/:name/invoke."""

    input: dict[str, Any] | None = None


class CompleteBody(Body):
    """POST /v1/actions/:name/invocations/:id/complete."""

    output: Any = None
    error: str | None = None
    duration_ms: int | None = Field(default=None, ge=0, le=2**53 - 1)


def moment(text: str) -> float:
    """The epoch seconds of an ISO-8601 time with its zone. Raises EngineError 400 `invalid_request`."""
    try:
        at = datetime.fromisoformat(text)
        seconds = at.timestamp()
    except (ValueError, OverflowError) as error:
        raise invalid(_TIME) from error
    if at.tzinfo is None or seconds < 0:
        raise invalid(_TIME)
    return seconds


_B = TypeVar("_B", bound=Body)


async def read_body(request: web.Request, model: type[_B]) -> _B:
    """The request's JSON body as this model; an absent body counts as `{}`.

    Raises:
        EngineError: 400 `invalid_json`, or 400 `invalid_request` naming the key; 408 `request_timeout` if it arrives too slowly.
    """
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            raw = await request.read()
    except TimeoutError as error:
        raise EngineError(408, "request_timeout", f"The body did not arrive within {BODY_WAIT_S:.0f} s") from error
    try:
        value = strict_json(raw) if raw.strip() else {}
    except ValueError as error:
        raise EngineError(400, "invalid_json", "The body is not valid JSON") from error
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "body"
        required = first["type"] in ("missing", "string_too_short", "too_short")
        raise invalid(f"{name} is required" if required else f"{name}: {first['msg']}") from error
