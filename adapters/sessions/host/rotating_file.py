"""An append-only file of bounded size: when it is full it becomes `.1`, `.1` becomes `.2`, and so on.

Source: node-protocol.md 6.1 (10 MiB x 3); local-api.md 11.7 (0600, no symbolic link followed).
"""

from __future__ import annotations

import os
from pathlib import Path

MAX_BYTES = 10 * 1024 * 1024
KEPT_FILES = 3


class RotatingFile:
    """Owner-only log; at most `kept` files of `max_bytes` each. Raises OSError when it cannot be opened or written."""

    def __init__(self, path: str, *, max_bytes: int = MAX_BYTES, kept: int = KEPT_FILES) -> None:
        self._path = Path(path)
        self._max_bytes = max_bytes
        self._kept = kept
        self._fd, self._size = self._open()

    def fileno(self) -> int:
        return self._fd

    def become(self, descriptor: int) -> None:
        """Write through `descriptor` (2: standard error) from now on, also after a rotation."""
        os.dup2(self._fd, descriptor)
        os.close(self._fd)
        self._fd = descriptor

    def write(self, data: bytes) -> None:
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
        os.write(self._fd, data)
        self._size += len(data)

    def close(self) -> None:
        os.close(self._fd)

    def _open(self) -> tuple[int, int]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        return descriptor, os.fstat(descriptor).st_size

    def _rotate(self) -> None:
        for number in range(self._kept - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            if newer.exists():
                newer.replace(older)
        descriptor, self._size = self._open()
        os.dup2(descriptor, self._fd, inheritable=False)
        os.close(descriptor)
