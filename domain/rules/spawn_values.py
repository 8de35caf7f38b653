"""Which values a spawn may carry into a command line or to the engine, whoever asks: denied unless it matches.

A value that begins with a dash would be read as an option by some programs (`gemini --model --yolo`).
Source: spec/local-api.md section 3.1; ADR-0018.
"""

from __future__ import annotations

import re

from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import SpawnSpec

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+\[\]-]{0,127}")
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_values(spec: SpawnSpec) -> None:
    """Check what is neither name nor command.

    Raises:
        InvalidRequest: `invalid_model`, or `invalid_field` with the field.
    """
    _check(_MODEL, spec.model, "model", "invalid_model")
    _check(_SESSION, spec.session_ref, "session_id", "invalid_field")
    for channel in spec.channels:
        _check(_CHANNEL, channel.strip().removeprefix("#"), "channels", "invalid_field")


def _check(pattern: re.Pattern[str], value: str, field: str, code: str) -> None:
    if value and not pattern.fullmatch(value):
        raise InvalidRequest(
            Refusal.INVALID, code, f"{field} holds characters that are not allowed, or is too long", field=field
        )
