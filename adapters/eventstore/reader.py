"""Reading the log in order, with every link of its hash chain checked on the way.

What a caller gets has been verified from the record it started behind; a broken link raises at its position, so
nothing is folded from a damaged log. The archived beginning of a log is read like the rest. Memory
is bounded by the page size; each page is one short read transaction, so
a reader never holds back the writer's checkpoints for longer than a page.

Source: design/architecture.md section 4; failure-scenarios.md F132, F134.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from eventsourcing.persistence import (
    ApplicationRecorder,
    ConnectionPoolClosedError,
    Notification,
    OperationalError,
    StoredEvent,
)

from relaybroker.adapters.eventstore.archive import Archive
from relaybroker.adapters.eventstore.errors import JournalClosed, StateCorrupt
from relaybroker.adapters.eventstore.mapper import Mapper, split_state
from relaybroker.adapters.eventstore.recorders import (
    DATABASE_ERRORS,
    JournalRecorder,
    ReadOnlyRecorder,
    is_damage,
    open_reader,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from sqlite3 import Row

    from relaybroker.adapters.eventstore.recorders import Parameters
    from relaybroker.domain.events import Event, Recorded

PAGE = 1000
"""Rows per read transaction."""

_Answer = TypeVar("_Answer")

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
        self.archive = Archive.of(path) if path is not None else Archive(Path(), ())

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        registry: Mapping[str, type[Event]],
        upcasters: Mapping[str, Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]],
    ) -> Self:
        """Read the database at `path` from outside its broker, whether that runs, was stopped or was killed.

        Raises:
            FileNotFoundError: there is no database.
        """
        return cls(open_reader(path), Mapper(registry, upcasters), path)

    @property
    def position(self) -> int:
        """Position of the last record; 0 for an empty log."""
        return self._ask(lambda recorder: recorder.max_notification_id() or 0) or self.archive.last

    def rows(self, after: int = 0, upto: int | None = None, page: int = PAGE) -> Iterator[Notification]:
        """Stored rows with `after < id <= upto` in log order, as they are, unverified; archived ones first.

        Raises:
            StateCorrupt: the database file is damaged there.
        """
        if after < self.archive.last:
            yield from self.archive.rows(after, upto)
            after = self.archive.last
        while upto is None or after < upto:
            found = self._select(after, page, upto)
            yield from found
            if len(found) < page:
                return
            after = found[-1].id

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
        """Records of `stream` with `after < version <= upto` that are in the database, oldest first, of these the `newest` only.

        Each one is readable, its links are not checked (that needs the whole log).

        Raises:
            CorruptEvent, UnknownTopic, StateCorrupt: as for `read`; the position is not known here (0).
        """
        rows: Sequence[StoredEvent] = self._ask(
            lambda recorder: recorder.select_events(stream, gt=after, lte=upto, desc=newest is not None, limit=newest)
        )
        found = [self.mapper.to_recorded(row, 0) for row in rows]
        return found if newest is None else found[::-1]

    def read_at(self, positions: Iterable[int]) -> list[Recorded]:
        """The records at these positions, as far as there are such; as for `read_stream`."""
        rows = [row for position in positions for row in self.rows(position - 1, position, page=1)]
        return [self.mapper.to_recorded(row, row.id) for row in rows]

    def query(self, statement: str, parameters: Parameters = ()) -> list[Row]:
        """The rows that a SELECT over the table and views of the database finds (`lookup`), archived ones not among them.

        Not for a log in memory.

        Raises:
            StateCorrupt: the database file is damaged there.
        """

        def ask(recorder: ApplicationRecorder) -> list[Row]:
            assert isinstance(recorder, JournalRecorder)
            return recorder.query(statement, parameters)

        return self._ask(ask)

    def chain_at(self, position: int) -> bytes | None:
        """Chain value of the record at `position` (`GENESIS` for 0); None when there is none."""
        if position == self.archive.last:
            return self.archive.chain
        row = next(self.rows(position - 1, position), None)
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

    def _select(self, after: int, limit: int, upto: int | None) -> Sequence[Notification]:
        return self._ask(lambda recorder: recorder.select_notifications(after, limit, upto, inclusive_of_start=False))

    def _ask(self, question: Callable[[ApplicationRecorder], _Answer]) -> _Answer:
        for _ in range(_ATTEMPTS):
            if self._has_moved():
                self._reopen()
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
            if not self._has_moved():
                return answer
        raise OperationalError(f"brokers started or stopped during {_ATTEMPTS} attempts to read {self.path}")

    def _has_moved(self) -> bool:
        return isinstance(self.recorder, ReadOnlyRecorder) and not self.recorder.is_current()

    def _reopen(self) -> None:
        assert isinstance(self.recorder, ReadOnlyRecorder)
        assert self.path is not None
        self.recorder.close()
        self.recorder = open_reader(self.path)
