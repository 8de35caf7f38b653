"""The high-water mark: how far the log was durable, so that a log that lost its end cannot pass for a whole one.

SQLite recovers a damaged or missing WAL by forgetting everything from the damage on, without a word. After each
fsync of its log the journal overwrites `<db>.mark` with the position and chain value it reached. The mark
is not fsynced, so it may be older than the log, but it is never ahead of what was durable: a log that ends before
its mark, or has another record there, has lost or changed records.

The open mark is locked, too: whoever writes a log holds its mark, even if the state directory's lock file was removed meanwhile.

Format: magic (8), position (8, big endian), chain (16), blake2b-128 of these (16); 48 bytes, written with one `pwrite`.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

from relaybroker.adapters import private_files
from relaybroker.adapters.eventstore.lock import state_locked
from relaybroker.adapters.file_lock import lock_open_file

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"RBMARK1\n"
_FIELDS = struct.Struct(">8sQ16s")
_CHECKSUM_BYTES = 16
LENGTH = _FIELDS.size + _CHECKSUM_BYTES


class Mark(NamedTuple):
    """A place in the log: position and the chain value of the record there."""

    position: int
    chain: bytes


class UnreadableMark(ValueError):  # noqa: N818 - says what the mark is
    """The mark file is there and is not a mark."""


def read(path: Path) -> Mark | None:
    """The mark at `path`; None when there is none.

    Raises:
        UnreadableMark: it is cut off or damaged.
    """
    try:
        content = private_files.read_plain(path)
    except FileNotFoundError:
        return None
    if not content:
        return None  # created, and the process died before the first commit
    fields, checksum = content[: _FIELDS.size], content[_FIELDS.size :]
    if len(content) != LENGTH or checksum != _checksum(fields):
        raise UnreadableMark(f"{path.name} is not a mark")
    magic, position, chain = _FIELDS.unpack(fields)
    if magic != _MAGIC:
        raise UnreadableMark(f"{path.name} is not a mark of this format")
    return Mark(position, chain)


class MarkWriter:
    """Holds the mark file open and locked, and moves the mark.

    Raises:
        StateLocked: another process writes this log.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            private_files.create(path)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            with state_locked(path.parent):
                lock_open_file(self._descriptor, path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def move(self, mark: Mark) -> None:
        """Overwrite the mark; survives a kill of this process, and a power cut as an older or unreadable one."""
        fields = _FIELDS.pack(_MAGIC, mark.position, mark.chain)
        os.pwrite(self._descriptor, fields + _checksum(fields), 0)

    def close(self) -> None:
        """Make the mark durable and let go of the file."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)


def _checksum(fields: bytes) -> bytes:
    return hashlib.blake2b(fields, digest_size=_CHECKSUM_BYTES).digest()
