"""Files that only we can read and that are whole or absent: mode 0600, atomic, durable when the call returns."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_MODE = 0o600


def create(path: Path) -> None:
    """Make `path` an empty file of mode 0600, whatever the umask.

    Raises:
        FileExistsError: there is something at `path`, if only a dangling link.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_MODE)
    try:
        os.fchmod(descriptor, PRIVATE_MODE)
    finally:
        os.close(descriptor)


def narrow(path: Path) -> None:
    """Take every right of group and others away from an existing file; a missing one stays missing."""
    try:
        if path.stat().st_mode & 0o077:
            path.chmod(PRIVATE_MODE)
    except FileNotFoundError:
        return


def replace(path: Path, content: bytes) -> None:
    """Put `content` at `path`: after a crash at any instant there is the old file or the new one, never a mixture.

    Raises:
        OSError: the disk is full or broken; the old file is still there.
    """
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    create(temporary)
    with temporary.open("r+b") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make names created in or renamed into `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
