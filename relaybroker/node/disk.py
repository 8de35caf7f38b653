"""The disk of the log: what is left on it, and that nothing new is taken on before the log itself suffers.

A log that cannot be written stops the broker (fail-stop). So that it comes to that as late as possible, a nearly full disk is said, and on
a full or read-only one nothing new is accepted: spawns, sends and acts of agents are refused, and messages and actions of the engine are
not read, which keeps them there. What is under way goes on, the link comes online, and releases, flushes and a stop are still done. With
room again everything goes on by itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

_log = logging.getLogger(__name__)

LOOK_S = 5.0
FULL_BYTES = 64 * 2**20
"""With less nothing new is accepted: what is under way still fits many times over. On a small disk: with less than a twentieth of it."""
FULL_SHARE = 0.05
LEAST_BYTES = 2**20
"""With less nothing new is accepted on any disk."""
NEARLY_FULL_BYTES = 2**30

Grade = Literal["ok", "nearly_full", "full", "unwritable"]


class Room(NamedTuple):
    """How the disk is."""

    grade: Grade
    free: int

    @property
    def takes_more(self) -> bool:
        """Whether anything new may be accepted."""
        return self.grade in ("ok", "nearly_full")


def look_at(directory: Path) -> Room:
    """How the disk of a directory is."""
    file_system = os.statvfs(directory)
    free = file_system.f_bavail * file_system.f_frsize
    if file_system.f_flag & os.ST_RDONLY or not os.access(directory, os.W_OK):
        return Room("unwritable", free)
    size = file_system.f_blocks * file_system.f_frsize
    if free < min(FULL_BYTES, max(LEAST_BYTES, FULL_SHARE * size)):
        return Room("full", free)
    return Room("nearly_full" if free < NEARLY_FULL_BYTES else "ok", free)


class Disk:
    """Looks after the disk of one broker.

    Args:
        directory: of its log.
        look: how it is now.
    """

    def __init__(self, directory: Path, look: Callable[[Path], Room] = look_at) -> None:
        self._directory, self._look = directory, look
        self.room = look(directory)
        self._open = asyncio.Event()
        self._take(self.room)

    async def watch(self) -> None:
        """Look now and then; ends with the broker."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Look once."""
        try:
            room = await asyncio.to_thread(self._look, self._directory)
        except OSError as error:
            _log.warning("the disk of %s cannot be looked at: %s", self._directory, error)
            return
        if room.grade != self.room.grade:
            level = logging.INFO if room.grade == "ok" else logging.ERROR
            _log.log(
                level, "the disk of the log is %s, %d MiB are free", room.grade.replace("_", " "), room.free // 2**20
            )
        self._take(room)

    async def wait(self) -> None:
        """Returns when something new may be accepted."""
        await self._open.wait()

    def _take(self, room: Room) -> None:
        self.room = room
        if room.takes_more:
            self._open.set()
        else:
            self._open.clear()
