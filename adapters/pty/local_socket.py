"""The Unix socket between broker and host: owner only, bound by one host at a time, its peer known to be the same user.

A path longer than `sun_path` allows is reached through its directory's descriptor (Linux) or refused with a clear
error. Source: architecture.md 5; local-api.md 11.7.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SUN_PATH = 107 if sys.platform.startswith("linux") else 103
BACKLOG = 16


class SocketRefused(Exception):  # noqa: N818  # reads as what happened
    """The socket cannot be used as it is; the text says why and what to do."""


class AlreadyServed(Exception):  # noqa: N818  # reads as what happened
    """Another living host serves this path."""


def prepare_directory(path: str) -> None:
    """Make the socket's directory (0700), or check that nobody else can put files there. Raises SocketRefused."""
    directory = Path(path).parent
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.getuid():
        raise SocketRefused(f"{directory} belongs to user {found.st_uid}; the socket needs a directory of your own")
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise SocketRefused(f"{directory} can be written by others; run: chmod 700 {directory}")


def listen(path: str) -> tuple[socket.socket, int]:
    """A listening socket at `path` and the lock that proves it ours; keep both open.

    Raises AlreadyServed when another host holds the lock, SocketRefused when the place is not safe or too long.
    """
    prepare_directory(path)
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise AlreadyServed(f"another host serves {path}") from None
    Path(path).unlink(missing_ok=True)  # left by a host that was killed; the lock says that none lives
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        with _reachable(path) as address:
            listener.bind(address)
    finally:
        os.umask(umask)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener, lock


def connect(path: str) -> socket.socket:
    """A connected socket, whose server is known to be a process of this user.

    Never blocks. Raises FileNotFoundError or ConnectionRefusedError when no host listens, BlockingIOError when too many
    wait for it already, SocketRefused on a foreign server.
    """
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.setblocking(False)
    try:
        with _reachable(path) as address:
            client.connect(address)
    except BaseException:
        client.close()
        raise
    if (uid := peer_uid(client)) != os.getuid():
        client.close()
        raise SocketRefused(f"{path} is served by user {uid}, not by you")
    return client


def peer_uid(connection: socket.socket) -> int:
    """User id of the process at the other end, as the kernel knows it."""
    if hasattr(socket, "SO_PEERCRED"):
        _pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(uid)
    # struct xucred: version, uid, number of groups, 16 groups (macOS and BSD: SOL_LOCAL 0, LOCAL_PEERCRED 1)
    _version, uid = struct.unpack_from("=Ii", connection.getsockopt(0, 1, 76))
    return int(uid)


@contextmanager
def _reachable(path: str) -> Iterator[str]:
    """An address for `path` that fits `sun_path`."""
    if len(os.fsencode(path)) <= MAX_SUN_PATH:
        yield path
        return
    target = Path(path)
    descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = f"/proc/self/fd/{descriptor}/{target.name}"
        if not sys.platform.startswith("linux") or len(os.fsencode(short)) > MAX_SUN_PATH:
            raise SocketRefused(f"{path} is longer than a socket address may be; choose a shorter state directory")
        yield short
    finally:
        os.close(descriptor)
