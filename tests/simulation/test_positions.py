"""Kill -9 at every position of a recorded run (TYPED-ONCE): recover, take up again, nothing lost, nothing typed twice.

A run is recorded; then it is run again for each position of its journal, and the broker dies as soon as that many records are durable, in
the middle of a commit or at its end. The engine, the host and everybody else go on from where they were, and in the end everything must be
right. With the real journal on a real disk, the last commits of which are cut at any byte, what is recovered is exactly such a position.
"""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import Iterator
from random import Random

import pytest

from relaybroker.adapters.eventstore.errors import StateCorrupt
from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.adapters.eventstore.snapshots import SnapshotFile
from relaybroker.domain.changes import broker as broker_changes
from relaybroker.domain.delivery import CLOCKS_DIFFER_S
from relaybroker.domain.errors import CorruptLog
from relaybroker.domain.events import REGISTRY
from relaybroker.domain.rules import resume
from relaybroker.domain.state import SNAPSHOT_FORMAT
from relaybroker.node.recovery import recover
from relaybroker.testing.simulation import engine as engines
from relaybroker.testing.simulation import host as hosts
from relaybroker.testing.simulation.run import live, run_world
from relaybroker.testing.simulation.world import POLICIES, Ordinary, Plan, World

FAULTS_OF_PROCESSES = (
    "broker_dies_before_commit",
    "broker_dies_after_commit",
    "broker_and_host_die",
    "clean_stop",
    "host_dies",
)
TOO_LONG = ("quiet", "long_quiet", "flood", "burst")


def plan(seed: int) -> Plan:
    """A short history without faults of processes: those are what the test adds."""
    return Plan(
        seed=seed,
        names=("ann", "bob"),
        policy=POLICIES[seed % 3],
        engine=engines.Traits(push_s=(0.001, 3.0)),
        host=hosts.Traits(write_failed=0.1, half_typed=0.02),
        moves=25,
        weights=Ordinary(dict.fromkeys((*FAULTS_OF_PROCESSES, *TOO_LONG), 0.0) | {"spawn": 3.0}),
        snapshot_every=60,
    )


def recorded(seed: int) -> World:
    """The run without any crash, up to where the healing would begin."""
    world = World(plan(seed))
    live(world)
    assert world.node.boots == 1
    assert world.promises.typed_total
    return world


def killed_at(seed: int, position: int) -> World:
    world = World(plan(seed))
    world.disk.stop_at = position
    return world


def broken(seed: int) -> Iterator[str]:
    """Each position at which a kill breaks a promise, and which."""
    for position in range(recorded(seed).disk.position):
        world = killed_at(seed, position)
        outcome = run_world(world)
        assert world.node.boots > 1, position
        if outcome.violation:
            yield f"seed {seed}, killed at {position}: {outcome.violation}"


