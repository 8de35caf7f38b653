"""Which values a spawn may carry into a command line or to the engine, whoever asks: denied unless it matches.

A value that begins with a dash would be read as an option by some programs (`gemini --model --yolo`).
Source: spec/local-api.md section 3.1; ADR-0018.
"""

from __future__ import annotations

import re

from relaybroker.domain.doors import check_doors
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import SpawnSpec
from relaybroker.domain.sessions import SESSION

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+\[\]-]{0,127}")
_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_values(spec: SpawnSpec) -> None:
    """Check what is neither name nor command.

    Raises:
        InvalidRequest: `invalid_model`, `invalid_door`, or `invalid_field` with the field.
    """
    _check(_MODEL, spec.model, "model", "invalid_model")
    _check(SESSION, spec.session_ref, "session_id", "invalid_field")
    check_doors(spec.doors or ())
    if spec.exit_after_task:
        _check_one_task(spec)
    for channel in spec.channels:
        _check(_CHANNEL, channel.strip().removeprefix("#"), "channels", "invalid_field")


def _check_one_task(spec: SpawnSpec) -> None:
    """An agent for one task has a task, can be seen to be idle, and is not started again without it."""
    why = ""
    if not spec.opening.strip():
        why = "there is no task"
    elif spec.idle_threshold_s <= 0:
        why = "with idle_threshold_secs 0 nobody sees that its program is idle"
    elif spec.restart is not None:
        why = "a program that is started again does not get its task again; omit restart_policy"
    if why:
        text = f"an agent cannot exit after its task: {why}"
        raise InvalidRequest(Refusal.INVALID, "invalid_field", text, field="exit_after_task")


def _check(pattern: re.Pattern[str], value: str, field: str, code: str) -> None:
    if value and not pattern.fullmatch(value):
        raise InvalidRequest(
            Refusal.INVALID, code, f"{field} holds characters that are not allowed, or is too long", field=field
        )
