"""One broker per state directory, with real second processes. About 2 seconds."""

from __future__ import annotations

import fcntl
import os
import stat

import pytest

from relaybroker.adapters.eventstore.errors import StateLocked
from relaybroker.adapters.eventstore.lock import StateLock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "broker-main.lock"


def test_a_second_broker_is_refused_with_the_holders_pid_and_the_directory(path, run):
    holder = run("hold_lock", path)
    pid = int(holder.stdout.readline())
    text = f"another broker instance is already running in this directory (pid: {pid}, {path.parent})"
    with pytest.raises(StateLocked) as caught:
        StateLock(path)
    assert str(caught.value) == text
    assert caught.value.pid == pid == holder.pid
    other = run("hold_lock", path)
    assert other.communicate()[0] == text + "\n"
    assert other.returncode == 1
    assert int(path.read_text()) == pid


def test_a_killed_holder_leaves_the_lock_free_and_its_file_in_place(path, run):
    holder = run("hold_lock", path)
    holder.stdout.readline()
    holder.kill()
    holder.wait()
    assert path.read_text() == f"{holder.pid}\n"
    with StateLock(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert path.exists()


def test_a_recorded_pid_that_now_belongs_to_another_program_does_not_hold_the_lock(path, run):
    """F133: the pid of a living process that holds nothing."""
    path.write_text(f"{os.getppid()}\n")
    with StateLock(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_held_lock_is_refused_whatever_pid_its_file_names(path, run):
    """F133: a dead pid in the file of a held lock is no reason to take it."""
    holder = run("hold_lock", path)
    holder.stdout.readline()
    path.write_text("999999999\n")
    with pytest.raises(StateLocked, match="pid: 999999999,"):
        StateLock(path)


def test_a_holder_that_wrote_no_pid_is_still_a_holder(path):
    path.touch()
    descriptor = os.open(path, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(StateLocked, match="pid: 0,"):
        StateLock(path)
    os.close(descriptor)


def test_a_released_lock_is_free_and_its_file_stays(path, run):
    lock = StateLock(path)
    lock.release()
    lock.release()
    assert path.exists()
    holder = run("hold_lock", path)
    assert int(holder.stdout.readline()) == holder.pid


def test_a_file_that_was_deleted_before_it_was_locked_is_taken_anew(path, run, monkeypatch):
    """The CLI may delete the file; a lock on a deleted file would keep nobody out."""
    flock = fcntl.flock
    deletions = iter([True, True])

    def flock_late(descriptor, operation):
        if next(deletions, False):
            path.unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    with StateLock(path):
        monkeypatch.undo()
        other = run("hold_lock", path)
        assert other.communicate()[0].startswith("another broker instance")


def test_a_file_that_is_replaced_for_ever_is_given_up(path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: path.unlink())
    with pytest.raises(OSError, match="replaced 100 times"):
        StateLock(path)


def test_the_file_is_ours_alone_and_no_child_inherits_the_lock(path, run):
    before = os.umask(0)
    try:
        lock = StateLock(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    child = run("hold_lock", path.with_name("broker-other.lock"))
    child.stdout.readline()
    lock.release()
    with StateLock(path):
        pass


def test_a_lock_is_never_taken_through_a_link(path):
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(OSError):
        StateLock(path)
    assert not path.with_name("elsewhere").exists()
