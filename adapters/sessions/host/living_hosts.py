"""Hosts that live, known by their own command lines: for when the files that say where they are have been removed.

Cleaners of temporary directories remove sockets, locks and pid files that nobody touched for days (tmux/tmux#4640,
systemd/systemd#35182); the process and its agents go on. Empty where there is no /proc.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.host.process_table import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

MODULE = "relaybroker.adapters.sessions.host.host_main"
_FORMER = ("relaybroker.adapters.pty.host_main", "adapters.pty.host_main")
"""What it was called in earlier versions; such a host may still run."""
NUDGE = signal.SIGHUP
"""Asks a host to look after its files now. (Hosts before this one ignore it.)"""


def runs_host(words: Iterable[str]) -> bool:
    """Whether a command line is a PTY host's."""
    return any(word in (MODULE, *_FORMER) for word in words)


def hosts_in(directory: Path) -> list[int]:
    """Process ids of this user's hosts whose socket is, or was, in this directory (canonical), oldest first."""
    return [pid for pid, socket in _hosts() if Path(socket).parent == directory]


def everywhere() -> list[int]:
    """Process ids of all of this user's hosts."""
    return [pid for pid, _socket in _hosts()]


def elder_of(socket: str, ancestors: Collection[int] = ()) -> int | None:
    """A host of this socket that is older than this process; None when there is none.

    Args:
        socket: its path, as on the command line.
        ancestors: process ids that are this process under its former numbers.
    """
    me = listed(os.getpid())
    if me is None:
        return None
    for pid, served in _hosts():
        other = listed(pid)
        if served != socket or other is None or other.state in "ZX" or pid in (me.pid, *ancestors):
            continue
        if (other.started, other.pid) < (me.started, me.pid):
            return pid
    return None


def nudge(pid: int) -> None:
    """Ask a host to put its socket back, if that is gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, NUDGE)


def _hosts() -> list[tuple[int, str]]:
    """(Process id, path of the socket) of every host of this user."""
    hosts: list[tuple[int, int, str]] = []
    try:
        entries = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]  # noqa: PTH208  # names are enough
    except OSError:
        return []
    for pid in entries:
        try:
            if os.stat(f"/proc/{pid}").st_uid != os.geteuid():  # noqa: PTH116  # over every process
                continue
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if not runs_host(map(os.fsdecode, words)) or b"--socket" not in words[:-1]:
            continue
        here = listed(pid)
        if here is not None and here.state not in "ZX":
            hosts.append((here.started, pid, os.fsdecode(words[words.index(b"--socket") + 1])))
    return [(pid, socket) for _, pid, socket in sorted(hosts)]
