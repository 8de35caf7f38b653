"""The frames a node may send, strictly: a missing, unknown or wrongly typed key is refused.

The allow-list of keys that newer peers send is accepted and ignored (contract 4.1).

Source: spec/engine-contract.md section 4.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from relaybroker.engine.json_text import strict_json
from relaybroker.engine.names import AgentName, Label


class _Strict(BaseModel):
    """No unknown keys, no conversions, and no null where a key can be left out."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _no_nulls(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for key, item in value.items():
                if item is None and key not in cls.nullable():
                    raise ValueError(f"{key} must be omitted, not null")
        return value

    @classmethod
    def nullable(cls) -> frozenset[str]:
        """Keys that may be null."""
        return frozenset()


class _Frame(_Strict):
    v: Annotated[int, Field(ge=1, le=1)]
    id: str | None = None


class _Provider(_Strict):
    name: str
    instance_id: str


class _Capability(_Strict):
    name: Label
    kind: str | None = None
    metadata: dict[str, Any] | None = None
    global_: bool | None = Field(default=None, alias="global")
    queue: bool | None = None


Count = Annotated[int, Field(ge=0, le=2**53 - 1)]


class NodeRegister(_Frame):
    """The manifest of a node."""

    type: Literal["node.register"]
    name: Label
    node_id: str
    capabilities: list[_Capability]
    max_agents: Count
    tags: list[Label]
    version: str
    resume_cursor: str | None = None
    provider: _Provider | None = None
    machine_id: str | None = None

    @classmethod
    def nullable(cls) -> frozenset[str]:
        """`resume_cursor` may be null."""
        return frozenset({"resume_cursor"})


class NodeHeartbeat(_Frame):
    """Load and liveness."""

    type: Literal["node.heartbeat"]
    load: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    active_agents: Count
    handlers_live: bool
    name: str | None = None
    node_id: str | None = None
    capabilities: list[_Capability] | None = None
    max_agents: Count | None = None
    version: str | None = None
    provider: _Provider | None = None
    load_reported: bool | float | None = None

    @classmethod
    def nullable(cls) -> frozenset[str]:
        """`load` may be null (7.0 and later)."""
        return frozenset({"load"})


class NodeDeregister(_Frame):
    """The node leaves."""

    type: Literal["node.deregister"]
    provider: _Provider | None = None


class NodeSpawn(_Frame):
    """A provider asks its node to start an agent."""

    type: Literal["node.spawn"]
    input: dict[str, Any]


class AgentRegister(_Frame):
    """An agent on this node."""

    type: Literal["agent.register"]
    name: AgentName
    invocation_id: str | None = None
    session_ref: str | None = None
    resumable: bool | None = None
    auto_join_general: bool | None = None


class AgentDeregister(_Frame):
    """An agent leaves this node."""

    type: Literal["agent.deregister"]
    agent_id: str
    name: str | None = None


class DeliveryAck(_Frame):
    """Everything up to a number is settled."""

    type: Literal["delivery.ack"]
    agent: str
    up_to_seq: Count


class ActionResult(_Frame):
    """The outcome of an invocation: exactly one of output (null counts) and error."""

    type: Literal["action.result"]
    invocation_id: str
    output: Any = None
    error: str | None = None

    @classmethod
    def nullable(cls) -> frozenset[str]:
        """`output` may be null."""
        return frozenset({"output"})

    @model_validator(mode="after")
    def _exactly_one(self) -> ActionResult:
        if len(self.model_fields_set & {"output", "error"}) != 1:
            raise ValueError("exactly one of output and error is required")
        return self


class _Member(_Strict):
    agent_id: str
    name: str
    invocation_id: str | None = None
    session_ref: str | None = None


class InventorySync(_Frame):
    """Exactly who lives on this node."""

    type: Literal["inventory.sync"]
    agents: list[_Member]


_Any = Annotated[
    NodeRegister
    | NodeHeartbeat
    | NodeDeregister
    | NodeSpawn
    | AgentRegister
    | AgentDeregister
    | DeliveryAck
    | ActionResult
    | InventorySync,
    Field(discriminator="type"),
]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(_Any)


class FrameError(Exception):
    """The frame is not one of the contract's; the message says why."""


def parse(text: str) -> dict[str, Any]:
    """A valid frame as a dict of the keys that were sent.

    Raises:
        FrameError: no JSON object, or a key is missing, unknown or of the wrong type.
    """
    try:
        value = strict_json(text)
    except ValueError as error:
        raise FrameError("not JSON") from error
    if not isinstance(value, dict):
        raise FrameError("not an object")
    try:
        frame = _ADAPTER.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise FrameError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    fields: dict[str, Any] = frame.model_dump(exclude_unset=True, by_alias=True)
    return fields
