"""What recovery costs: time by the tail after the snapshot, memory by live state, neither by history.

The figures for a million events are printed by `make bench`; here nothing is timed that is not compared with another length of log.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.adapters.eventstore.recorders import side_file
from relaybroker.adapters.eventstore.snapshots import Snapshot, SnapshotFile
from relaybroker.domain.events import REGISTRY
from relaybroker.domain.state import SNAPSHOT_FORMAT, encode
from relaybroker.node.recovery import recover
from tests import long_log
from tests.growth import DOUBLED, grows_by

AGENTS = long_log.AGENTS[:5]
SHORT = 30_000
"""Fills every window that remembers the past: 512 messages of an agent, 4096 of all."""

PROGRAM = """
import json, sys, psutil
from pathlib import Path
from tests.integration.node.test_cost_of_recovery import recovered
before = psutil.Process().memory_info().rss
recovered(Path(sys.argv[1]))
print(json.dumps({"kib": psutil.Process().memory_info().rss // 1024, "before": before // 1024}))
"""


def recovered(path, keep=False):
    """The state in the log at `path`, and how many records were read for it; `keep` writes a snapshot of it."""
    journal = Journal.open(str(path), registry=REGISTRY, on_failure=pytest.fail)
    snapshots = SnapshotFile(side_file(path, ".snapshot"), payload_version=SNAPSHOT_FORMAT)
    read, given = journal.read, 0

    def counted(after):
        nonlocal given
        for record in read(after=after):
            given += 1
            yield record

    journal.read = counted
    try:
        state = recover(journal, snapshots)
        if keep:
            snapshots.save(journal, Snapshot(state.position, encode(state)))
    finally:
        journal.close()
    return state, given


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """A log of five agents, by its length, as it was halfway and at its end; and the live state at its end."""
    folder = tmp_path_factory.mktemp("logs")
    made = {events: folder / f"{events}.db" for events in (SHORT, 2 * SHORT)}
    return made, long_log.write(made[2 * SHORT], 2 * SHORT, AGENTS, before=(SHORT, made[SHORT]))


def test_the_fold_of_a_log_is_the_live_state_and_costs_what_its_length_is(logs):
    paths, live = logs
    assert grows_by(lambda events: recovered(paths[events]), SHORT) <= DOUBLED
    assert recovered(paths[2 * SHORT])[0] == live


def test_with_a_snapshot_the_length_of_the_log_does_not_matter(logs):
    paths, _ = logs
    for path in paths.values():
        live, given = recovered(path, keep=True)
        assert given > SHORT
        assert recovered(path) == (live, 0)
        side_file(path, ".snapshot").unlink()


def test_the_state_after_a_long_history_is_as_large_as_after_a_short_one(logs):
    paths, live = logs
    assert len(encode(live)) < 1.2 * len(encode(recovered(paths[SHORT])[0]))


def test_a_process_that_folded_a_long_log_is_as_large_as_one_that_folded_a_short_one(logs):
    """Memory is bounded by live state and one page of the log."""
    kib = []
    for path in logs[0].values():
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(path)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[3],
        )
        kib.append(json.loads(done.stdout)["kib"])
    assert kib[1] < 1.2 * kib[0], kib
