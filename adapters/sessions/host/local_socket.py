"""The Unix socket between broker and host: owner only, bound by one host at a time, its peer known to be the same user.

A path longer than `sun_path` allows is reached through its directory's descriptor (Linux) or refused with a clear
error. Source: architecture.md 5; local-api.md 11.7.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from relaybroker.adapters.file_lock import FileLock, LockHeldError
from relaybroker.adapters.private_files import read_plain, write_private
from relaybroker.adapters.sessions.host.living_hosts import elder_of, nudge

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

MAX_SUN_PATH = 107 if sys.platform.startswith("linux") else 103
BACKLOG = 16


class SocketRefused(Exception):  # noqa: N818  # reads as what happened
    """The socket cannot be used as it is; the text says why and what to do."""


class DirectoryGone(Exception):  # noqa: N818  # reads as what happened
    """The directory of the socket was removed."""


class AlreadyServed(Exception):  # noqa: N818  # reads as what happened
    """Another living host serves this path."""


def prepare_directory(path: str) -> None:
    """Make the socket's directory (0700), or check that nobody else can put files there. Raises SocketRefused."""
    directory = Path(path).parent
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid != os.getuid():
        raise SocketRefused(f"{directory} belongs to user {status.st_uid}; the socket needs a directory of your own")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise SocketRefused(f"{directory} can be written by others; run: chmod 700 {directory}")


class Place:
    """A host's place on disk: its lock, its socket, its pid file. Held from construction to `leave`.

    Whatever of it vanishes is put back by `mend`: cleaners remove files that nobody touched for long. Keep the object; `listener` is
    the socket that serves now.

    Args:
        path: of the socket; its directory is made.
        pid_file: of the host.
        ancestors: process ids that are this process under its former numbers.

    Raises:
        AlreadyServed: another host holds the lock, or lost its files and was told so.
        SocketRefused: the place is not safe, or its path is too long.
    """

    def __init__(self, path: str, pid_file: str, ancestors: Collection[int] = ()) -> None:
        prepare_directory(path)
        self._path = path
        self._pid_file = Path(pid_file)
        self._directory = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with _already_served(path):
            self._lock = FileLock(Path(f"{path}.lock"))
        self._bound: os.stat_result
        if (elder := elder_of(path, ancestors)) is not None:
            self._lock.release()
            nudge(elder)
            raise AlreadyServed(f"another host serves {path} (pid {elder}); it was asked to put its socket back")
        self.listener = self._listen()

    def write_pid(self) -> None:
        """Say who serves."""
        write_private(self._pid_file, f"{os.getpid()}\n".encode())

    def mend(self) -> bool:
        """Put back what is missing. True: `listener` is a new one, the former is to be closed by whoever served it.

        Raises:
            AlreadyServed: the lock was removed, and another host has taken it.
            DirectoryGone: the directory was removed; nobody finds a host that was in it.
            OSError: something cannot be put back now.
        """
        if os.fstat(self._directory).st_nlink == 0:
            raise DirectoryGone(str(Path(self._path).parent))
        with _already_served(self._path):
            self._lock.mend()
        if not self._pid_file.exists():
            self.write_pid()
        if _is_at(self._path, self._bound):
            return False
        self.listener = self._listen()
        return True

    def leave(self) -> None:
        """Remove socket and pid file, if they are ours, and let the next host in."""
        if _is_at(self._path, self._bound):
            Path(self._path).unlink(missing_ok=True)
        with suppress(OSError):
            if read_plain(self._pid_file).strip() == str(os.getpid()).encode():
                self._pid_file.unlink(missing_ok=True)
        self._lock.release()

    def _listen(self) -> socket.socket:
        Path(self._path).unlink(missing_ok=True)  # left by a host that was killed; the lock says that none lives
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        umask = os.umask(0o177)
        try:
            with _reachable(self._path) as address:
                listener.bind(address)
        except BaseException:
            listener.close()
            raise
        finally:
            os.umask(umask)
        self._bound = os.lstat(self._path)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        return listener


@contextmanager
def _already_served(path: str) -> Iterator[None]:
    """A held lock is `AlreadyServed` in here."""
    try:
        yield
    except LockHeldError as error:
        raise AlreadyServed(f"another host serves {path}") from error


def _is_at(path: str, known: os.stat_result) -> bool:
    """Whether the file that is known is the one at this path."""
    try:
        present = os.lstat(path)
    except FileNotFoundError:
        return False
    return (present.st_dev, present.st_ino) == (known.st_dev, known.st_ino)


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
