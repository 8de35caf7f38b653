from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from relaybroker.adapters.files import (
    HeldLock,
    LockHeldError,
    NotPrivateError,
    exclusive_lock,
    make_private_directory,
    read_private,
    remove_private,
    write_private,
)
from tests.waiting import WAIT_S


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o377])
def test_a_private_file_is_0600_and_whole_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """I5: after every write the mode is right, the content complete, and no temporary file is left."""
    before = os.umask(umask)
    try:
        write_private(tmp_path / "a.json", b"one")
        write_private(tmp_path / "a.json", b"two")
    finally:
        os.umask(before)
    assert mode(tmp_path / "a.json") == 0o600
    assert read_private(tmp_path / "a.json") == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(OSError):
        write_private(tmp_path / "target", b"a file cannot replace a directory")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_what_a_killed_writer_left_is_swept_and_a_living_one_is_left_alone(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = tmp_path / f".a.json.{ended.pid}.0123.tmp"
    alive = tmp_path / f".a.json.{os.getppid()}.0123.tmp"
    for leftover in (dead, alive):
        leftover.write_bytes(b"half")
    write_private(tmp_path / "a.json", b"whole")
    assert not dead.exists()
    assert alive.exists()


def test_directories_are_made_0700_with_everything_above_them(tmp_path: Path) -> None:
    make_private_directory(tmp_path / "a" / "b")
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700


def test_a_loose_file_or_directory_is_narrowed_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loose = tmp_path / "loose"
    loose.mkdir(mode=0o755)
    loose.chmod(0o755)
    (loose / "token").write_bytes(b"secret")
    (loose / "token").chmod(0o644)
    make_private_directory(loose)
    assert read_private(loose / "token") == b"secret"
    assert mode(loose) == 0o700
    assert mode(loose / "token") == 0o600
    assert len(caplog.records) == 2
    assert "secret" not in caplog.text


def test_a_symbolic_link_is_never_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"not ours")
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        read_private(tmp_path / "token")
    write_private(tmp_path / "token", b"ours")
    assert (tmp_path / "elsewhere").read_bytes() == b"not ours"


def test_a_pipe_in_place_of_a_file_is_refused_and_blocks_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token", 0o600)
    with pytest.raises(NotPrivateError):
        read_private(tmp_path / "token")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"planted")
    os.chown(tmp_path / "token", 12345, 12345)
    with pytest.raises(NotPrivateError):
        read_private(tmp_path / "token")


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    remove_private(tmp_path / "nothing")
    remove_private(tmp_path / "nowhere" / "nothing")


def test_a_held_lock_names_its_holder_and_is_free_after_release(tmp_path: Path) -> None:
    lock = HeldLock(tmp_path / "lock")
    with pytest.raises(LockHeldError) as held:
        HeldLock(tmp_path / "lock")
    assert held.value.pid == os.getpid()
    lock.release()
    HeldLock(tmp_path / "lock").release()


def test_a_lock_file_with_the_pid_of_a_stranger_is_taken_when_nobody_holds_it(tmp_path: Path) -> None:
    """F133: the lock decides, not the pid."""
    (tmp_path / "lock").write_text(f"{os.getppid()}\n")
    HeldLock(tmp_path / "lock").release()
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_an_exclusive_section_excludes_another_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from relaybroker.adapters.files import exclusive_lock\n"
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
