from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from relaybroker.adapters.private_files import (
    NotPrivateError,
    make_private_directory,
    read_private,
    remove_private,
    write_private,
)


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
