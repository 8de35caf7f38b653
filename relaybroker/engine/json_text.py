"""JSON from outside, refused where a database or another JSON reader could not take it.

Source: RFC 8259 sections 6 and 8.1.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MAX_DEPTH = 100
"""Levels of a value: what is stored here can be read by every reader of this machine."""
MAX_WHOLE = 2**63 - 1
"""The largest number that the database keeps."""


def strict_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: not JSON, not UTF-8, nested too deeply, a lone surrogate, a number that is none (NaN, Infinity, 1e999)
            or a whole one of more than 64 bits.
    """
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_integer)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if _deeper_than(value, MAX_DEPTH):
        raise ValueError("nested too deeply")
    escape = b"\\ud" if isinstance(text, bytes) else "\\ud"
    if escape in text.lower():  # type: ignore[operator] # both are of one kind
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    return value


def whole(text: str) -> int:
    """The number that these digits spell.

    Raises:
        ValueError: anything but ASCII digits, or more than `MAX_WHOLE`.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_WHOLE)) and int(text) <= MAX_WHOLE):
        raise ValueError("not a whole number of 64 bits")
    return int(text)


def _deeper_than(value: Any, depth: int) -> bool:
    level = _containers([value])
    for _ in range(depth):
        if not level:
            return False
        level = [item for container in level for item in _containers(container)]
    return bool(level)


def _containers(container: dict[str, Any] | list[Any]) -> list[dict[str, Any] | list[Any]]:
    return [
        item
        for item in (container.values() if isinstance(container, dict) else container)
        if isinstance(item, dict | list)
    ]


def _integer(digits: str) -> int:
    number = int(digits)
    if not -MAX_WHOLE - 1 <= number <= 2 * MAX_WHOLE + 1:
        raise ValueError("a whole number is larger than 64 bits")
    return number


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is too large")
    return number
