"""The beginning of a log, moved out of its database into compressed JSON lines beside it.

A log with an archive is still one log: records up to a position are in the archive, those behind it in the database,
and whoever reads from the beginning reads both, with every link of the hash chain checked across the seam. So the
archive is not a copy that may be thrown away; without it, the log is damaged and refused.

`journal-NAME.archive/` holds segments (`000000000001-000000500000.jsonl.gz`, a line per record, the record's state byte for
byte) and `archive.json`, the list of the segments with the chain value behind each. A segment is a row of gzip members of
`BLOCK_EVENTS` lines each, and the list says where each begins, so that a record is read without those before it (in a
segment of an older version all lines are one member). `index.sqlite` says which records to read (`archive_index`); it is
made from the segments and may be thrown away. A segment that is not in the list is
the leftover of a killed `move`, and is written anew. `move` is killed safely at any moment: a segment is on disk and was
read back before it is listed, it is listed before a row is deleted, and rows that are in both places are read from the
archive. The next `move` deletes what is left (`archiving`).

Source: spec/architecture.md section 8; ADR-0017, ADR-0046.
"""

from __future__ import annotations

import gzip
import itertools
import re
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Self

import msgspec
from eventsourcing.persistence import Notification

from relaybroker.adapters.eventstore.errors import StateCorrupt
from relaybroker.adapters.eventstore.mapper import GENESIS
from relaybroker.adapters.private_files import open_plain, read_plain
from relaybroker.domain.decoding import NOT_READABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

FORMAT = 1

BLOCK_EVENTS = 200
"""Records in one member of a segment: what is decompressed for one of them (about 100 kB)."""

BLOCKS_KEPT = 16
"""Blocks that stay decompressed, for a story whose records are close together."""


LINE_BYTES = 64 * 1024 * 1024
"""The longest record that is read: a segment that is not ours may be anything."""

_SEGMENT_FILE = re.compile(r"[0-9]{12}-[0-9]{12}\.jsonl\.gz")
_CHAIN = re.compile(r"(?:[0-9a-f]{2})+")


class Segment(msgspec.Struct, frozen=True):
    """One file of the archive: records `first` to `last`, and the chain value (hex) of the last one."""

    file: str
    first: int
    last: int
    chain: str
    blocks: tuple[int, ...] = ()
    """Where each block begins in the file, in bytes; () = the whole segment is one block."""
    block_events: int = 0
    """Records in each block but the last."""


class Listing(msgspec.Struct, frozen=True):
    """`archive.json`."""

    format: int
    segments: tuple[Segment, ...]


class Line(msgspec.Struct, frozen=True):
    """A record as a line; `state` is what the database held, byte for byte."""

    position: int
    stream: str
    version: int
    topic: str
    state: msgspec.Raw


def listing_of(journal: Path) -> tuple[int, ...]:
    """Which list of segments this is, without reading it; () = there is none. A new one is another file."""
    try:
        status = (journal.with_suffix(".archive") / "archive.json").stat()
    except FileNotFoundError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


class Archive:
    """The archived part of one log, for reading.

    Args:
        directory: `journal-NAME.archive`.
        segments: oldest first, without gaps.
    """

    def __init__(self, directory: Path, segments: tuple[Segment, ...]) -> None:
        self.directory = directory
        self.segments = segments
        self._block = lru_cache(BLOCKS_KEPT)(self._read_block)

    @classmethod
    def of(cls, journal: Path) -> Self:
        """The archive of a journal's database; without segments when there is none.

        Raises:
            StateCorrupt: its list is damaged.
        """
        directory = journal.with_suffix(".archive")
        try:
            listing = msgspec.json.decode(read_plain(directory / "archive.json"), type=Listing)
        except FileNotFoundError:
            return cls(directory, ())
        except (OSError, *NOT_READABLE) as error:
            raise StateCorrupt(directory / "archive.json", str(error)) from error
        ends = [0, *(segment.last for segment in listing.segments)]
        follows = all(segment.first == end + 1 for segment, end in zip(listing.segments, ends, strict=False))
        if listing.format != FORMAT or not follows:
            raise StateCorrupt(directory / "archive.json", "it is of another format, or has a gap")
        if not all(
            _SEGMENT_FILE.fullmatch(segment.file) and _CHAIN.fullmatch(segment.chain) for segment in listing.segments
        ):
            raise StateCorrupt(directory / "archive.json", "it names what is no segment")
        return cls(directory, listing.segments)

    @property
    def last(self) -> int:
        """Position of the last archived record; 0 = nothing is archived."""
        return self.segments[-1].last if self.segments else 0

    @property
    def chain(self) -> bytes:
        """Chain value of the last archived record."""
        return bytes.fromhex(self.segments[-1].chain) if self.segments else GENESIS

    def rows(self, after: int = 0, upto: int | None = None) -> Iterator[Notification]:
        """Archived rows with `after < position <= upto` as they were stored, in order.

        Raises:
            StateCorrupt: a segment is missing or damaged.
        """
        for segment in self.segments:
            if segment.last <= after:
                continue
            if upto is not None and segment.first > upto:
                return
            for row in self._lines(segment):
                if row.id > after and (upto is None or row.id <= upto):
                    yield row

    def pick(self, positions: Iterable[int]) -> Iterator[Notification]:
        """The archived rows at these positions, as far as there are such, in the order asked; only their blocks are read.

        Raises:
            StateCorrupt: a segment is missing or damaged.
        """
        for position in positions:
            for segment in self.segments:
                if segment.first <= position <= segment.last:
                    yield self._pick(segment, position)

    def _pick(self, segment: Segment, position: int) -> Notification:
        path = self.directory / segment.file
        place = position - segment.first
        try:
            if segment.block_events:
                number, line = divmod(place, segment.block_events)
                text = self._block(segment, number)[line]
            else:
                with open_plain(path) as packed, gzip.open(packed, "rb") as file:
                    text = next(itertools.islice(file, place, None))
            row = _row(text)
        except (OSError, EOFError, IndexError, StopIteration, zlib.error, *NOT_READABLE) as error:
            raise StateCorrupt(path, f"the archived part of the log cannot be read: {error!r}") from error
        if row.id != position:
            raise StateCorrupt(path, f"position {row.id} is where {position} must be")
        return row

    def _read_block(self, segment: Segment, number: int) -> list[bytes]:
        """The lines of one block."""
        begin, *end = segment.blocks[number : number + 2]
        with open_plain(self.directory / segment.file) as file:
            file.seek(begin)
            packed = file.read(end[0] - begin if end else -1)
        return gzip.decompress(packed).splitlines(keepends=True)

    def _lines(self, segment: Segment) -> Iterator[Notification]:
        path = self.directory / segment.file
        expected = segment.first
        try:
            with open_plain(path) as packed, gzip.open(packed, "rb") as file:
                while text := file.readline(LINE_BYTES):
                    row = _row(text)
                    if row.id != expected:
                        raise StateCorrupt(path, f"position {row.id} is where {expected} must be")
                    yield row
                    expected += 1
        except (OSError, EOFError, zlib.error, *NOT_READABLE) as error:
            raise StateCorrupt(path, f"the archived part of the log cannot be read: {error}") from error
        if expected != segment.last + 1:
            raise StateCorrupt(path, f"it ends before position {expected}; its last must be {segment.last}")


def _row(text: bytes) -> Notification:
    line = _DECODER.decode(text)
    return Notification(
        id=line.position,
        originator_id=line.stream,
        originator_version=line.version,
        topic=line.topic,
        state=bytes(line.state),
    )


_DECODER = msgspec.json.Decoder(Line)
