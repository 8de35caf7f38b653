"""The address of a Unix socket at a path of any length.

Source: spec/local-api.md section 11.12.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAX_SUN_PATH = 100
"""Bytes of an address that every system takes."""


@cache
def address_of(path: Path) -> str:
    """What to connect to for a socket at this path. A long one is reached through its directory, which then stays open for good.

    Raises:
        OSError: the directory cannot be opened.
    """
    if len(os.fsencode(path)) <= MAX_SUN_PATH:
        return str(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{descriptor}/{path.name}"
