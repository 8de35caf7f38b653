"""Is this log what was written? Asked in full by `log verify`, and before every start as far as it can be afforded.

What is checked when:

* While reading (`LogReader.read`): every record and link that a fold uses. Nothing is ever folded unverified.
* Before every start (`check_before_open`), on a read-only opening, so that a refusal leaves every byte as it was:
  header, schema, that the log reaches its high-water mark, and its last records. A database of up to
  `FULL_CHECK_BYTES` is checked whole besides: SQLite's `integrity_check`, every link of the hash chain. A larger one
  is checked whole by `log verify` only, because recovery time must not grow with history; the part that a start
  folds is verified by reading it.
* `verify`: everything, and it goes on after the first finding. What is derived from the log is compared with it when the
  log itself is whole.

A torn tail (a writer killed in the middle of a commit) is not damage: SQLite's WAL checksums end the log at the last
whole commit, and the mark tells that apart from a log that lost commits (F132). Nothing here repairs (F134,
KEEP-BYTES).

Source: design/architecture.md section 4; failure-scenarios.md F132, F134, B12.
"""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from relaybroker.adapters.eventstore import archive_index, earlier_events, mark
from relaybroker.adapters.eventstore.errors import CorruptEvent, StateCorrupt, UnknownTopic
from relaybroker.adapters.eventstore.mapper import GENESIS, Mapper, split_state
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.adapters.eventstore.recorders import (
    DATABASE_ERRORS,
    JournalRecorder,
    has_pending_wal,
    is_damage,
    open_reader,
    side_file,
)

if TYPE_CHECKING:
    from pathlib import Path

_LOG = logging.getLogger(__name__)

FULL_CHECK_BYTES = 64 * 1024 * 1024
"""Databases up to this size are checked whole at every start: under a second (0.41 s for 42 MB)."""

TAIL_RECORDS = 1000
"""Last records whose links are checked at the start of a larger database."""

MAX_FINDINGS = 1000
"""`verify` stops here."""

_HEADER_LENGTH = 20
_HEADER_MAGIC = b"SQLite format 3\x00"
_WAL_FORMAT = b"\x02\x02"  # bytes 18 and 19: written and read through a WAL


class Finding(NamedTuple):
    """One thing that is wrong with a log."""

    position: int
    """Place in the log; 0 = the database as a whole."""
    stream: str
    kind: str
    """`database` · `mark` · `chain` · `undecodable` · `unknown_topic` · `version` · `index` · `too_many`."""
    detail: str


def verify(reader: LogReader) -> list[Finding]:
    """Everything that is wrong with the log, in log order; empty = the log is what was written.

    Memory grows with the number of streams; time with the log (about 6 s for 1,000,000 records).
    """
    findings = _database_findings(reader)
    findings += _mark_findings(reader)
    previous: bytes | None = GENESIS
    versions: dict[str, int] = {}
    try:
        for row in reader.rows():
            stream = str(row.originator_id)
            try:
                previous = reader.mapper.follows(previous, row, row.id)
            except CorruptEvent as error:
                findings.append(Finding(row.id, stream, "chain", error.reason))
                previous = _own_chain(row.state)
            try:
                reader.mapper.to_recorded(row, row.id)
            except UnknownTopic as error:
                findings.append(Finding(row.id, stream, "unknown_topic", error.topic))
            except CorruptEvent as error:
                findings.append(Finding(row.id, stream, "undecodable", error.reason))
            if row.originator_version <= versions.get(stream, 0):
                detail = f"version {row.originator_version} after version {versions[stream]}"
                findings.append(Finding(row.id, stream, "version", detail))
            versions[stream] = row.originator_version
            if len(findings) >= MAX_FINDINGS:
                return [*findings, Finding(row.id, "", "too_many", f"stopped after {MAX_FINDINGS} findings")]
    except StateCorrupt as error:
        findings.append(Finding(0, "", "database", error.detail))
    return findings or _derived_findings(reader)


def _derived_findings(reader: LogReader) -> list[Finding]:
    """Copies of earlier forms, and records in the archive's index, that are not what was written."""
    findings = []
    if isinstance(reader.recorder, JournalRecorder):
        with reader.recorder.datastore.transaction(commit=False) as cursor:
            copies = islice(earlier_events.differing(cursor), MAX_FINDINGS)
            findings = [Finding(at, stream, "index", "its copy in today's form differs") for at, stream in copies]
    if reader.archive.last:
        index = islice(archive_index.differing(reader.archive_index(), reader.archive, reader.mapper), MAX_FINDINGS)
        findings += [
            Finding(at, stream, "index", f"{archive_index.FILE} of the archive differs") for at, stream in index
        ]
    return findings


