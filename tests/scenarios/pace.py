"""A count of the seconds in which a test has run, in a file that the broker under test reads: see `fast_broker.py`."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import time
from functools import cache
from pathlib import Path

STEP_S = 0.03
"""What a process can be away and still count as running."""


def _mapped(path: Path) -> ctypes.c_double:
    """The number in the file: read and written by one instruction each (`struct.pack_into` writes zeroes first, for all to see)."""
    with path.open("r+b") as file:
        return ctypes.c_double.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(ctypes.c_double)))


_kept = cache(_mapped)


def read_pulse(path: Path) -> float:
    """The seconds counted so far."""
    return _kept(path).value


def prepare(path: Path) -> None:
    """Make the file; nothing is counted yet."""
    path.write_bytes(bytes(ctypes.c_double(0.0)))


async def count(path: Path) -> None:
    """Count until cancelled. A moment in which this process got no processor counts for little."""
    seconds, seen = _mapped(path), time.monotonic()
    while True:
        await asyncio.sleep(0.004)
        now = time.monotonic()
        seconds.value += min(now - seen, STEP_S)
        seen = now
