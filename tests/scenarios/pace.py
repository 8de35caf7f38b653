"""A count of the seconds in which a test has run, in a file that the broker under test reads: see `fast_broker.py`."""

from __future__ import annotations

import asyncio
import mmap
import struct
import time
from functools import cache
from pathlib import Path

STEP_S = 0.03
"""What a process can be away and still count as running."""
_SECONDS = struct.Struct("d")


@cache
def _mapped(path: Path) -> mmap.mmap:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), _SECONDS.size)


def read_pulse(path: Path) -> float:
    """The seconds counted so far."""
    return float(_SECONDS.unpack_from(_mapped(path))[0])


def prepare(path: Path) -> None:
    """Make the file; nothing is counted yet."""
    path.write_bytes(_SECONDS.pack(0.0))


async def count(path: Path) -> None:
    """Count until cancelled. A moment in which this process got no processor counts for little."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), _SECONDS.size) as seconds:
        ran, seen = read_pulse(path), time.monotonic()
        while True:
            await asyncio.sleep(0.004)
            now = time.monotonic()
            ran, seen = ran + min(now - seen, STEP_S), now
            _SECONDS.pack_into(seconds, 0, ran)
