"""`log verify`: whether the log is whole, in order, unbroken in its hash chain, and folds by the tables to what the broker had.

Source: spec/architecture.md section 8; invariant D14 (REPLAY).
"""

from __future__ import annotations

import msgspec

from relaybroker.adapters.eventstore.integrity import verify as verify_store
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.adapters.eventstore.recorders import side_file
from relaybroker.adapters.eventstore.snapshots import Snapshot, SnapshotFile
from relaybroker.domain.errors import CorruptLog, IllegalTransition
from relaybroker.domain.fold import apply
from relaybroker.domain.soundness import contradictions
from relaybroker.domain.state import SNAPSHOT_FORMAT, State, decode


class Verification(msgspec.Struct, frozen=True):
    """What was checked.

    `problems`: what is wrong, in log order; empty = nothing. `state`: what the log folds to, as far as it goes. `compared_at`: the position
    at which the fold was compared with the live state that a broker had written down there; 0 = no broker has.
    """

    problems: list[str]
    state: State
    compared_at: int


def verify(reader: LogReader) -> Verification:
    """Check everything: database, high-water mark, hash chain, versions, topics, reasons, tables, fold = live, nothing left over."""
    problems = [str(finding) for finding in verify_store(reader)]
    state, compared_at = State(), 0
    if problems:
        return Verification(problems, state, compared_at)
    snapshot = _live(reader)
    for position, recorded in reader.read():
        try:
            apply(state, recorded)
        except (CorruptLog, IllegalTransition, KeyError, ValueError) as error:
            problems.append(
                f"position {position}: {recorded.event.topic} on {recorded.stream} does not fold: {error!r}"
            )
            break
        if snapshot is not None and position == snapshot.position:
            compared_at = position
            if differing := _differences(decode(snapshot.payload), state):
                problems.append(f"position {position}: the log folds to another state than the broker had: {differing}")
    else:
        problems += [f"at the end of the log: {trouble}" for trouble in contradictions(state)]
    return Verification(problems, state, compared_at)


def _live(reader: LogReader) -> Snapshot | None:
    """The state that a broker had at some position, as it wrote it down then."""
    if reader.path is None:
        return None
    return SnapshotFile(side_file(reader.path, ".snapshot"), payload_version=SNAPSHOT_FORMAT).load(reader)


def _differences(live: State | None, folded: State) -> str:
    if live is None or live == folded:
        return ""
    return ", ".join(name for name in State.__struct_fields__ if getattr(live, name) != getattr(folded, name))
