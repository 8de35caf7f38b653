"""What recovery costs: time by the tail after the snapshot, memory by live state, neither by history.

The figures for a million events are printed by `make bench`; here a shorter log is held to the same rate.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapters.eventstore.journal import Journal
from adapters.eventstore.recorders import side_file
from adapters.eventstore.snapshots import Snapshot, SnapshotFile
from domain.events import REGISTRY, UPCASTERS
from domain.state import SNAPSHOT_FORMAT, encode
from relaybroker.recovery import recover
from tests import long_log

AGENTS = long_log.AGENTS[:5]
SHORT, LONG = 30_000, 120_000
"""The shorter one fills every window that remembers the past: 512 messages of an agent, 4096 of all."""
PER_EVENT_S = 30 / 1_000_000
"""A million events within 30 s."""

PROGRAM = """
import json, sys, psutil
from pathlib import Path
from tests.integration.recovery.test_cost import recovered
before = psutil.Process().memory_info().rss
state, seconds = recovered(Path(sys.argv[1]))
print(json.dumps({"kib": psutil.Process().memory_info().rss // 1024, "before": before // 1024, "seconds": seconds}))
"""


def recovered(path, keep=False):
    """The state in the log at `path`, the seconds that took; `keep` writes a snapshot of it."""
    began = time.monotonic()
    journal = Journal.open(str(path), registry=REGISTRY, upcasters=UPCASTERS, on_failure=pytest.fail)
    snapshots = SnapshotFile(side_file(path, ".snapshot"), payload_version=SNAPSHOT_FORMAT)
    try:
        state = recover(journal, snapshots)
        seconds = time.monotonic() - began
        if keep:
            snapshots.save(journal, Snapshot(state.position, encode(state)))
    finally:
        journal.close()
    return state, seconds


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Two logs of the same five agents, one four times as long, with the live states at their ends."""
    folder = tmp_path_factory.mktemp("logs")
    made = {}
    for events in (SHORT, LONG):
        path = folder / f"{events}.db"
        made[path] = long_log.write(path, events, AGENTS)
    return made


def test_the_fold_of_a_long_log_is_the_live_state_at_the_rate_of_a_million_events_in_thirty_seconds(logs):
    path, live = list(logs.items())[-1]
    state, seconds = recovered(path)
    assert state == live
    assert seconds < LONG * PER_EVENT_S


def test_with_a_snapshot_the_length_of_the_log_does_not_matter(logs):
    for path, live in logs.items():
        side_file(path, ".snapshot").unlink(missing_ok=True)
        recovered(path, keep=True)
        state, seconds = recovered(path)
        assert state == live
        assert seconds < 2.0
        side_file(path, ".snapshot").unlink()


def test_the_state_after_a_long_history_is_as_large_as_after_a_short_one(logs):
    short, long = (len(encode(live)) for live in logs.values())
    assert long < 1.2 * short


def test_a_process_that_folded_a_long_log_is_as_large_as_one_that_folded_a_short_one(logs):
    """Memory is bounded by live state and one page of the log."""
    kib = []
    for path in logs:
        told = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(path)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[3],
        )
        kib.append(json.loads(told.stdout)["kib"])
    assert kib[1] < 1.2 * kib[0], kib
