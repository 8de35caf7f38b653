"""Why a broker of a state directory ended by itself, for whoever asks when it is gone. A broker that starts takes it away.

Source: spec/local-api.md section 4.6.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import msgspec

from relaybroker.adapters.private_files import read_private, remove_private, write_private
from relaybroker.domain.decoding import NOT_READABLE

_NAME = "ended.json"
_MAX = 2000


class LastWords(msgspec.Struct, frozen=True):
    """When it ended (epoch seconds), and why."""

    at: float
    why: str


def leave(state: Path, why: str) -> None:
    """Say why this broker ends, as far as the disk takes it."""
    with suppress(OSError):
        write_private(state / _NAME, msgspec.json.encode(LastWords(time.time(), why[:_MAX])))


def take_away(state: Path) -> None:
    """A broker runs here again."""
    with suppress(OSError):
        remove_private(state / _NAME)


def read(state: Path) -> LastWords | None:
    """What the last broker said, if it ended by itself."""
    try:
        return msgspec.json.decode(read_private(state / _NAME), type=LastWords)
    except (OSError, *NOT_READABLE):
        return None
