"""A process that a door needs beside its program, such as its server: it lives as long as the program, like all that the program starts.

It leads a session of its own without a terminal and dies with the host (Linux: parent-death signal). It carries the agent's mark: whoever
ends the agent ends it, too (`adapters.pty.kin`), which also takes its exit status.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from relaybroker.adapters.pty.kin import MARK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class HelperProcess:
    """One helper, started at once, its output thrown away. Raises OSError."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, session_id: str) -> None:
        host = os.getpid()

        def before_exec() -> None:
            if sys.platform.startswith("linux"):
                _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != host:
                    os._exit(1)

        null = subprocess.DEVNULL
        self._process = subprocess.Popen(
            argv,
            env={**env, MARK: session_id},
            cwd=cwd,
            stdin=null,
            stdout=null,
            stderr=null,
            start_new_session=True,
            preexec_fn=before_exec,  # noqa: PLW1509 - the host forks in one thread
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        """SIGKILL to it and its process group: its program was not started, and nobody else would end it."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
