"""The journal as the core's records meet it: encoded, chained, written and synced in groups after a while, and cut by a crash.

Records go through the real `Mapper`, so what is recovered is what can be stored. A group is what one commit writes; it survives every
process. What is written is synced after that, beside the next commit; only then it survives the machine, which may lose any end of what
is not synced. A real journal keeps a group whole; this one may also be cut between any two records of it, which is harsher (recovery
from every position: S20).
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
    """Whoever is told what has become safe."""

    def written(self, group: Sequence[Batch]) -> None:
        """Every record of these batches survives the end of every process."""

    def committed(self, group: Sequence[Batch]) -> None:
        """Every record of these batches is durable."""

    def cut(self, kept: int) -> None:
        """The log has reached `stop_at` inside the commit under way, of which `kept` records survive."""


class Disk:
    """An append-only log with a writer that takes its time.

    Args:
        timeline: time.
        fsync_s: how long the next commit takes, and then its fsync.
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
        """Written records after `base`, oldest first."""
        self.synced = 0
        """How many records are durable."""
        self.base = 0
        """Records that were dropped because a snapshot covers them."""
        self.snapshot: tuple[int, bytes] | None = None
        self.owner: Owner | None = None
        self.stop_at: int | None = None
        """The process dies as soon as this many records are written."""
        self.encoded_bytes = 0
        self._chain = self._written_chain = GENESIS
        self._syncing: list[Batch] = []
        self._unsynced: list[Batch] = []
        self._writing: list[Batch] = []
        self._waiting: list[Batch] = []
        self._process = 0
        """Counts crashes: a commit of a former process is void."""

    @property
    def position(self) -> int:
        """How many records are written."""
        return self.base + len(self.rows)

    @property
    def chain(self) -> bytes:
        """Chain value of the last written record."""
        return self._written_chain

    @property
    def is_idle(self) -> bool:
        """Whether everything that was appended is durable."""
        return not (self._writing or self._syncing or self._unsynced)

    @property
    def unwritten(self) -> list[Row]:
        """Records that are appended and not written."""
        return [row for batch in (*self._writing, *self._waiting) for row in batch.rows]

    def append(self, events: Sequence[Recorded], effects: Sequence[Effect]) -> None:
        """Queue a round; its owner hears when it is written, and when it is durable."""
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
        if now.position != self.synced or now.position < last + self._snapshot_every:
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
        lost = len(self.unwritten) - kept
        self._keep(group[:kept])
        self._writing, self._waiting = [], []
        self._syncing, self._unsynced = [], []
        self._process += 1
        self._chain = self._written_chain
        return survivors, lost

    def lose(self, share: float) -> int:
        """The machine is gone, the process before it: this share of what was not synced is lost, from the end; how many records."""
        lost = round((self.position - self.synced) * share)
        if lost:
            del self.rows[-lost:]
            self._chain = self._written_chain = self.rows[-1].chain if self.rows else GENESIS
        return lost

    def recover(self, *, use_snapshot: bool, extra: Sequence[Row] = ()) -> State:
        """The state at the end of the log, as a start would fold it, which syncs it first; `extra` are records that are not written yet."""
        folded, after = State(), 0
        if self.snapshot is not None and (use_snapshot or self.base):
            decoded = state.decode(self.snapshot[1])
            assert decoded is not None, "a snapshot of this very program"
            folded, after = decoded, self.snapshot[0]
        for number, row in enumerate([*self.rows[after - self.base :], *extra], after + 1):
            fold.apply(folded, self._mapper.to_recorded(row.stored, number))
        return folded

    def records(self) -> list[Recorded]:
        """Every written record that is kept, read back from its stored form."""
        return [self._mapper.to_recorded(row.stored, number) for number, row in enumerate(self.rows, self.base + 1)]

    def _keep(self, rows: list[Row]) -> None:
        if rows:
            self.rows += rows
            self._written_chain = rows[-1].chain

    def sync(self) -> None:
        """Everything that is written is durable: what a start does first."""
        self.synced = self.position

    def _begin(self) -> None:
        self._writing, self._waiting = self._waiting, []
        self._timeline.after(self._fsync_s(), self._written, self._process)

    def _written(self, process: int) -> None:
        if process != self._process:
            return
        assert self.owner is not None
        if self.stop_at is not None and self.position + self.in_commit > self.stop_at:
            self.owner.cut(self.stop_at - self.position)
            return
        group, self._writing = self._writing, []
        for batch in group:
            self._keep(batch.rows)
        self._unsynced += group
        self.owner.written(group)
        if process != self._process:
            return
        if self._waiting and not self._writing:
            self._begin()
        if not self._syncing:
            self._begin_sync()

    def _begin_sync(self) -> None:
        self._syncing, self._unsynced = self._unsynced, []
        self._timeline.after(self._fsync_s(), self._durable, self._process)

    def _durable(self, process: int) -> None:
        if process != self._process:
            return
        assert self.owner is not None
        group, self._syncing = self._syncing, []
        self.synced += sum(len(batch.rows) for batch in group)
        self.owner.committed(group)
        if self._unsynced and process == self._process and not self._syncing:
            self._begin_sync()
