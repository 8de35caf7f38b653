"""A disk that fills: it is said, nothing new is accepted in time, and with room again everything goes on."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys

import pytest

from relaybroker.node.disk import FULL_BYTES, LEAST_BYTES, NEARLY_FULL_BYTES, Disk, Room, look_at

MAY_MOUNT = (
    shutil.which("unshare") is not None
    and subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    ).returncode
    == 0
)


@pytest.mark.parametrize(
    ("size", "free", "readonly", "grade"),
    [
        (2**40, NEARLY_FULL_BYTES, 0, "ok"),
        (2**40, NEARLY_FULL_BYTES - 4096, 0, "nearly_full"),
        (2**40, FULL_BYTES - 4096, 0, "full"),
        (2**22, 3 * 2**20, 0, "nearly_full"),  # a volume of 4 MiB works, too
        (2**22, LEAST_BYTES - 4096, 0, "full"),
        (2**40, 2**40, os.ST_RDONLY, "unwritable"),
    ],
)
def test_a_disk_is_graded_by_what_is_left(tmp_path, monkeypatch, size, free, readonly, grade):
    file_system = os.statvfs_result((4096, 4096, size // 4096, 0, free // 4096, 0, 0, 0, readonly, 255))
    monkeypatch.setattr("os.statvfs", lambda _: file_system)
    assert look_at(tmp_path) == Room(grade, free)
    assert look_at(tmp_path).takes_more is (grade in ("ok", "nearly_full"))


@pytest.mark.skipif(not MAY_MOUNT, reason="this user may not mount a file system")
def test_a_real_disk_that_is_full_and_one_that_is_read_only_are_seen(tmp_path):
    check = "from pathlib import Path; from relaybroker.node.disk import look_at; print(look_at(Path('{0}')).grade)"
    script = (
        "mount -t tmpfs -o size=100m none {0} && {1} && head -c 102000000 /dev/zero >{0}/filler && {1} && "
        "rm {0}/filler && {1} && mount -o remount,ro {0} && {1}"
    ).format(tmp_path, f'{sys.executable} -c "{check.format(tmp_path)}"')
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["nearly_full", "full", "nearly_full", "unwritable"]


async def test_what_waits_goes_on_when_there_is_room_again(tmp_path, caplog):
    rooms = [Room("full", 1), Room("full", 1), Room("ok", 2**40)]
    disk = Disk(tmp_path, lambda _: rooms.pop(0))
    waiting = asyncio.create_task(disk.wait())
    await disk.look()
    assert not waiting.done()
    await disk.look()
    await waiting
    assert disk.room.grade == "ok"
