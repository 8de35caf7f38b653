"""Reading a delivered payload: what class it is, who says what to whom. Total and pure: any JSON value has an answer.

Source: spec/node-protocol.md sections 4.8 to 4.10; invariants D10, D11; `expires_at`: ADR-0029.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from relaybroker.domain.instants import epoch_seconds


class Class(StrEnum):
    """What to do with a payload type."""

    INJECT = "inject"
    RECEIPT = "receipt"
    UNKNOWN = "unknown"


def _family(prefix: str, *verbs: str) -> frozenset[str]:
    return frozenset(f"{prefix}.{verb}" for verb in verbs)


_DM_VERBS = ("received", "created", "new", "sent")
ACTION_TYPES = _family("action", "completed", "failed", "denied")
MESSAGE_TYPES = (
    _family("message", "created", "received", "new", "sent", "delivered")
    | _family("thread", "reply", "message.created", "message.sent")
    | _family("dm", *_DM_VERBS, "message.created")
    | _family("direct_message", *_DM_VERBS)
    | _family("group_dm", *_DM_VERBS, "message.created")
)
UNNAMED = "relaycast"
"""The sender of a payload that names none; never taken for an agent of this name."""
READ, REACTED = "message.read", "message.reacted"
RECEIPT_TYPES = frozenset((READ, REACTED))

_PRIORITIES = {"low": 1, "normal": 2, "high": 3, "urgent": 4}

_Paths = tuple[tuple[str, ...], ...]

_BODY: _Paths = (("data", "text"), ("text",), ("body",), ("content",), ("message", "text"), ("payload", "text"))
_SENDER: _Paths = (
    ("data", "agent_name"),
    ("data", "from_name"),
    ("from",),
    ("sender",),
    ("author",),
    ("message", "agent_name"),
    ("message", "from"),
    ("payload", "from"),
    ("data", "message", "agent_name"),
)
_TARGET: _Paths = (("target",), ("to",), ("recipient",), ("message", "target"))
_CHANNEL: _Paths = (("data", "channel_name"), ("channel",), ("message", "channel"))
_PRIORITY_NUMBER: _Paths = (("data", "priority"), ("priority",))
_PRIORITY_LABEL: _Paths = (("data", "metadata", "priority"), ("metadata", "priority"))
_EXPIRY: _Paths = (
    ("data", "expires_at"),
    ("expires_at",),
    ("data", "metadata", "expires_at"),
    ("metadata", "expires_at"),
)
_POSTED: _Paths = (("data", "created_at"), ("created_at",))
_THREAD: _Paths = (("data", "thread_id"), ("thread_id",), ("threadId",), ("data", "parent_id"))


class Extract(msgspec.Struct, frozen=True, kw_only=True):
    """What a payload says. `body` is never empty."""

    type: str
    cls: Class
    sender: str
    sender_ids: tuple[str, ...]
    """Agent ids that the payload gives as its author's."""
    target: str
    body: str
    thread_id: str
    priority: int | None
    expires_at: float
    """Epoch seconds after which it is worth nothing; 0 = never."""
    posted_at: float
    """When the engine took it, by the engine's clock (epoch seconds); 0 = it does not say."""


def payload_type(payload: Any) -> str:
    """The payload's type; "" when it has none that is a string."""
    kind = payload.get("type") if isinstance(payload, dict) else None
    return kind if isinstance(kind, str) else ""


def classify(kind: str) -> Class:
    """The class of a payload type (exact, case-sensitive)."""
    if kind in MESSAGE_TYPES or kind in ACTION_TYPES or not kind:
        return Class.INJECT
    return Class.RECEIPT if kind in RECEIPT_TYPES else Class.UNKNOWN


def extract(payload: Any, recipient: str) -> Extract:
    """Everything that is typed or decided about a payload for `recipient` (the agent's name)."""
    kind = payload_type(payload)
    ids = (_text(_at(payload, ("data", key))) for key in ("agent_id", "from_agent_id"))
    return Extract(
        type=kind,
        cls=classify(kind),
        sender=_first(payload, _SENDER) or UNNAMED,
        sender_ids=tuple(one for one in ids if one),
        target=_target(payload, recipient),
        body=_body(payload, kind),
        thread_id=_first(payload, _THREAD),
        priority=_priority(payload),
        expires_at=_moment(payload, _EXPIRY),
        posted_at=_moment(payload, _POSTED),
    )


def is_self_echo(extracted: Extract, agent_id: str, name: str) -> bool:
    """Whether a message-class payload was written by its own recipient."""
    if extracted.type not in MESSAGE_TYPES:
        return False
    if extracted.sender_ids:
        return agent_id in extracted.sender_ids
    return extracted.sender == name and extracted.sender != UNNAMED


def read_mark(payload: Any) -> tuple[str, str]:
    """The agent id and the message id of a read mark; ("", "") if the payload is none."""
    if payload_type(payload) != READ:
        return "", ""
    return _text(_at(payload, ("data", "agent_id"))), _text(_at(payload, ("data", "message_id")))


class Receipt(msgspec.Struct, frozen=True):
    """What somebody did with a message."""

    kind: str
    """`reaction` or `receipt`."""
    message_id: str
    who: str
    said: str
    """One sentence for whoever wrote the message."""


def receipt(payload: Any) -> Receipt | None:
    """What a reaction or read mark says; None if the payload is none, or does not say who did it to what."""
    kind = payload_type(payload)
    message_id, who = _text(_at(payload, ("data", "message_id"))), _text(_at(payload, ("data", "agent_name")))
    if kind not in RECEIPT_TYPES or not message_id or not who:
        return None
    if kind == READ:
        return Receipt("receipt", message_id, who, f"{who} has read your message {message_id}.")
    emoji = _text(_at(payload, ("data", "emoji"))) or "something"
    is_back = _text(_at(payload, ("data", "action"))) == "removed"
    did = f"took {emoji} back from" if is_back else f"reacted with {emoji} to"
    return Receipt("reaction", message_id, who, f"{who} {did} your message {message_id}.")


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value).strip()


def _first(payload: Any, paths: _Paths) -> str:
    for path in paths:
        if text := _text(_at(payload, path)):
            return text
    return ""


def _moment(payload: Any, paths: _Paths) -> float:
    return next((when for path in paths if (when := epoch_seconds(_at(payload, path)))), 0.0)


def _target(payload: Any, recipient: str) -> str:
    if target := _first(payload, _TARGET):
        return target
    channel = _first(payload, _CHANNEL)
    if not channel:
        return recipient
    return channel if channel.startswith("#") else f"#{channel}"


def _priority(payload: Any) -> int | None:
    for path in _PRIORITY_NUMBER:
        value = _at(payload, path)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
            return value
    for path in _PRIORITY_LABEL:
        label = _at(payload, path)
        if isinstance(label, str) and label.strip().lower() in _PRIORITIES:
            return _PRIORITIES[label.strip().lower()]
    return None


def _body(payload: Any, kind: str) -> str:
    if not isinstance(payload, dict):
        return payload if isinstance(payload, str) and payload.strip() else f"[non-object payload] {_json(payload)}"
    if kind not in ACTION_TYPES and (text := _first(payload, _BODY)):
        return text
    data = payload.get("data")
    if isinstance(data, dict):
        for key in ("output", "error"):
            value = data.get(key)
            if value is not None and not (isinstance(value, str) and not value.strip()):
                return value if isinstance(value, str) else _json(value)
        if "output" in data:
            failed = kind in ("action.failed", "action.denied")
            return "failed with no detail" if failed else "completed with no output"
    return _json(data if data is not None else payload)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode("utf-8", "replace")
