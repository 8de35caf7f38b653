"""The files by which a running broker is known and in which it writes: looked after while it runs.

Cleaners of temporary directories, a careless `rm`, a second program: what they remove is put back where that can be done (lock,
connection files). Where it cannot (the log), the broker stops: what it would write from then on, nobody would find.

Source: spec/local-api.md section 4.6.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from relaybroker.adapters.eventstore.errors import LogRemoved, StateLocked
from relaybroker.config import connection_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from relaybroker.adapters.eventstore.journal import Journal
    from relaybroker.adapters.eventstore.lock import StateLock
    from relaybroker.config.connection_file import Connection

_log = logging.getLogger(__name__)

CHECK_S = 5.0
"""Between two looks."""
LOST_CHECKS = 3
"""A lock that another broker holds for so many looks in turn is lost. (One that is starting lets go of it at once.)"""


class OwnFiles:
    """What one broker looks after.

    Args:
        lock: of its state directory.
        journal: open.
        fail: called once, with the reason, when the broker must stop.
    """

    def __init__(self, lock: StateLock, journal: Journal, fail: Callable[[BaseException], None]) -> None:
        self._lock = lock
        self._journal = journal
        self._fail = fail
        self._published: tuple[Connection, tuple[Path, ...]] | None = None

    def publish(self, connection: Connection, paths: tuple[Path, ...]) -> None:
        """Write the connection files, and keep them there."""
        connection_file.publish(connection, paths)
        self._published = connection, paths

    def withdraw(self) -> None:
        """Remove the connection files that are still ours."""
        if self._published is not None:
            connection, paths = self._published
            self._published = None
            connection_file.withdraw(connection, paths)

    async def watch(self) -> None:
        """Look after the files until the task is cancelled or the broker must stop."""
        lost = 0
        while lost < LOST_CHECKS:
            await asyncio.sleep(CHECK_S)
            try:
                await asyncio.to_thread(self._look)
            except LogRemoved as error:
                self._fail(error)
                return
            except StateLocked as error:
                lost += 1
                if lost == LOST_CHECKS:
                    self._fail(error)
            except OSError as error:
                _log.warning("a file of the broker cannot be put back now: %s", error)
            else:
                lost = 0

    def _look(self) -> None:
        self._journal.check_presence()
        self._lock.mend()
        if self._published is not None:
            connection, paths = self._published
            if missing := [path for path in paths if not path.exists()]:
                _log.warning("put back: %s", ", ".join(path.name for path in missing))
                connection_file.publish(connection, missing)
