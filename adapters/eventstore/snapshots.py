"""The newest snapshot of the whole state: one file beside the log that shortens recovery and can always be thrown away.

A snapshot is used only if it is whole, of this format, and provably about this very log: the log holds, at the
snapshot's position, the record with the snapshot's chain value. Otherwise it is ignored with a logged reason and
recovery folds from 0. It is never upcast: another version of the program says so in `payload_version` and folds
instead.

Format: magic (8), format version (2), payload version (4), position (8), chain (16), payload length (8), all big
endian; blake2b-128 (16) of these fields and the payload; payload.

Source: design/architecture.md section 4.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from typing import TYPE_CHECKING, NamedTuple, Protocol

from relaybroker.adapters import private_files

if TYPE_CHECKING:
    from pathlib import Path

_LOG = logging.getLogger(__name__)

FORMAT_VERSION = 1
_MAGIC = b"RBSNAP\r\n"
_HEADER = struct.Struct(">8sHIQ16sQ")
_CHECKSUM_BYTES = 16
_PAYLOAD_START = _HEADER.size + _CHECKSUM_BYTES


class Chained(Protocol):
    """A log that can say which chain value a position has (`Journal`, `LogReader`)."""

    def chain_at(self, position: int) -> bytes | None:
        """Chain value (16 bytes) of the record at `position`, None when there is no such record."""


class Snapshot(NamedTuple):
    """State after the record at `position`, as bytes."""

    position: int
    payload: bytes


class SnapshotFile:
    """The snapshot beside one database.

    Args:
        path: the snapshot file, `side_file(database, ".snapshot")`.
        payload_version: of the payload's meaning (0 to 2**32-1); a snapshot with another one is not loaded.
    """

    def __init__(self, path: Path, *, payload_version: int) -> None:
        self._path = path
        self._payload_version = payload_version

    def save(self, log: Chained, snapshot: Snapshot) -> None:
        """Replace the snapshot, durably and atomically, mode 0600. Blocks for an fsync.

        Raises:
            ValueError: the log has no record at that position.
            OSError: it could not be written; the old one is still there.
        """
        chain = log.chain_at(snapshot.position)
        if chain is None:
            raise ValueError(f"the log has no record at position {snapshot.position}")
        header = _HEADER.pack(
            _MAGIC, FORMAT_VERSION, self._payload_version, snapshot.position, chain, len(snapshot.payload)
        )
        checksum = _checksum(header, snapshot.payload)
        private_files.write_private(self._path, header + checksum + snapshot.payload)

    def load(self, log: Chained) -> Snapshot | None:
        """The snapshot, if it can be trusted for `log`; else None, and the reason is logged."""
        try:
            content = private_files.read_plain(self._path)
        except FileNotFoundError:
            _LOG.info("no snapshot: recovery folds the whole log")
            return None
        try:
            return self._checked(content, log)
        except _Unusable as reason:
            _LOG.warning("snapshot %s is not used, recovery folds the whole log: %s", self._path.name, reason)
            return None

    def _checked(self, content: bytes, log: Chained) -> Snapshot:
        if len(content) < _PAYLOAD_START:
            raise _Unusable("it is cut off in its header")
        header, payload = content[: _HEADER.size], content[_PAYLOAD_START:]
        magic, format_version, payload_version, position, chain, length = _HEADER.unpack(header)
        if magic != _MAGIC:
            raise _Unusable("it is not a snapshot")
        if format_version != FORMAT_VERSION:
            raise _Unusable(f"it has format {format_version}, this is {FORMAT_VERSION}")
        if len(payload) != length:
            raise _Unusable(f"it is cut off: {len(payload)} of {length} bytes")
        if content[_HEADER.size : _PAYLOAD_START] != _checksum(header, payload):
            raise _Unusable("its checksum is wrong")
        if payload_version != self._payload_version:
            raise _Unusable(f"its state has version {payload_version}, this program's {self._payload_version}")
        recorded = log.chain_at(position)
        if recorded is None:
            raise _Unusable(f"the log has no record at its position {position}")
        if recorded != chain:
            raise _Unusable(f"the log has another record at its position {position}")
        return Snapshot(position, payload)


class _Unusable(Exception):  # noqa: N818 - says what the snapshot is
    """Why a snapshot is not used."""


def _checksum(header: bytes, payload: bytes) -> bytes:
    digest = hashlib.blake2b(header, digest_size=_CHECKSUM_BYTES)
    digest.update(payload)
    return digest.digest()
