"""The journal as the core's records meet it: encoded, chained, committed in groups after a while, and cut by a crash.

Records go through the real `Mapper`, so what is recovered is what can be stored. A group is what one fsync makes durable. A real journal
keeps a group whole; this one may also be cut between any two records of it, which is harsher (recovery from every position: S20).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from eventsourcing.persistence import StoredEvent

from relaybroker.adapters.eventstore.mapper import GENESIS, Mapper
from relaybroker.domain import fold, state
from relaybroker.domain.effects import Effect
from relaybroker.domain.events import REGISTRY, Recorded
from relaybroker.domain.state import State
from relaybroker.testing.simulation.timeline import Timeline


class Row(NamedTuple):
    """One stored record and its chain value."""

    stored: StoredEvent
    chain: bytes


class Batch(NamedTuple):
    """What one round of the core decided."""

    rows: list[Row]
    events: Sequence[Recorded]
    effects: Sequence[Effect]


class Owner(Protocol):
    """Whoever is told what has become durable."""

    def committed(self, group: Sequence[Batch]) -> None:
        """Every record of these batches is durable."""

    def cut(self, kept: int) -> None:
        """The log has reached `stop_at` inside the commit under way, of which `kept` records survive."""


class Disk:
    """An append-only log with a writer that takes its time.

    Args:
        timeline: time.
        fsync_s: how long the next commit takes.
        snapshot_every: records between two snapshots.
        keeps_all: whether records before the newest snapshot are kept (a long run would not fit into memory).
    """

    def __init__(
        self, timeline: Timeline, fsync_s: Callable[[], float], *, snapshot_every: int = 2000, keeps_all: bool = True
    ) -> None:
        self._timeline = timeline
        self._fsync_s = fsync_s
        self._mapper = Mapper(REGISTRY)
        self._snapshot_every = snapshot_every
        self._keeps_all = keeps_all
        self.rows: list[Row] = []
        """Durable records after `base`, oldest first."""
        self.base = 0
        """Records that were dropped because a snapshot covers them."""
        self.snapshot: tuple[int, bytes] | None = None
        self.owner: Owner | None = None
        self.stop_at: int | None = None
        """The process dies as soon as this many records are durable."""
        self.encoded_bytes = 0
        self._chain = self._durable_chain = GENESIS
        self._writing: list[Batch] = []
        self._waiting: list[Batch] = []
        self._process = 0
        """Counts crashes: a commit of a former process is void."""

    @property
    def position(self) -> int:
        """How many records are durable."""
        return self.base + len(self.rows)

    @property
    def chain(self) -> bytes:
        """Chain value of the last durable record."""
        return self._durable_chain

    @property
    def is_idle(self) -> bool:
        """Whether everything that was appended is durable."""
        return not self._writing

    @property
    def unsynced(self) -> list[Row]:
        """Records that are appended and not durable."""
        return [row for batch in (*self._writing, *self._waiting) for row in batch.rows]

    def append(self, events: Sequence[Recorded], effects: Sequence[Effect]) -> None:
        """Queue a round; its owner hears when it is durable."""
        rows = []
        for recorded in events:
            stored, self._chain = self._mapper.to_stored(recorded, self._chain)
            self.encoded_bytes += len(stored.state)
            rows.append(Row(stored, self._chain))
        self._waiting.append(Batch(rows, events, effects))
        if not self._writing:
            self._begin()

    def keep_snapshot(self, now: State) -> None:
        """Keep the state once everything in it is durable and enough has happened since the last time."""
        last = self.snapshot[0] if self.snapshot else 0
        if now.position != self.position or now.position < last + self._snapshot_every:
            return
        self.snapshot = (now.position, state.encode(now))
        if not self._keeps_all:
            self.rows, self.base = [], self.position

    @property
    def in_commit(self) -> int:
        """How many records the commit under way holds."""
        return sum(len(batch.rows) for batch in self._writing)

    def crash(self, kept: int) -> tuple[list[Recorded], int]:
        """The process is gone. The first `kept` records of the commit under way survive: these, and how many were lost."""
        group = [row for batch in self._writing for row in batch.rows]
        survivors = [recorded for batch in self._writing for recorded in batch.events][:kept]
        lost = len(self.unsynced) - kept
        self._keep(group[:kept])
        self._writing, self._waiting = [], []
        self._process += 1
        self._chain = self._durable_chain
        return survivors, lost

    def recover(self, *, use_snapshot: bool, extra: Sequence[Row] = ()) -> State:
        """The state at the end of the log, as a start would fold it; `extra` are records that are not durable yet."""
        folded, after = State(), 0
        if self.snapshot is not None and (use_snapshot or self.base):
            decoded = state.decode(self.snapshot[1])
            assert decoded is not None, "a snapshot of this very program"
            folded, after = decoded, self.snapshot[0]
        for number, row in enumerate([*self.rows[after - self.base :], *extra], after + 1):
            fold.apply(folded, self._mapper.to_recorded(row.stored, number))
        return folded

    def records(self) -> list[Recorded]:
        """Every durable record that is kept, read back from its stored form."""
        return [self._mapper.to_recorded(row.stored, number) for number, row in enumerate(self.rows, self.base + 1)]

    def _keep(self, rows: list[Row]) -> None:
        if rows:
            self.rows += rows
            self._durable_chain = rows[-1].chain

    def _begin(self) -> None:
        self._writing, self._waiting = self._waiting, []
        self._timeline.after(self._fsync_s(), self._done, self._process)

    def _done(self, process: int) -> None:
        if process != self._process:
            return
        assert self.owner is not None
        if self.stop_at is not None and self.position + self.in_commit > self.stop_at:
            self.owner.cut(self.stop_at - self.position)
            return
        group, self._writing = self._writing, []
        for batch in group:
            self._keep(batch.rows)
        self.owner.committed(group)
        if self._waiting and process == self._process and not self._writing:
            self._begin()
