"""Who was started by an agent, however far it went: processes that left its session still have the mark in their environment.

Source: F109; node-protocol.md section 9, W8 (a release leaves no process behind); ADR-0038.
"""

from __future__ import annotations

import os
from pathlib import Path

MARK = "RELAYBROKER_SESSION"
"""Variable with the id of the session in which a program was started."""

_PROC = Path("/proc")


def kin_of(session_id: str) -> list[int]:
    """Live processes that were started with this mark, ours only. Empty without an id, and where there is no /proc."""
    if not session_id or not _PROC.is_dir():
        return []
    mark, own = f"{MARK}={session_id}".encode(), str(os.getpid())
    entries = os.listdir(_PROC)  # noqa: PTH208  # names are enough, and this runs over every process
    return [int(entry) for entry in entries if entry.isdigit() and entry != own and mark in _environment(entry)]


def _environment(pid: str) -> list[bytes]:
    """What a process was started with; nothing of a zombie or of another user's."""
    try:
        return (_PROC / pid / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
