"""`--what-if KEY=VALUE`: the operator's choices, changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

import msgspec

from relaybroker.domain.inputs import Settings

KEYS = ("in_doubt", "default_channels", "capabilities", "remote_args", "max_agents", "persist", "token_pinned")
"""What may be asked: the settings that rules look at. Who the node is stays as it was."""
IN_DOUBT = ("ask", "at_least_once", "at_most_once")


class BadPolicyError(Exception):
    """There is no such setting, or it has no such value."""


def changed(pairs: Sequence[str]) -> Callable[[Settings], Settings]:
    """The function that changes settings as the `KEY=VALUE` pairs say.

    Raises:
        BadPolicyError: a pair cannot be used.
    """
    wanted = dict(_read(pair) for pair in pairs)
    return lambda settings: msgspec.structs.replace(settings, **wanted)


def _read(pair: str) -> tuple[str, Any]:
    key, equals, text = pair.partition("=")
    if not equals or key not in KEYS:
        raise BadPolicyError(f"{pair!r} is not a policy: write KEY=VALUE with one of {', '.join(KEYS)}")
    if key == "in_doubt" and text not in IN_DOUBT:
        raise BadPolicyError(f"in_doubt is one of {', '.join(IN_DOUBT)}, not {text!r}")
    hint = get_type_hints(Settings)[key]
    listed = tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return key, msgspec.convert(listed if hint == tuple[str, ...] else text, hint, strict=False)
    except msgspec.ValidationError as error:
        raise BadPolicyError(f"{key}: {error}") from error
