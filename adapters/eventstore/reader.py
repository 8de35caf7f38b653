"""Reading the log in order, with every link of its hash chain checked on the way.

What a caller gets has been verified from the record it started behind; a broken link raises at its position, so
nothing is folded from a damaged log. The archived beginning of a log is read like the rest. Memory
is bounded by the page size; each page is one short read transaction, so
a reader never holds back the writer's checkpoints for longer than a page.

Source: design/architecture.md section 4; failure-scenarios.md F132, F134.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Self, TypeVar

from eventsourcing.persistence import (
    ApplicationRecorder,
    ConnectionPoolClosedError,
    Notification,
    OperationalError,
    StoredEvent,
)

from relaybroker.adapters.eventstore import archive_index
from relaybroker.adapters.eventstore.archive import Archive, listing_of
from relaybroker.adapters.eventstore.errors import JournalClosed, StateCorrupt
from relaybroker.adapters.eventstore.lookup import LOG
from relaybroker.adapters.eventstore.mapper import GENESIS, Mapper, split_state
from relaybroker.adapters.eventstore.recorders import (
    DATABASE_ERRORS,
    JournalRecorder,
    ReadOnlyRecorder,
    is_damage,
    open_reader,
)
from relaybroker.adapters.eventstore.scope import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from sqlite3 import Row

    from relaybroker.adapters.eventstore.recorders import Parameters
    from relaybroker.domain.events import Recorded, Registry

PAGE = 1000
"""Rows per read transaction."""

_Answer = TypeVar("_Answer")

LAST_POSITION = 2**63 - 1
"""No position and no number of a message is behind it: the largest number that the database keeps."""

_ATTEMPTS = 5
"""How often one page is asked for when a broker starts or stops meanwhile."""


class LogReader:
    """One log, readable from any thread.

    Args:
        recorder: where the rows are.
        mapper: how they are read.
        path: the database file, None for a log in memory.
    """

    def __init__(self, recorder: ApplicationRecorder, mapper: Mapper, path: Path | None) -> None:
        self.recorder = recorder
        self.mapper = mapper
        self.path = path
        self._listing = listing_of(path) if path is not None else ()
        self.archive = Archive.of(path) if path is not None else Archive(Path(), ())
        self._scope: Scope | None = None
        self._making_scope = Lock()
        self._own_index: TemporaryDirectory[str] | None = None
        self.watch: Callable[[int], None] | None = None
        """Told, while the log is read in order, up to which position; None = nobody asks."""

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        registry: Registry,
    ) -> Self:
        """Read the database at `path` from outside its broker, whether that runs, was stopped or was killed.

        Raises:
            FileNotFoundError: there is no database.
            StateCorrupt: its beginning is missing.
        """
        looking = cls(open_reader(path), Mapper(registry), path)
        try:
            looking.require_beginning()
        finally:
            looking.close()  # a reader that has not been asked yet keeps no broker from tidying up after itself
        return cls(open_reader(path), Mapper(registry), path)

    def require_beginning(self) -> None:
        """Refuse a database whose beginning was archived and whose archive is not there.

        Raises:
            StateCorrupt: there are records in front of the database's first one, and nobody has them.
        """
        if self.path is None or not (first := self._select(0, 1, None)) or first[0].id <= self.archive.last + 1:
            return
        self.archive = Archive.of(self.path)  # `log archive` may be at work
        if first[0].id > self.archive.last + 1:
            raise StateCorrupt(
                self.path, f"it begins at position {first[0].id}, and the archive of what came before is missing"
            )

    @property
    def position(self) -> int:
        """Position of the last record; 0 for an empty log."""
        return self._ask(lambda recorder: recorder.max_notification_id() or 0) or self.archive.last

    def rows(self, after: int = 0, upto: int | None = None, page: int = PAGE) -> Iterator[Notification]:
        """Stored rows with `after < id <= upto` in log order, as they are, unverified; archived ones first.

        Raises:
            StateCorrupt: the database file is damaged there.
        """
        while upto is None or after < upto:
            if after < self.archive.last:
                for row in self.archive.rows(after, upto):
                    yield row
                    if self.watch is not None and not row.id % PAGE:
                        self.watch(row.id)
                after = self.archive.last
                continue
            page_rows = self._select(after, page, upto)
            if after < self.archive.last:
                continue  # they were moved into the archive meanwhile
            yield from page_rows
            if self.watch is not None and page_rows:
                self.watch(page_rows[-1].id)
            if len(page_rows) < page:
                return
            after = page_rows[-1].id

    def read(self, after: int = 0, upto: int | None = None, page: int = PAGE) -> Iterator[tuple[int, Recorded]]:
        """(position, record) with `after < position <= upto` in log order; `upto` None = all there is.

        Raises:
            CorruptEvent: a record or its link is damaged; everything before it was yielded.
            UnknownTopic: a record is of a newer version or foreign.
            StateCorrupt: the database file is damaged there.
        """
        previous = self.chain_at(after)
        for row in self.rows(after, upto, page):
            previous = self.mapper.follows(previous, row, row.id)
            yield row.id, self.mapper.to_recorded(row, row.id)

    def read_stream(
        self, stream: str, *, after: int = 0, upto: int | None = None, newest: int | None = None
    ) -> list[Recorded]:
        """Records of `stream` with `after < version <= upto`, oldest first, of these the `newest` only.

        Each one is readable, its links are not checked (that needs the whole log).

        Raises:
            CorruptEvent, UnknownTopic, StateCorrupt: as for `read`; the position may not be known here (0).
        """
        if self.archive.last:
            return self.read_at(self._positions(stream, after, upto, newest))
        rows: Sequence[StoredEvent] = self._ask(
            lambda recorder: recorder.select_events(stream, gt=after, lte=upto, desc=newest is not None, limit=newest)
        )
        records = [self.mapper.to_recorded(row, 0) for row in rows]
        return records if newest is None else records[::-1]

    def read_at(self, positions: Iterable[int]) -> list[Recorded]:
        """The records at these positions, as far as there are such; as for `read_stream`."""
        return [self.mapper.to_recorded(row, row.id) for position in positions for row in self._row(position)]

    def _row(self, position: int) -> Iterable[Notification]:
        if position <= self.archive.last:
            return self.archive.pick([position])
        return self._select(position - 1, 1, position)

    def _positions(self, stream: str, after: int, upto: int | None, newest: int | None) -> list[int]:
        """Of a stream's records, oldest first."""
        rows = self.query(
            f"SELECT position FROM {LOG} WHERE originator_id = ? AND originator_version > ? AND originator_version <= ? "  # noqa: S608
            f"ORDER BY originator_version {'ASC' if newest is None else 'DESC'} LIMIT ?",
            (stream, after, LAST_POSITION if upto is None else upto, -1 if newest is None else newest),
        )
        return sorted(row["position"] for row in rows)

    def query(self, statement: str, parameters: Parameters = ()) -> list[Row]:
        """The rows that a SELECT over the views of the whole log finds (`lookup`), archived records among them.

        Not for a log in memory. The first question may have to make the archive's index or copies of earlier forms (`scope`).

        Raises:
            StateCorrupt: the database file, or the archive, is damaged there.
        """

        def ask(recorder: ApplicationRecorder) -> list[Row]:
            assert isinstance(recorder, JournalRecorder)
            return recorder.query(statement, parameters, self._whole())

        return self._ask(ask)

    def _whole(self) -> Scope:
        with self._making_scope:
            if self._scope is None:
                last = self.archive.last
                index = archive_index.ensure(self.archive, self.mapper, self._elsewhere) if last else ""
                self._scope = Scope(str(index), last)
            return self._scope

    def archive_index(self) -> Path:
        """The file of the archive's index, made when it is missing; for a log with an archive."""
        return Path(self._whole().index_file)

    def _elsewhere(self) -> Path:
        if self._own_index is None:
            self._own_index = TemporaryDirectory(prefix="relaybroker-index-")
        return Path(self._own_index.name)

    def chain_at(self, position: int) -> bytes | None:
        """Chain value of the record at `position` (`GENESIS` for 0); None when there is none."""
        if position == 0:
            return GENESIS
        if position == self.archive.last:
            return self.archive.chain
        row = next(iter(self._row(position)), None)
        if row is None:
            return None
        try:
            return split_state(row.state)[1]
        except (ValueError, TypeError, AttributeError):
            return None

    def close(self) -> None:
        """Let go of the database."""
        if isinstance(self.recorder, ReadOnlyRecorder):
            self.recorder.close()
        if self._own_index is not None:
            self._own_index.cleanup()
            self._own_index = None

    def _select(self, after: int, limit: int, upto: int | None) -> Sequence[Notification]:
        return self._ask(lambda recorder: recorder.select_notifications(after, limit, upto, inclusive_of_start=False))

    def _ask(self, question: Callable[[ApplicationRecorder], _Answer]) -> _Answer:
        for _ in range(_ATTEMPTS):
            if self._has_moved():
                self._reopen()
            elif self._is_archived_further():
                self._read_archive()
            try:
                answer = question(self.recorder)
            except ConnectionPoolClosedError as error:
                raise JournalClosed("the log is closed") from error
            except DATABASE_ERRORS as error:
                if self._has_moved():
                    continue
                if is_damage(error) and self.path is not None:
                    raise StateCorrupt(self.path, str(error)) from error
                raise
            if not self._has_moved() and not self._is_archived_further():
                return answer
        raise OperationalError(f"brokers started or stopped during {_ATTEMPTS} attempts to read {self.path}")

    def _is_archived_further(self) -> bool:
        """Whether events were moved into the archive since it was read; a broker does so beside its work."""
        return self.path is not None and listing_of(self.path) != self._listing

    def _read_archive(self) -> None:
        assert self.path is not None
        self._listing = listing_of(self.path)
        self.archive = Archive.of(self.path)
        self._scope = None

    def _has_moved(self) -> bool:
        return isinstance(self.recorder, ReadOnlyRecorder) and not self.recorder.is_current()

    def _reopen(self) -> None:
        assert isinstance(self.recorder, ReadOnlyRecorder)
        assert self.path is not None
        self.recorder.close()
        self.recorder = open_reader(self.path)
        self._read_archive()
