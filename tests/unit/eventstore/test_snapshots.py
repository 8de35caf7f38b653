"""Snapshots: used only when whole and about this very log, replaced atomically, thrown away without loss."""

from __future__ import annotations

import logging
import os
import resource
import stat

import pytest

from relaybroker.adapters import private_files
from relaybroker.adapters.eventstore.mapper import GENESIS
from relaybroker.adapters.eventstore.snapshots import Snapshot, SnapshotFile


class Log:
    """A log of three records, as far as a snapshot asks."""

    def __init__(self, *chains):
        self.chains = [GENESIS, *chains]

    def chain_at(self, position):
        return self.chains[position] if position < len(self.chains) else None


LOG = Log(b"a" * 16, b"b" * 16, b"c" * 16)
SNAPSHOT = Snapshot(2, b"the state after record 2")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db.snapshot"


@pytest.fixture
def file(path):
    return SnapshotFile(path, payload_version=4)


@pytest.fixture
def reason(caplog):
    """reason() -> why the last snapshot was not used, as logged"""
    caplog.set_level(logging.INFO)
    return lambda: caplog.messages[-1]


def test_the_last_saved_snapshot_is_loaded(file, path):
    file.save(LOG, Snapshot(1, b"older"))
    file.save(LOG, SNAPSHOT)
    assert file.load(LOG) == SNAPSHOT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_empty_log_and_an_empty_state_are_snapshots_too(file):
    file.save(LOG, Snapshot(0, b""))
    assert file.load(LOG) == Snapshot(0, b"")


def test_a_missing_snapshot_means_folding_from_the_start(file, reason):
    assert file.load(LOG) is None
    assert "no snapshot" in reason()


def test_a_snapshot_of_another_payload_version_is_never_upcast(file, path, reason):
    file.save(LOG, SNAPSHOT)
    assert SnapshotFile(path, payload_version=5).load(LOG) is None
    assert "version 4, this program's 5" in reason()


def test_a_snapshot_of_another_format_is_not_used(file, path, reason):
    file.save(LOG, SNAPSHOT)
    content = bytearray(path.read_bytes())
    content[9] = 2
    path.write_bytes(content)
    assert file.load(LOG) is None
    assert "format 2" in reason()


def test_a_snapshot_from_beyond_the_end_of_the_log_is_not_used(file, reason):
    file.save(LOG, Snapshot(3, b"state"))
    assert file.load(Log(b"a" * 16, b"b" * 16)) is None
    assert "no record at its position 3" in reason()


def test_a_snapshot_of_another_log_is_not_used(file, reason):
    file.save(LOG, SNAPSHOT)
    assert file.load(Log(b"a" * 16, b"x" * 16, b"c" * 16)) is None
    assert "another record at its position 2" in reason()


def test_a_snapshot_of_a_position_that_the_log_does_not_have_is_not_written(file, path):
    with pytest.raises(ValueError, match="no record at position 4"):
        file.save(LOG, Snapshot(4, b""))
    assert not path.exists()


def test_every_flipped_byte_and_every_cut_is_noticed(file, path, reason):
    """F134"""
    file.save(LOG, SNAPSHOT)
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x41
        path.write_bytes(damaged)
        assert file.load(LOG) is None, place
        path.write_bytes(whole[:place])
        assert file.load(LOG) is None, place
        assert "recovery folds the whole log" in reason()
    path.write_bytes(whole + b"x")
    assert file.load(LOG) is None


def test_a_snapshot_that_cannot_be_written_leaves_the_old_one(file, path):
    """The system says no in the middle: here a file may not be as large as that."""
    file.save(LOG, SNAPSHOT)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        with pytest.raises(OSError):
            file.save(LOG, Snapshot(3, b"newer" * 1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.load(LOG) == SNAPSHOT
    assert list(path.parent.iterdir()) == [path]


def test_the_leftover_of_a_killed_save_goes_with_the_next(file, path):
    leftover = path.with_name(f".{path.name}.999999999.0123.tmp")
    leftover.write_bytes(b"half")
    file.save(LOG, SNAPSHOT)
    assert file.load(LOG) == SNAPSHOT
    assert not leftover.exists()


def test_a_private_file_is_never_written_through_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(FileExistsError):
        private_files.create(tmp_path / "link")
    assert not (tmp_path / "target").exists()


def test_narrowing_takes_rights_away_and_gives_none(tmp_path):
    file = tmp_path / "f"
    file.touch(mode=0o666)
    os.chmod(file, 0o664)
    private_files.narrow(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    private_files.narrow(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
