"""One broker per state directory: an exclusive lock for life, decided by the kernel and by nothing else.

The pid in the file is for people; a dead broker's pid that now belongs to another program changes nothing (F133).
The file is never deleted by us. Somebody else may delete it while we wait or hold it, so after locking the file at
the path must be the file that was locked, else the lock is on a name that the next broker will not find, and it is
taken again.

Source: spec/local-api.md section 4.6.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING, Self

from relaybroker.adapters.eventstore.errors import StateLocked
from relaybroker.adapters.eventstore.private_files import PRIVATE_MODE

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_PID_WAIT_S = 1.0
"""How long to wait for a holder that has locked the file and not yet written its pid."""

_REPLACEMENTS = 100
"""How often the file may be replaced under us before we give up."""


class StateLock:
    """The held lock on `path`, from construction to `release()` or the end of the process.

    Args:
        path: `<state>/broker-<name>.lock`.

    Raises:
        StateLocked: another broker holds it; the text is the one that the CLI matches.
        OSError: the directory cannot be written, or its file system has no locks.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = _acquire(path)

    def mend(self) -> None:
        """Take the lock again under its name, if somebody has removed or replaced the file.

        Raises:
            StateLocked: another broker has done so.
            OSError: it cannot be made now.
        """
        if self._descriptor is not None and not _is_at(self._descriptor, self._path):
            former, self._descriptor = self._descriptor, _acquire(self._path)
            os.close(former)

    def release(self) -> None:
        """Let the next broker in; the file stays. May be repeated."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _acquire(path: Path) -> int:
    for _ in range(_REPLACEMENTS):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_MODE)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StateLocked(_holder(descriptor), path.parent) from error
            if _is_at(descriptor, path):
                os.fchmod(descriptor, PRIVATE_MODE)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise OSError(f"{path} was replaced {_REPLACEMENTS} times while it was being locked")


def _is_at(descriptor: int, path: Path) -> bool:
    locked = os.fstat(descriptor)
    try:
        present = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (locked.st_dev, locked.st_ino) == (present.st_dev, present.st_ino)


def _holder(descriptor: int) -> int:
    """The pid that the holder wrote; 0 when it wrote none in time."""
    deadline = time.monotonic() + _PID_WAIT_S
    while True:
        text = os.pread(descriptor, 32, 0).strip()
        if text.isdigit():
            return int(text)
        if time.monotonic() >= deadline:
            return 0
        time.sleep(0.01)
