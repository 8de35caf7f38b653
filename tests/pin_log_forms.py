"""Pins the forms in which events and inputs are in logs: `python -m tests.pin_log_forms` adds what is new to fixtures/log/forms.jsonl.

A line is an event's body (or an input) with a value in every field, as this version writes it. Lines are only ever added, so whatever any
version has written is read by every later one (tests/unit/domain/test_log_forms.py).
"""

from __future__ import annotations

import enum
import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from relaybroker.domain import recorded_input
from relaybroker.domain.events import REGISTRY

FORMS = Path(__file__).parents[1] / "fixtures" / "log" / "forms.jsonl"
SCALARS: dict[Any, Any] = {str: "text", int: 7, float: 1.5, bool: True, Any: {"key": [1, "one"]}}


def kept() -> list[dict[str, Any]]:
    """The pinned forms, oldest first."""
    return [json.loads(line) for line in FORMS.read_text(encoding="utf-8").splitlines()] if FORMS.exists() else []


def current() -> Iterator[dict[str, Any]]:
    """Every form that this version writes."""
    for topic in sorted(REGISTRY):
        for chosen in range(_shapes(REGISTRY[topic])):
            yield {"topic": topic, "body": _body(REGISTRY[topic], chosen)}
    for kind in sorted(get_args(recorded_input.RecordedInput), key=lambda kind: kind.__name__):
        yield {"input": {"type": kind.__name__} | _body(kind)}


def missing() -> list[dict[str, Any]]:
    """The forms of this version with a field, or a whole, that no pinned line has."""
    pinned = {field for form in kept() for field in fields(form)}
    return [form for form in current() if not fields(form) <= pinned]


def fields(form: dict[str, Any]) -> set[str]:
    """Where a form has values: `topic`, `topic.field`, `topic.field.field`."""
    name = form["topic"] if "topic" in form else f"input {form['input']['type']}"
    return {name, *_paths(name, form.get("body", form.get("input")))}


def _paths(prefix: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{prefix}.{key}"
            yield from _paths(f"{prefix}.{key}", inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _paths(prefix, inner)


def _shapes(kind: Any) -> int:
    """How many shapes the members of an event have at most."""
    return max([1, *(len(_alternatives(hint)) for hint in get_type_hints(kind).values())])


def _alternatives(hint: Any) -> list[Any]:
    """The types that a value may have; of values that are no objects, the first one stands for all."""
    if get_origin(hint) not in (Union, types.UnionType):
        return [hint]
    real = [one for one in get_args(hint) if one not in (type(None), msgspec.UnsetType)]
    return real if all(isinstance(one, type) and issubclass(one, msgspec.Struct) for one in real) else real[:1]


def _body(kind: Any, chosen: int = 0) -> dict[str, Any]:
    hints = get_type_hints(kind)
    body = {}
    for field in msgspec.structs.fields(kind):
        kinds = _alternatives(hints[field.name])
        value = _value(kinds[min(chosen, len(kinds) - 1)])
        if len(kinds) > 1:
            value = {"type": kinds[min(chosen, len(kinds) - 1)].__name__} | value
        body[field.encode_name] = not value if value is field.default else value  # a default is not written
    return body


def _value(hint: Any) -> Any:
    if hint in SCALARS:
        return SCALARS[hint]
    if get_origin(hint) in (Union, types.UnionType):
        return _value(_alternatives(hint)[0])
    if get_origin(hint) is tuple:
        return [_value(get_args(hint)[0])]
    if get_origin(hint) is dict:
        return {"key": _value(get_args(hint)[1])}
    if issubclass(hint, enum.Enum):
        return next(iter(hint)).value
    assert issubclass(hint, msgspec.Struct), hint
    return _body(hint)


if __name__ == "__main__":
    new = missing()
    with FORMS.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(form) + "\n" for form in new)
    print(f"{len(new)} forms pinned")
