"""From the log to the state: the newest usable snapshot and the fold of what came after it.

Source: design/architecture.md section 4.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from relaybroker.domain import fold
from relaybroker.domain.state import State, decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from relaybroker.adapters.eventstore.journal import Journal
    from relaybroker.adapters.eventstore.snapshots import SnapshotFile

_log = logging.getLogger(__name__)


TOLD_EVERY = 20_000
"""Events between two words about how far it is."""


def recover(journal: Journal, snapshots: SnapshotFile, report: Callable[[str], None] = lambda _: None) -> State:
    """The state at the end of the journal; its time depends on the tail after the snapshot, not on history.

    `report` hears how far it is.

    Raises:
        CorruptLog: a record does not fit; every byte is kept.
    """
    snapshot = snapshots.load(journal)
    state = (decode(snapshot.payload) if snapshot is not None else None) or State()
    base = state.position
    for position, recorded in journal.read(after=base):
        fold.apply(state, recorded)
        if not position % TOLD_EVERY:
            report(f"reading the log, {position} of {journal.position}")
    _log.info("recovered to position %d from a snapshot at %d", state.position, base)
    return state
