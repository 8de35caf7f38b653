"""Ends what a killed host left behind: processes of its agents that outlived the loss of their terminal.

The agents themselves die with their host. A child of theirs that is deaf to SIGHUP would not; so the host keeps the session ids
of its agents in a file beside its socket, and the next host on that socket ends whoever is still in one of them. A session id
is not given to anybody else while a process is in that session; one whose leader lives is not ours.
Source: F109; architecture.md 5 ("if the host dies, its agents are dead").
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import msgspec

from adapters.pty.process_table import session_members

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class _Record(msgspec.Struct):
    boot: str
    sessions: list[int]


class SessionRecord:
    """The session ids of one host's agents, on disk. Written by the holder of the socket's lock only."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._sessions: set[int] = set()

    def end_orphans(self) -> list[int]:
        """SIGKILL whoever is left in a session of the former host; returns their process ids. Empty without /proc."""
        try:
            record = msgspec.json.decode(self._path.read_bytes(), type=_Record)
        except (FileNotFoundError, msgspec.DecodeError):
            return []  # no former host, or one that was killed while it wrote: nothing can be known
        if record.boot != _boot_id():
            return []
        ended: list[int] = []
        for session in record.sessions:
            members = session_members(session)
            if session in members:
                continue
            for pid in members:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
                    ended.append(pid)
        return ended

    def add(self, session: int) -> None:
        self._sessions.add(session)
        self._write()

    def remove(self, session: int) -> None:
        self._sessions.discard(session)
        self._write()

    def close(self) -> None:
        """The host ends in order: nothing of it is left."""
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        record = _Record(boot=_boot_id(), sessions=sorted(self._sessions))
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_bytes(msgspec.json.encode(record))
        new.replace(self._path)


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""
