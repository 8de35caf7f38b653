"""The command line of an agent: split by shell rules, never run through a shell, nothing added that nobody asked for.

Source: spec/local-api.md section 5.3; spec/node-protocol.md section 6.1.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from domain.errors import InvalidRequest

_RENAMED = {"cursor": "cursor-agent"}


def command_line(cli: str, args: Iterable[str]) -> tuple[str, ...]:
    """Program and arguments of `cli` (which may hold inline arguments) followed by `args`.

    Raises:
        InvalidRequest: 400 `invalid_field`, if `cli` is blank, badly quoted, or holds a NUL.
    """
    try:
        words = shlex.split(cli)
    except ValueError as error:
        raise InvalidRequest(400, "invalid_field", f"cli cannot be split: {error}", field="cli") from error
    if not words or not words[0]:
        raise InvalidRequest(400, "invalid_field", "cli is blank", field="cli")
    words += list(args)
    if any("\x00" in word for word in words):
        raise InvalidRequest(400, "invalid_field", "cli and args must not hold NUL", field="cli")
    if words[0] in _RENAMED:
        words[0] = _RENAMED[words[0]]
        if words[1:2] == ["agent"]:
            del words[1]
    return tuple(words)
