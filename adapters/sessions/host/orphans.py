"""Ends what a killed host left behind: processes of its agents that outlived the loss of their terminal.

The agents themselves die with their host. What they started may not: it is deaf to SIGHUP, or in a session of its own. So the host
keeps a file beside its socket, and the next host on that socket, or `relaybroker down`, ends whoever

* is in the session of an agent whose program is gone (a session id is not given to anybody else while a process is in that session),
* has the mark of an agent in its environment,
* was seen below an agent in another session and is still the same process (id and time of start),

with everything below them. Whoever is below a host that lives is none of them: the file may be a copy of that host's.

Source: F109; architecture.md 5 ("if the host dies, its agents are dead"); ADR-0044.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from relaybroker.adapters.machine_boot import machine_boot
from relaybroker.adapters.private_files import read_plain, write_private
from relaybroker.adapters.sessions.host import living_hosts
from relaybroker.adapters.sessions.host.kin import Helper, kill_all, mark_of, with_descendants
from relaybroker.adapters.sessions.host.process_table import Listed, processes
from relaybroker.domain.decoding import NOT_READABLE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class _Record(msgspec.Struct):
    boot: str
    sessions: list[int]
    marks: list[str] = []
    helpers: list[Helper] = []


class SessionRecord:
    """The agents of one host, on disk. Written by the holder of the socket's lock only."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._content = b""

    def end_orphans(self) -> list[int]:
        """SIGKILL whoever the former host left; returns their process ids. Empty without /proc."""
        try:
            record = msgspec.json.decode(read_plain(self._path), type=_Record)
        except (FileNotFoundError, *NOT_READABLE):
            return []  # no former host, or one that was killed while it wrote: nothing can be known
        if record.boot != machine_boot():
            return []
        table = processes()
        kept = with_descendants((pid for pid in living_hosts.everywhere() if pid != os.getpid()), table)
        roots = [pid for pid, process in table.items() if pid not in kept and _is_left(process, record, table)]
        ended = sorted(with_descendants(roots, table) - kept - {os.getpid()})
        kill_all(ended)
        return ended

    def keep(self, marks: Mapping[int, str], helpers: Collection[Helper]) -> None:
        """Note who is there: the agents' programs with their marks, and what else was seen."""
        record = _Record(
            boot=machine_boot(),
            sessions=sorted(marks),
            marks=sorted(mark for mark in marks.values() if mark),
            helpers=sorted(helpers),
        )
        self._content = msgspec.json.encode(record)
        self._write()

    def mend(self) -> None:
        """Put the file back, if it is gone."""
        if self._content and not self._path.exists():
            self._write()

    def close(self) -> None:
        """The host ends in order: nothing of it is left."""
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        write_private(self._path, self._content)


def _is_left(process: Listed, record: _Record, table: Mapping[int, Listed]) -> bool:
    if process.state in "ZX":
        return False
    if process.session in record.sessions:
        leader = table.get(process.session)
        if leader is None or leader.state in "ZX":
            return True
    return Helper(process.pid, process.started) in record.helpers or mark_of(process.pid) in record.marks
