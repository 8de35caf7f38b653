"""A process that a door needs beside its program: started by the host, ended with the session, and known as the agent's.

It leads a session of its own without a terminal, dies with the host (Linux: parent-death signal), and carries the agent's mark, so that
what it starts is found wherever that goes (`adapters.pty.kin`).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from relaybroker.adapters.pty.kin import MARK, Kin, kill_all

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Mapping, Sequence
    from pathlib import Path

END_S = 2.0
"""Between SIGTERM and SIGKILL, and the longest wait for what SIGKILL should have ended."""
_LOOK_S = 0.05
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class HelperProcess:
    """One running helper, until `end`."""

    def __init__(self, process: Process, kin: Kin, leaves: Path) -> None:
        self._process = process
        self._leaves = leaves
        self._kin = kin
        self._reaped = asyncio.create_task(process.wait())

    @classmethod
    async def start(
        cls, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, kin: Kin, mark: str, leaves: Path
    ) -> HelperProcess:
        """Start it with its output thrown away; `leaves` is the file that it makes, removed at its end. Raises OSError."""
        host = os.getpid()

        def before_exec() -> None:
            if sys.platform.startswith("linux"):
                _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != host:
                    os._exit(1)

        process = await asyncio.create_subprocess_exec(
            *argv,
            env={**env, MARK: mark} if mark else env,
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=before_exec,  # the host forks in one thread
        )
        kin.add(process.pid, mark)
        return cls(process, kin, leaves)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.returncode

    async def end(self) -> None:
        """End it and everything below it. A second call does nothing."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = loop.time() + END_S
            for pid in self._kin.of(self.pid):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
            while (left := self._kin.of(self.pid)) and loop.time() < deadline:
                if number == signal.SIGKILL:
                    kill_all(left)
                await asyncio.sleep(_LOOK_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await asyncio.shield(self._reaped)
        self._kin.remove(self.pid)
        self._leaves.unlink(missing_ok=True)
