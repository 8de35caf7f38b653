"""What a broker of a state directory may have left running, and ending it: PTY host and embedded engine, by their own records.

A process is touched only if its command line names this very directory: a recycled pid is somebody else.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import psutil

from relaybroker.adapters.eventstore.errors import StateLocked
from relaybroker.adapters.eventstore.lock import StateLock
from relaybroker.adapters.private_files import read_plain
from relaybroker.adapters.sessions.host import living_hosts
from relaybroker.adapters.sessions.host.orphans import SessionRecord
from relaybroker.enrolment import engine_process

GRACE_S = 5.0


def is_locked(state: Path) -> bool:
    """Whether a broker runs in this directory."""
    for path in state.glob("broker-*.lock"):
        try:
            StateLock(path).release()
        except StateLocked:
            return True
    return False


def kill_hung(state: Path) -> list[str]:
    """Kill the brokers that hold this directory's locks and did not end when they were asked; what was killed. It costs nothing."""
    killed = []
    for path in state.resolve().glob("broker-*.lock"):
        with contextlib.suppress(OSError, ValueError, OverflowError, psutil.Error):
            process = psutil.Process(int(read_plain(path)))
            if _has_open(process, path):
                process.kill()
                killed.append(f"broker {process.pid}, which did not answer")
    return killed


def _has_open(process: psutil.Process, path: Path) -> bool:
    """Whether the process has this very file open: a recycled pid is somebody else."""
    return any(Path(file.path) == path for file in process.open_files())


def end_leftovers(state: Path) -> list[str]:
    """End hosts (with their agents) and the engine of a directory without a broker; what was ended."""
    ended = [f"PTY host {process.pid}" for process in _hosts(state) if _end(process)]
    for path in state.resolve().glob("host-*.sock.sessions"):
        record = SessionRecord(str(path))
        if orphans := record.end_orphans():
            ended.append(f"{len(orphans)} processes of agents")
        record.close()
    if asyncio.run(engine_process.end(state / "engine")):
        ended.append("embedded engine")
    return ended


def _hosts(state: Path) -> list[psutil.Process]:
    """The hosts of this directory, by their command lines and, where those cannot be listed, by their pid files."""
    pids = living_hosts.hosts_in(state.resolve())
    for path in state.resolve().glob("host-*.pid"):
        with contextlib.suppress(OSError, ValueError):
            pids.append(int(read_plain(path)))
    hosts = []
    for pid in dict.fromkeys(pids):
        with contextlib.suppress(ValueError, OverflowError, psutil.Error):
            process = psutil.Process(pid)
            words = process.cmdline()
            if living_hosts.runs_host(words) and any(str(state.resolve()) in word for word in words):
                hosts.append(process)
    return hosts


def _end(process: psutil.Process) -> bool:
    try:
        process.terminate()
        process.wait(GRACE_S)
    except psutil.TimeoutExpired:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True
