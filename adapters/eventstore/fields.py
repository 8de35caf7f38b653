"""Where a stored record has what people look for: SQL expressions, made from the events' own definitions.

An attribute of an event is found under the name that its class encodes it with, in the records of its current topic. So
a question names classes and attributes, never topics or paths, and goes on to be right when an event gets a new version.

Source: ADR-0046.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from relaybroker.domain.events import Event

LOOKED_UP = (
    *("name", "agent_id", "session_id", "generation", "source", "invocation_id", "action", "agent_name"),
    *("delivery_id", "attempt", "msg_id", "frame.msg_id", "message_id", "event_id", "seq", "first", "last"),
    *("sender", "target", "to", "author_id", "mode", "reason", "detail", "until", "dial", "verification"),
)
"""Attributes of events that a question may ask SQL for: what the index of an archive keeps of a body."""


def field(path: str, row: str = "") -> str:
    """The SQL of a field of a stored record (`at`, `cause`, `corr`, `body`), of the table with this prefix (`n.`)."""
    return f"json_extract(CAST({row}state AS TEXT), '$.{path}')"


def listed(values: Iterable[str]) -> str:
    """Texts as the SQL of a list."""
    return ", ".join(f"'{value}'" for value in values)


def place(event: type[Event], attribute: str) -> tuple[str, ...] | None:
    """The keys that lead to an attribute in the event's body, `frame.msg_id` being a key of one; None when it has no such attribute."""
    name, *inner = attribute.split(".")
    if name not in event.__struct_fields__:
        return None
    return (event.__struct_encode_fields__[event.__struct_fields__.index(name)], *inner)


def attribute(name: str, events: Iterable[type[Event]], row: str = "") -> str:
    """The SQL of an attribute of these events; NULL in the records of any other.

    Raises:
        ValueError: the attribute is not one of `LOOKED_UP`.
    """
    if name not in LOOKED_UP:
        raise ValueError(f"nothing is looked up by {name}")
    topics: dict[str, list[str]] = {}
    for event in events:
        if (keys := place(event, name)) is not None:
            topics.setdefault(".".join(("body", *keys)), []).append(event.topic)
    if not topics:
        return "NULL"
    if len(topics) == 1:
        (path,) = topics
        return field(path, row)
    cases = " ".join(
        f"WHEN {row}topic IN ({listed(path_topics)}) THEN {field(path, row)}" for path, path_topics in topics.items()
    )
    return f"CASE {cases} END"


def looked_up(event: type[Event], body: Mapping[str, Any]) -> dict[str, Any]:
    """What of a body (plain data) may be asked for."""
    values: dict[str, Any] = {}
    for key, *inner in _places(event):
        if key not in body:
            continue
        value = body[key]
        if not inner:
            values[key] = value
        elif isinstance(value, dict) and inner[0] in value:
            values[key] = {inner[0]: value[inner[0]]}
    return values


@cache
def _places(event: type[Event]) -> tuple[tuple[str, ...], ...]:
    return tuple(keys for keys in (place(event, name) for name in LOOKED_UP) if keys is not None)
