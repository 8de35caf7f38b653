"""Whether the files of an open database are still where everybody looks for them, and putting them back.

A database that is removed while it is open goes on working, and nobody will ever read what is written to it. So its files are looked
at while it is written, and when it is closed a copy of what its writer sees is put in the place of what is missing: no record is lost.
Whatever somebody else has put there meanwhile is kept beside it.

Source: F134, KEEP-BYTES.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from relaybroker.adapters import private_files
from relaybroker.adapters.eventstore.recorders import side_file

if TYPE_CHECKING:
    from pathlib import Path

    from relaybroker.adapters.eventstore.recorders import JournalRecorder

_LOG = logging.getLogger(__name__)
_SUFFIXES = {"": "the database", "-wal": "the WAL", ".mark": "the mark"}


class Presence:
    """The files of the database at `path`, as they are when they are first seen: make this when it has been opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = {suffix: _identity(side_file(path, suffix)) for suffix in _SUFFIXES}

    def missing(self) -> str:
        """Which file is not there any more, or is another one; "" when all are."""
        for suffix, what in _SUFFIXES.items():
            known, present = self._known[suffix], _identity(side_file(self._path, suffix))
            if known is None:
                self._known[suffix] = present
            elif present != known:
                return what
        return ""

    def put_back(self, recorder: JournalRecorder) -> None:
        """Put a copy of what the recorder sees at the path.

        Raises:
            OSError: the directory is gone or the disk is full; nothing was changed.
        """
        copy = side_file(self._path, f".copy-{os.getpid()}")
        copy.unlink(missing_ok=True)
        recorder.copy_to(copy)
        for suffix in ("", "-wal", "-shm"):
            place = side_file(self._path, suffix)
            if (identity := _identity(place)) is not None and identity != self._known.get(suffix):
                place.rename(side_file(place, f".foreign-{int(time.time())}"))
        copy.replace(self._path)
        for suffix in ("-wal", "-shm"):
            side_file(self._path, suffix).unlink(missing_ok=True)
        private_files.sync_directory(self._path.parent)
        _LOG.critical("the log was put back whole at %s", self._path)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
