"""The beginning of a log, moved out of its database into compressed JSON lines beside it.

A log with an archive is still one log: records up to a position are in the archive, those behind it in the database,
and whoever reads from the beginning reads both, with every link of the hash chain checked across the seam. So the
archive is not a copy that may be thrown away; without it, the log is damaged and refused.

`journal-NAME.archive/` holds segments (`000000000001-000000500000.jsonl.gz`, a line per record, the record's state byte for
byte) and `archive.json`, the list of the segments with the chain value behind each. A segment that is not in the list is
the leftover of a killed `move`, and is written anew. `move` is killed safely at any moment: a segment is on disk and was
read back before it is listed, it is listed before a row is deleted, and rows that are in both places are read from the
archive. The next `move` deletes what is left (`archiving`).

Source: spec/architecture.md section 8; ADR-0017.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Self

import msgspec
from eventsourcing.persistence import Notification

from relaybroker.adapters.eventstore.errors import StateCorrupt
from relaybroker.adapters.eventstore.mapper import GENESIS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT = 1


class Segment(msgspec.Struct, frozen=True):
    """One file of the archive: records `first` to `last`, and the chain value (hex) of the last one."""

    file: str
    first: int
    last: int
    chain: str


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


class Archive:
    """The archived part of one log, for reading.

    Args:
        directory: `journal-NAME.archive`.
        segments: oldest first, without gaps.
    """

    def __init__(self, directory: Path, segments: tuple[Segment, ...]) -> None:
        self._directory = directory
        self.segments = segments

    @classmethod
    def of(cls, journal: Path) -> Self:
        """The archive of a journal's database; without segments when there is none.

        Raises:
            StateCorrupt: its list is damaged.
        """
        directory = journal.with_suffix(".archive")
        try:
            listing = msgspec.json.decode((directory / "archive.json").read_bytes(), type=Listing)
        except FileNotFoundError:
            return cls(directory, ())
        except msgspec.MsgspecError as error:
            raise StateCorrupt(directory / "archive.json", str(error)) from error
        ends = [0, *(segment.last for segment in listing.segments)]
        follows = all(segment.first == end + 1 for segment, end in zip(listing.segments, ends, strict=False))
        if listing.format != FORMAT or not follows:
            raise StateCorrupt(directory / "archive.json", "it is of another format, or has a gap")
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

    def _lines(self, segment: Segment) -> Iterator[Notification]:
        path = self._directory / segment.file
        try:
            with gzip.open(path, "rb") as file:
                for text in file:
                    line = _DECODER.decode(text)
                    yield Notification(
                        id=line.position,
                        originator_id=line.stream,
                        originator_version=line.version,
                        topic=line.topic,
                        state=bytes(line.state),
                    )
        except (OSError, EOFError, msgspec.MsgspecError) as error:
            raise StateCorrupt(path, f"the archived part of the log cannot be read: {error}") from error


_DECODER = msgspec.json.Decoder(Line)