def check_before_open(path: Path, mapper: Mapper) -> None:
    """Refuse a database that is damaged or has lost its end, before anything is opened for writing.

    Call it in the process that is going to write, before it opens the database, while holding the state lock.

    Raises:
        StateCorrupt: what is wrong and where.
        CorruptEvent: a record or link is damaged.
    """
    _check_header(path)
    reader = LogReader(open_reader(path), mapper, path)
    try:
        whole = path.stat().st_size <= FULL_CHECK_BYTES
        if whole:
            for finding in _database_findings(reader):
                raise StateCorrupt(path, finding.detail)
        reader.require_beginning()
        last = reader.position
        _set_unreadable_mark_aside(path)
        for finding in _mark_findings(reader):
            raise StateCorrupt(path, finding.detail)
        after = reader.archive.last if whole else max(reader.archive.last, last - TAIL_RECORDS)
        previous = reader.chain_at(after)
        for row in reader.rows(after):
            previous = mapper.follows(previous, row, row.id)
    except DATABASE_ERRORS as error:
        if is_damage(error):
            raise StateCorrupt(path, str(error)) from error
        raise
    finally:
        reader.close()


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        header = file.read(_HEADER_LENGTH)
    if len(header) < _HEADER_LENGTH or not header.startswith(_HEADER_MAGIC):
        raise StateCorrupt(path, "the file does not begin like a database")
    if header[18:20] != _WAL_FORMAT and not has_pending_wal(path):
        raise StateCorrupt(path, "the file does not say that it is written through a WAL")


def _database_findings(reader: LogReader) -> list[Finding]:
    """What SQLite itself finds wrong with the file, and a table that is not the one we made."""
    recorder = reader.recorder
    if not isinstance(recorder, JournalRecorder):
        return []
    try:
        with recorder.datastore.transaction(commit=False) as cursor:
            cursor.execute(
                "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (recorder.events_table_name,)
            )
            row = cursor.fetchone()
            wanted = recorder.create_table_statements[0].replace("IF NOT EXISTS ", "")
            if row is None or row[0] != wanted:
                return [Finding(0, "", "database", "the events table is missing or has other columns")]
            cursor.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
            if foreign := sorted(str(trigger[0]) for trigger in cursor.fetchall()):
                return [Finding(0, "", "database", f"somebody else's triggers are in it: {', '.join(foreign)}")]
            cursor.execute(f"PRAGMA integrity_check({MAX_FINDINGS})")
            answers = [str(row[0]) for row in cursor.fetchall()]
    except DATABASE_ERRORS as error:
        if not is_damage(error):
            raise
        answers = [str(error)]
    return [Finding(0, "", "database", answer) for answer in answers if answer != "ok"]


def _mark_findings(reader: LogReader) -> list[Finding]:
    """Whether the log still holds what was durable when its mark was last moved."""
    if reader.path is None:
        return []
    try:
        # Read before the log is asked for its end, so that a broker at work cannot make the mark look ahead.
        reached = mark.read(side_file(reader.path, ".mark"))
    except mark.UnreadableMark as error:
        return [Finding(0, "", "mark", str(error))]
    if reached is None:
        return []
    last = reader.position
    if last < reached.position:
        detail = f"the log ends at position {last}, but position {reached.position} had been made durable"
        return [Finding(last, "", "mark", detail)]
    if reader.chain_at(reached.position) != reached.chain:
        detail = f"the record at position {reached.position} is not the one that was made durable"
        return [Finding(reached.position, "", "mark", detail)]
    return []


def _set_unreadable_mark_aside(path: Path) -> None:
    """A mark torn by a power cut says nothing; it is kept under another name, loudly."""
    file = side_file(path, ".mark")
    try:
        mark.read(file)
    except mark.UnreadableMark as error:
        aside = side_file(path, ".mark.damaged")
        file.replace(aside)
        _LOG.warning("%s; set aside as %s", error, aside.name)


def _own_chain(state: bytes) -> bytes | None:
    try:
        return split_state(state)[1]
    except (ValueError, TypeError, AttributeError):
        return None
