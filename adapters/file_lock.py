"""The one way to lock a file: exclusively, decided by the kernel and by nothing else, gone with the process that holds it.

A pid in a lock file is for people; a dead holder's pid that now belongs to another program changes nothing (F133). We never delete a
lock file. Somebody else may, while we wait for the lock or hold it: so after locking, the file at the path must be the file that was
locked, else the lock is on a name that the next one will not find, and it is taken again.

* `FileLock` is held as long as the holder likes, and refused at once to everybody else.
* `exclusive_lock` is waited for, and held for a few steps.
* `lock_open_file` locks a file that has a content of its own.

Source: spec/local-api.md section 4.6.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_MODE = 0o600
_PID_WAIT_S = 1.0
"""How long to wait for a holder that has locked the file and not yet written its pid."""

_REPLACEMENTS = 100
"""How often the file may be replaced under us before we give up."""


class LockHeldError(OSError):
    """Another process holds the lock; `pid` is its process id, 0 if that is not known."""

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__(f"{path} is locked by another process{f' (pid {pid})' if pid else ''}")
        self.path = path
        self.pid = pid


class FileLock:
    """The held lock on `path`, from construction to `release()` or the end of the process; the file holds the pid of its holder.

    Raises:
        LockHeldError: another process holds it.
        OSError: the directory cannot be written, or its file system has no locks.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = _take_and_sign(path)

    def mend(self) -> None:
        """Take the lock again under its name, if somebody has removed or replaced the file.

        Raises:
            LockHeldError: another process has done so.
            OSError: it cannot be made now.
        """
        if self._descriptor is not None and not _is_at(self._descriptor, self._path):
            former, self._descriptor = self._descriptor, _take_and_sign(self._path)
            os.close(former)

    def release(self) -> None:
        """Let the next one in; the file stays. May be repeated."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock on `path` for the length of the block, which must be short; waits until it is free."""
    descriptor = _take(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def lock_open_file(descriptor: int, path: Path) -> None:
    """Lock the file that is open as `descriptor`, until it is closed; its content is left alone.

    Raises:
        LockHeldError: another process holds it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LockHeldError(path, _holder_by_inode(os.fstat(descriptor).st_ino)) from error


def _take_and_sign(path: Path) -> int:
    descriptor = _take(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        os.fchmod(descriptor, _MODE)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _take(path: Path, operation: int) -> int:
    for _ in range(_REPLACEMENTS):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
        try:
            fcntl.flock(descriptor, operation)
            if _is_at(descriptor, path):
                return descriptor
        except BlockingIOError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise LockHeldError(path, holder) from error
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


def _holder_by_inode(inode: int) -> int:
    """Process id of whoever has locked a file, where the system tells it; else 0."""
    try:
        lines = Path("/proc/locks").read_text("ascii").splitlines()
    except OSError:
        return 0
    holders = (
        fields[4] for line in lines if (fields := line.split())[1] == "FLOCK" and fields[5].endswith(f":{inode}")
    )
    return next((int(holder) for holder in holders if holder.isdigit()), 0)
