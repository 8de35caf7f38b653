"""Private files: mode 0600 in directories of mode 0700, replaced as a whole, durable when the call returns.

A file or directory of ours that is found wider than that is narrowed and reported; one that belongs to somebody else,
or that cannot be narrowed, is not used. No file here is reached through a symbolic link on the last part of its path.

Source: spec/node-protocol.md section 1.7; spec/local-api.md section 11.7; invariant I5.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
_OTHERS = 0o077

_log = logging.getLogger(__name__)


class NotPrivateError(OSError):
    """A file or directory that holds secrets belongs to another user, is no plain file, or cannot be narrowed."""


def make_private_directory(path: Path) -> None:
    """Make `path` a directory of ours with mode 0700; missing directories above it are made with 0700 too.

    Raises:
        NotPrivateError: it belongs to another user or cannot be narrowed.
        OSError: it cannot be made.
    """
    missing = []
    directory = path
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for directory in reversed(missing):
        with suppress(FileExistsError):  # another process made it at the same moment
            directory.mkdir(mode=DIRECTORY_MODE)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _narrow(path, descriptor, DIRECTORY_MODE)
    finally:
        os.close(descriptor)


def create(path: Path) -> None:
    """Make `path` an empty file of mode 0600, whatever the umask.

    Raises:
        FileExistsError: there is something at `path`, if only a dangling link.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        os.fchmod(descriptor, FILE_MODE)
    finally:
        os.close(descriptor)


def narrow(path: Path) -> None:
    """Take every right of group and others away from an existing file; a missing one stays missing."""
    try:
        if path.stat().st_mode & 0o077:
            path.chmod(FILE_MODE)
    except FileNotFoundError:
        return


def write_private(path: Path, content: bytes) -> None:
    """Put `content` at `path`, whole: after a crash at any instant there is the old file or the new one, and no third.

    The directory must exist. A writer that is killed in between leaves a temporary file; the next `write_private` of
    the same path removes those of processes that are gone.

    Raises:
        OSError: the disk is full or broken; the old file is still there and no temporary file remains.
    """
    _sweep(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, FILE_MODE)
    try:
        try:
            os.fchmod(descriptor, FILE_MODE)  # a umask may take bits away from us as well
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new private file that takes the place of `path` when everything is written and durable; after an exception nothing has changed.

    Raises:
        OSError: it cannot be made or written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    create(temporary)
    try:
        with temporary.open("r+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def read_private(path: Path) -> bytes:
    """The content of a private file, narrowed to 0600 first if it was wider.

    Raises:
        FileNotFoundError: there is none.
        NotPrivateError: it is not ours, or cannot be narrowed, or is no plain file.
        OSError: it cannot be read.
    """
    with open_plain(path) as file:
        _narrow(path, file.fileno(), FILE_MODE)
        return file.read()


def open_plain(path: Path) -> BinaryIO:
    """A file of ours for reading: never a link on its last part, a pipe, a device or a directory, which would hang or mislead.

    Raises:
        FileNotFoundError: there is none.
        NotPrivateError: there is something else.
        OSError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotPrivateError(f"{path} is a link, not a plain file") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotPrivateError(f"{path} is not a plain file")
    return os.fdopen(descriptor, "rb")


def open_log(path: Path) -> BinaryIO:
    """A file of ours to append to, made with 0600 if it is missing; never through a link, into a pipe, or into somebody else's file.

    Raises:
        NotPrivateError: there is something else.
        OSError: it cannot be written.
    """
    try:
        descriptor = os.open(
            path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, FILE_MODE
        )
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise NotPrivateError(f"{path} is not a plain file") from error
        raise
    file = os.fdopen(descriptor, "ab")
    try:
        require_plain(path)
        _narrow(path, descriptor, FILE_MODE)
    except BaseException:
        file.close()
        raise
    return file


def require_plain(path: Path) -> None:
    """Refuse what a library would open by its name and must not: a link, a pipe, a file of somebody else. A missing one is fine.

    Raises:
        NotPrivateError: there is such a thing.
    """
    with suppress(FileNotFoundError):
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise NotPrivateError(f"{path} is not a plain file of ours")


def read_plain(path: Path) -> bytes:
    """The content of a file of ours; as `open_plain`."""
    with open_plain(path) as file:
        return file.read()


def remove_private(path: Path) -> None:
    """Remove a private file for good; one that is missing is fine."""
    path.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make names created in or renamed into `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _narrow(path: Path, descriptor: int, mode: int) -> None:
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        raise NotPrivateError(f"{path} belongs to user {status.st_uid}, not to us; it is not used")
    if stat.S_IMODE(status.st_mode) & _OTHERS:
        try:
            os.fchmod(descriptor, mode)
        except OSError as error:
            raise NotPrivateError(f"{path} is open to other users and cannot be narrowed: {error}") from error
        _log.warning("%s was open to other users (mode %o); narrowed to %o", path, stat.S_IMODE(status.st_mode), mode)


def _sweep(path: Path) -> None:
    """Remove what writers of `path` left behind that were killed in the middle."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        pid = leftover.name.removeprefix(f".{path.name}.").split(".")[0]
        if pid.isdigit() and not _alive(int(pid)):
            leftover.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
