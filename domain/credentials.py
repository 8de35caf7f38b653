"""What is named like a credential, in values that come from outside our types.

Names decide, because values show nothing: whatever a member named `agent_token` or `OPENAI_API_KEY` holds is taken for a secret, and so is
the whole environment of a program to be started. Numbers and flags are left: a type that changed would be another value to its reader.

Source: invariant I7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NAMES = frozenset({"authorization", "credential", "credentials", "apikey", "env", "environment"})
"""Members whose values are secrets, in lower case, with underscores for hyphens."""
ENDINGS = (
    "token",
    "api_key",
    "apikey",
    "access_key",
    "private_key",
    "workspace_key",
    "secret",
    "password",
    "passwd",
    "passphrase",
)
"""How the names of all others end."""
FINGERPRINT = "sha256:"
"""How the fingerprint begins that stands for a token."""


def is_name(name: object) -> bool:
    """Whether a member of this name holds a secret."""
    plain = str(name).lower().replace("-", "_")
    return plain in NAMES or plain.endswith(ENDINGS)


def replaced(value: Any, replace: Callable[[str], str], depth: int) -> Any:
    """The value with every secret text in it replaced; what is nested deeper than `depth` becomes None.

    Below a member that is named like a credential every text is one: `{"credentials": {"user": ..., "code": ...}}`.
    """
    return _replaced(value, replace, depth, is_secret=False)


def _replaced(value: Any, replace: Callable[[str], str], depth: int, *, is_secret: bool) -> Any:
    if isinstance(value, str):
        return replace(value) if is_secret else value
    if not isinstance(value, dict | list):
        return value
    if not depth:
        return None
    if isinstance(value, list):
        return [_replaced(one, replace, depth - 1, is_secret=is_secret) for one in value]
    return {
        name: _replaced(one, replace, depth - 1, is_secret=is_secret or is_name(name)) for name, one in value.items()
    }
