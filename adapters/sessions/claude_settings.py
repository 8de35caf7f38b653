"""Hooks for one start of Claude Code, in `--settings` on its command line: no file of the user changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_OPTION = "--settings"


def has_settings(given: Sequence[str]) -> bool:
    """Whether the command line has settings of its own, beside which Claude Code takes no others."""
    return any(word == _OPTION or word.startswith(f"{_OPTION}=") for word in given)


def hooked(commands: Mapping[str, str], **settings: Any) -> list[str]:
    """The option by which each event runs its shell command."""
    hooks = {event: [{"hooks": [{"type": "command", "command": command}]}] for event, command in commands.items()}
    return [_OPTION, json.dumps(settings | {"hooks": hooks})]
