"""The log beside its broker: looked after so that its database neither grows without end nor keeps what is long past.

Nothing is deleted: what is old is moved into the archive, by a process of its own that works at a low priority and holds the write lock for
moments only. Every command and the broker read both parts as one log (ADR-0017).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import psutil

from relaybroker.adapters.own_programs import own_program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from relaybroker.adapters.eventstore.reader import LogReader
    from relaybroker.config.chosen import Retention

_log = logging.getLogger(__name__)

LOOK_S = 300.0
"""Between two looks."""
LEAST = 5000
"""Events that are worth a move."""
NICE = 10
_DAY_S = 86_400.0


def to_keep(log: LogReader, size: int, policy: Retention, now: float) -> int | None:
    """How many events stay in the database of this size; None = nothing is to be moved."""
    live = log.position - log.archive.last
    by_size = live
    limit = policy.max_database_mb * 2**20
    if limit and size > limit and live:
        by_size = int(live * limit / 2 / size)
    by_age = live - (
        _first_since(log, now - policy.max_age_days * _DAY_S) - log.archive.last - 1 if policy.max_age_days else 0
    )
    keep = max(policy.keep_events, min(by_size, by_age))
    return keep if live - keep >= LEAST else None


def _first_since(log: LogReader, moment: float) -> int:
    """Position of the first event of the database that is not older; behind the last one when all are."""
    low, high = log.archive.last + 1, log.position + 1
    while low < high:
        middle = (low + high) // 2
        records = log.read_at([middle])
        if records and records[0].at < moment:
            low = middle + 1
        else:
            high = middle
    return low


class Archivist:
    """Looks after one log for as long as the broker runs.

    Args:
        log: the journal's reader.
        journal: its database.
        policy: what the operator chose.
        clock: epoch seconds.
    """

    def __init__(self, log: LogReader, journal: Path, policy: Retention, clock: Callable[[], float]) -> None:
        self._log, self._journal, self._policy, self._clock = log, journal, policy, clock

    async def watch(self) -> None:
        """Look now and then; ends with the broker."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except OSError as error:
                _log.warning("the log could not be archived and will be retried: %s", error)

    async def look(self) -> bool:
        """Move what is due; whether anything was."""
        keep = await asyncio.to_thread(self._due)
        if keep is None:
            return False
        name = self._journal.stem.removeprefix("journal-")
        words = ("log", "archive", "--keep", str(keep), "--state-dir", str(self._journal.parent), "--name", name)
        process = await asyncio.create_subprocess_exec(
            *own_program("relaybroker", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            psutil.Process(process.pid).nice(NICE)
            _, said = await process.communicate()
        except BaseException:
            if process.returncode is None:
                process.kill()  # it costs nothing: what is listed is whole, what is not is written anew
            raise
        if process.returncode:
            _log.warning("the log could not be archived: %s", said.decode("utf-8", "replace").strip())
            return False
        _log.info("the oldest part of the log was archived, %d events stay in the database", keep)
        return True

    def _due(self) -> int | None:
        return to_keep(self._log, self._journal.stat().st_size, self._policy, self._clock())
