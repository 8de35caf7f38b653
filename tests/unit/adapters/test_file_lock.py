from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from relaybroker.adapters.file_lock import FileLock, LockHeldError, exclusive_lock, lock_open_file
from tests.waiting import WAIT_S


def test_a_held_lock_names_its_holder_and_is_free_after_release(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    with pytest.raises(LockHeldError) as held:
        FileLock(tmp_path / "lock")
    assert held.value.pid == os.getpid()
    lock.release()
    FileLock(tmp_path / "lock").release()


def test_a_lock_file_with_the_pid_of_a_stranger_is_taken_when_nobody_holds_it(tmp_path: Path) -> None:
    """F133: the lock decides, not the pid."""
    (tmp_path / "lock").write_text(f"{os.getppid()}\n")
    FileLock(tmp_path / "lock").release()
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_an_exclusive_section_excludes_another_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from relaybroker.adapters.file_lock import exclusive_lock\n"
        "with exclusive_lock(Path(sys.argv[1])): print('in', flush=True)"
    )
    with exclusive_lock(tmp_path / "lock"):
        other = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.3)
    assert other.stdout.readline() == "in\n"
    other.stdout.close()
    assert other.wait(WAIT_S) == 0


def test_a_lock_that_is_waited_for_is_taken_anew_when_its_file_was_removed_meanwhile(tmp_path: Path) -> None:
    """A lock on a removed file would keep nobody out."""
    path, entered = tmp_path / "lock", threading.Event()

    def wait_and_enter() -> None:
        with exclusive_lock(path):
            entered.set()
            with pytest.raises(LockHeldError):
                FileLock(path)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = FileLock(path)
        waiting = pool.submit(wait_and_enter)
        assert not entered.wait(0.3)
        path.unlink()
        first.release()
        waiting.result(WAIT_S)


def test_an_open_file_is_locked_and_keeps_its_content(tmp_path: Path) -> None:
    path = tmp_path / "mark"
    path.write_bytes(b"content")
    with path.open("rb") as one, path.open("rb") as other:
        lock_open_file(one.fileno(), path)
        with pytest.raises(LockHeldError) as held:
            lock_open_file(other.fileno(), path)
    assert held.value.pid in {0, os.getpid()}
    assert path.read_bytes() == b"content"
