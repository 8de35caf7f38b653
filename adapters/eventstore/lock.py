"""One broker per state directory: a lock held for life (`relaybroker.adapters.file_lock`), refused in the words that the CLI matches.

Source: spec/local-api.md section 4.6.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from relaybroker.adapters.eventstore.errors import StateLocked
from relaybroker.adapters.file_lock import FileLock, LockHeldError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StateLock(FileLock):
    """The held lock on `<state>/broker-<name>.lock`.

    Raises:
        StateLocked: another broker holds it; so does `mend` if it has taken it meanwhile.
        OSError: the directory cannot be written, or its file system has no locks.
    """

    def __init__(self, path: Path) -> None:
        with state_locked(path.parent):
            super().__init__(path)

    def mend(self) -> None:
        """Take the lock again under its name, if somebody has removed or replaced the file."""
        with state_locked(self._path.parent):
            super().mend()


@contextmanager
def state_locked(directory: Path) -> Iterator[None]:
    """A held lock is `StateLocked` in here."""
    try:
        yield
    except LockHeldError as error:
        raise StateLocked(error.pid, directory) from error
