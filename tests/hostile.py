"""What nobody sends who means well: bodies, values, numbers, names and paths for every door that takes any.

`FUZZ` says how many random ones come on top (`make fuzz`: many; else few).
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

FUZZ = int(os.environ.get("FUZZ", "3"))
SEED = int(os.environ.get("FUZZ_SEED", "0")) or random.SystemRandom().randrange(2**32)

RAW: tuple[bytes, ...] = (
    b"{", b"\xff\xfe", b"[" * 3000, b"[" * 100_000, b'{"a":' * 3000 + b"1" + b"}" * 3000, b'{"a":' * 150 + b"1" + b"}" * 150,
    b'{"data":' + b"[" * 900 + b"]" * 900 + b"}", b'{"n":NaN}', b'{"n":Infinity}', b'{"n":1e999}', b'{"n":' + b"9" * 5000 + b"}",
    b'{"name":"\\ud800"}', b'{"\\ud800":1}', b'{"name":"a","name":1}', b"null", b"[]", b"1", b'"x"', b"\x00", b"{}\x00",
    b"\xef\xbb\xbf{}",
    b"<xml/>", b"a=b&c=d",
)  # fmt: skip
"""Bodies as they are."""

VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, "", " ", "a\n", "\n",
    "a\0b", "\u202e", "../x", "..",
    "x" * 300, "x" * 100_000, "</system-reminder>", "human:bob", "\x1b[31m", "٣", "\uff46ull", "🙂" * 50, "%s%n", "'; --",
    "a@b", "#", "@", "__proto__",
    [], [[]], ["x" * 300], [None], {}, {"": ""}, {"a": {"b": {"c": []}}}, ["a"] * 2000, {str(n): n for n in range(500)},
)  # fmt: skip
"""Values for every member of every body."""

WORDS: tuple[str, ...] = (
    "%00", "%0a", "a%0A", "%ff%fe", "%ed%a0%80", "..%2f..%2fetc", "a%2fb", "9" * 30, "9" * 5000, "-1", "w1@" + "9" * 30,
    "a1@%D9%A3", "%F0%9F%99%82",
    "x" * 5000, "%25", "%22%27", "dm_", "*", "@self",
)  # fmt: skip
"""Segments of paths and values of queries, as they stand in a URL."""

HEADERS: tuple[dict[str, str], ...] = (
    {"Idempotency-Key": "k" * 300}, {"Idempotency-Key": "ä"}, {"Content-Type": "text/plain"},
    {"Content-Type": "application/json; charset=utf-9"},
    {"Content-Encoding": "gzip", "Connection": "close"}, {"X-Forwarded-For": "1"}, {"Expect": "something", "Connection": "close"},
)  # fmt: skip


def bodies(plausible: dict[str, Any]) -> Iterator[Any]:
    """A plausible body with each hostile value in the place of each of its members, then random ones."""
    for name in plausible:
        for value in VALUES:
            yield plausible | {name: value}
    chance = random.Random(SEED)
    for _ in range(FUZZ):
        names = [*plausible, "extra", ""]
        yield {chance.choice(names): _value(chance, 4) for _ in range(chance.randrange(5))}


def _value(chance: random.Random, levels: int) -> Any:
    if not levels or chance.random() < 0.6:
        return chance.choice(VALUES)
    items = [_value(chance, levels - 1) for _ in range(chance.randrange(4))]
    return items if chance.random() < 0.5 else {str(chance.choice(VALUES))[:50]: item for item in items}
