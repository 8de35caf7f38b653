"""A process that a door needs beside its program, such as its server: it lives as long as the program, like all that the program starts.

It leads a session of its own without a terminal, and is otherwise started as the program is (`adapters.sessions.host.process.child_setup`).
It carries the agent's mark: whoever ends the agent ends it, too (`adapters.sessions.host.kin`), which also takes its exit status.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.host.kin import MARK
from relaybroker.adapters.sessions.host.process import child_setup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relaybroker.adapters.sessions.kinds import Launch


class HelperProcess:
    """One helper of a program, started at once, its output thrown away. Raises OSError."""

    def __init__(self, argv: Sequence[str], launch: Launch) -> None:
        null = subprocess.DEVNULL
        self._process = subprocess.Popen(
            argv,
            env={**launch.env, MARK: launch.session_id},
            stdin=null,
            stdout=null,
            stderr=null,
            start_new_session=True,
            preexec_fn=child_setup(launch.cwd, launch.umask),  # noqa: PLW1509 - the host forks in one thread
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
