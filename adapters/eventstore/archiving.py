"""Moving the beginning of a log out of its database into its archive.

Source: spec/architecture.md section 8; ADR-0017.
"""

from __future__ import annotations

import gzip
import itertools
import logging
import os
import sqlite3
from typing import IO, TYPE_CHECKING, NamedTuple

import msgspec

from relaybroker.adapters import private_files
from relaybroker.adapters.eventstore import archive_index, integrity, recorders
from relaybroker.adapters.eventstore.archive import BLOCK_EVENTS, FORMAT, Archive, Line, Listing, Segment
from relaybroker.adapters.eventstore.errors import StateCorrupt
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.adapters.file_lock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from relaybroker.adapters.eventstore.mapper import Mapper

_LOG = logging.getLogger(__name__)

SEGMENT_EVENTS = 500_000
"""Events in one segment at most."""

KEEP_EVENTS = 1000
"""Events that stay in the database at least: what a start checks."""

DELETE_EVENTS = 1000
"""Rows deleted in one transaction."""


class Moved(NamedTuple):
    """What a `move` did."""

    events: int
    """Archived by it."""
    last: int
    """Position of the last archived record now."""
    path: Path
    """Directory of the archive."""


def move(journal: Path, mapper: Mapper, *, keep: int, watch: Callable[[int], None] | None = None) -> Moved:
    """Archive everything but the last `keep` events (at least `KEEP_EVENTS`). Safe beside the broker that writes the log.

    What is moved is listed before it is deleted, so that every reader finds it in one of both; each deletion is one short transaction.

    The whole log is verified on the way; nothing is archived of one that is damaged. `watch` is told how far it is.

    Raises:
        StateCorrupt, CorruptEvent: the log is damaged; nothing was deleted.
        OSError: the archive cannot be written; nothing was deleted.
    """
    integrity.check_before_open(journal, mapper)
    archive = Archive.of(journal)
    recorder = recorders.open_sqlite(journal)
    lock = _only_one(journal)
    try:
        log = LogReader(recorder, mapper, journal)
        log.watch = watch
        until = log.position - max(keep, KEEP_EVENTS)
        recorder.sync()  # an archive never holds what a crash of the machine may take from the log
        before = archive.last
        directory = journal.with_suffix(".archive")
        private_files.make_private_directory(directory)
        while archive.last < until:
            segment = _write(directory, log, archive, min(until, archive.last + SEGMENT_EVENTS))
            archive = Archive(directory, (*archive.segments, segment))
            listing = msgspec.json.format(msgspec.json.encode(Listing(FORMAT, archive.segments)), indent=1)
            private_files.write_private(directory / "archive.json", listing)
        _index(archive, mapper)
        recorder.delete_upto(archive.last, DELETE_EVENTS)
        recorder.checkpoint()
    finally:
        recorder.close()
        lock.release()
    return Moved(archive.last - before, archive.last, directory)


def _only_one(journal: Path) -> FileLock:
    """The lock of who moves; a broker that was killed may have left one at work. Raises LockHeldError."""
    directory = journal.with_suffix(".archive")
    private_files.make_private_directory(directory)
    return FileLock(directory / "moving.lock")


def _index(archive: Archive, mapper: Mapper) -> None:
    """Write the archive's index, which is no part of the log: whoever needs it makes it, if that fails here."""
    if not archive.last:
        return
    try:
        archive_index.ensure(archive, mapper, lambda: archive.directory)
    except (sqlite3.Error, OSError) as error:
        _LOG.warning("the archive has no index yet; the first question makes it: %s", error)


def _write(directory: Path, log: LogReader, archive: Archive, upto: int) -> Segment:
    """A segment of what follows the archive, on disk and read back."""
    path = directory / f"{archive.last + 1:012d}-{upto:012d}.jsonl.gz"
    path.unlink(missing_ok=True)
    private_files.create(path)
    with path.open("r+b") as raw:
        blocks, chain = _copy(log, archive, upto, raw)
        raw.flush()
        os.fsync(raw.fileno())
    private_files.sync_directory(directory)
    segment = Segment(path.name, archive.last + 1, upto, chain.hex(), blocks, BLOCK_EVENTS)
    if _read_back(log.mapper, Archive(directory, (segment,)), archive.chain) != (upto, chain):
        raise StateCorrupt(path, "the segment does not read back as it was written")
    return segment


def _copy(log: LogReader, archive: Archive, upto: int, file: IO[bytes]) -> tuple[tuple[int, ...], bytes]:
    """Write the rows behind the archive up to a position; where each block begins, and the last chain value."""
    chain, blocks = archive.chain, []
    rows = log.rows(archive.last, upto)
    while block := list(itertools.islice(rows, BLOCK_EVENTS)):
        blocks.append(file.tell())
        with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as member:
            for row in block:
                chain = log.mapper.follows(chain, row, row.id)
                line = Line(row.id, str(row.originator_id), row.originator_version, row.topic, msgspec.Raw(row.state))
                member.write(msgspec.json.encode(line) + b"\n")
    return tuple(blocks), chain


def _read_back(mapper: Mapper, written: Archive, chain: bytes) -> tuple[int, bytes]:
    """Position and chain value of the last record of a segment, every link checked."""
    position = 0
    for row in written.rows():
        chain, position = mapper.follows(chain, row, row.id), row.id
    return position, chain