SEEDS = (36, 10, 50)
"""One for each policy; each types, holds, hands back and repeats, and has a terminal that is not free."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_kill_at_any_position_costs_nothing(seed):
    """S20, F032; D1-D15; ADR-0020."""
    assert list(broken(seed)) == []


def slow_disk(seed: int) -> Plan:
    """Terminals are faster than the disk, so that much has been typed of which nothing is on disk."""
    quick = hosts.Traits(boot_s=(0.05, 0.5), type_s=(0.001, 0.02))
    return dataclasses.replace(plan(seed), fsync_s=(0.05, 0.5), host=quick)


def lost_with_the_machine(seed: int, share: float) -> Iterator[str]:
    """Each position at which the end of the machine, with this share of what is not synced, breaks a promise, and which."""
    whole = World(slow_disk(seed))
    live(whole)
    for position in range(whole.disk.position):
        world = World(slow_disk(seed))
        world.disk.stop_at, world.node.machine_share = position, share
        if violation := run_world(world).violation:
            yield f"seed {seed}, share {share}, at {position}: {violation}"


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "share"), [(2, 1.0), (3, 1.0), (10, 0.5), (13, 1.0)])
def test_a_machine_that_dies_at_any_position_and_takes_what_is_not_synced_breaks_no_promise(seed, share):
    """LOG-FIRST, TYPED-ONCE, ADR-0082: nothing that was acknowledged is lost, and what is typed once more says so."""
    assert list(lost_with_the_machine(seed, share)) == []


def only_what_comes_again(state, now):
    state.doubt_before = now + CLOCKS_DIFFER_S


@pytest.mark.slow
@pytest.mark.parametrize(
    "instead", [lambda _state, _now: None, only_what_comes_again], ids=["nothing", "only what comes again"]
)
def test_that_less_is_doubted_after_a_crash_of_the_machine_would_be_found(instead, monkeypatch):
    """The check has teeth: what was typed is typed again, silently."""
    monkeypatch.setattr(broker_changes, "_doubt_what_is_open", instead)
    assert "TYPED-ONCE" in next(lost_with_the_machine(3, 1.0), "")


@pytest.mark.slow
def test_that_nothing_is_finished_at_the_start_would_be_found(monkeypatch):
    """The check has teeth: most kills in the middle of a turn leave something that only a start can finish."""
    monkeypatch.setattr(resume, "unfinished_turns", lambda _turn: None)
    assert next(broken(4), None)


async def _write(path, groups):
    """The real journal, one commit for each group; a copy of its files before anything is folded into the database."""
    journal = _opened(path)
    for group in groups:
        await journal.append(group)
    copy = path.parent / "killed"
    copy.mkdir()
    for file in path.parent.iterdir():
        if file.is_file():
            shutil.copy(file, copy / file.name)
    journal.close()
    return copy / path.name


def _opened(path):
    return Journal.open(str(path), registry=REGISTRY, on_failure=pytest.fail)


def _recovered(path):
    journal = _opened(path)
    try:
        return recover(journal, SnapshotFile(path.with_suffix(".snapshot"), payload_version=SNAPSHOT_FORMAT))
    finally:
        journal.close()


@pytest.mark.slow
def test_a_real_log_cut_at_any_byte_is_such_a_position_or_is_refused(tmp_path):
    """B12, F134, S20: with its mark the loss is noticed and refused; a commit that never ended is not in it, and is no loss."""
    records = recorded(4).disk.records()
    groups = [records[start : start + 3] for start in range(0, len(records), 3)]
    ends = {0, *(group[-1].version for group in groups)}
    whole = asyncio.run(_write(tmp_path / "journal.db", groups))
    wal = whole.with_name("journal.db-wal").read_bytes()
    assert len(wal) > 10_000
    random = Random(4)
    positions = set()
    for number in range(60):
        home = tmp_path / f"cut{number}"
        shutil.copytree(whole.parent, home)
        cut = random.randrange(len(wal))
        (home / "journal.db-wal").write_bytes(wal[:cut])
        with pytest.raises((StateCorrupt, CorruptLog)):
            _recovered(home / "journal.db")
        (home / "journal.db.mark").unlink()
        position = _recovered(home / "journal.db").position
        assert position in ends
        positions.add(position)
    assert len(positions) > 10
    for position in sorted(positions)[::4]:
        home = tmp_path / f"run{position}"
        home.mkdir()
        real = asyncio.run(_write(home / "journal.db", [records[:position]] if position else []))
        world = killed_at(4, position)
        simulated = world.node.recover

        def once(use_snapshot, world=world, simulated=simulated, real=real):
            world.node.recover = simulated
            assert _recovered(real) == simulated(use_snapshot)
            return _recovered(real)

        def first(use_snapshot, world=world, simulated=simulated, once=once):
            world.node.recover = once
            return simulated(use_snapshot)

        world.node.recover = first
        assert run_world(world).violation == ""


def test_a_real_log_with_another_byte_in_its_middle_is_refused(tmp_path):
    """B12, F134: not one wrong record is folded."""
    records = recorded(4).disk.records()
    whole = asyncio.run(_write(tmp_path / "journal.db", [records]))
    wal = bytearray(whole.with_name("journal.db-wal").read_bytes())
    random = Random(4)
    for number in range(20):
        home = tmp_path / f"flipped{number}"
        shutil.copytree(whole.parent, home)
        damaged = bytearray(wal)
        damaged[random.randrange(32, len(wal))] ^= 1 + random.randrange(255)
        (home / "journal.db-wal").write_bytes(damaged)
        try:
            assert _recovered(home / "journal.db").position == len(records)
        except (StateCorrupt, CorruptLog):
            assert (home / "journal.db-wal").read_bytes() == bytes(damaged)
