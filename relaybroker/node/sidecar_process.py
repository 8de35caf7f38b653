"""The program behind a sidecar: started, ended, and its end told to the core. It decides nothing.

Its environment is the broker's without secrets, plus what the sidecar itself named when it asked to be supervised; that part may
hold secrets of its own and is therefore kept in memory only.

Source: spec/node-protocol.md section 7; spec/local-api.md section 1.6.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from relaybroker.domain.inputs import SidecarProcessEnded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from relaybroker.domain.inputs import Input

_log = logging.getLogger(__name__)

GRACE_S = 3.0
"""Between TERM and KILL."""


class SidecarProcess:
    """At most one child at a time, in a process group of its own.

    Args:
        environ: of the broker, without secrets.
        output: file that its output goes to.
        deliver: takes the report of its end.
    """

    def __init__(
        self, environ: Mapping[str, str], *, output: Path, deliver: Callable[[Input], Awaitable[None]]
    ) -> None:
        self._environ = environ
        self._own: dict[str, str] = {}
        self._output = output
        self._deliver = deliver
        self._task: asyncio.Task[None] | None = None

    def name_environment(self, named: Mapping[str, str]) -> None:
        """What the sidecar wants in its environment when it is started again."""
        self._own = dict(named)

    def start(self, argv: Sequence[str], cwd: str) -> None:
        """Start the program; one that still runs from an earlier start is ended first."""
        former = self._task
        self._task = asyncio.create_task(self._run(tuple(argv), cwd, former), name="sidecar program")

    async def shut(self) -> None:
        """End what runs, within the grace. Nothing is delivered afterwards."""
        await _ended(self._task)

    async def _run(self, argv: tuple[str, ...], cwd: str, former: asyncio.Task[None] | None) -> None:
        await _ended(former)
        try:
            with await asyncio.to_thread(self._output.open, "ab") as output:
                child = await asyncio.create_subprocess_exec(
                    *argv,
                    cwd=cwd or None,
                    env={**self._environ, **self._own},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except (OSError, ValueError) as error:
            _log.warning("the sidecar program could not be started: %s", error)
            await self._deliver(SidecarProcessEnded(detail=f"not started: {error}"))
            return
        try:
            status = await child.wait()
        except asyncio.CancelledError:
            await _end_group(child)
            raise
        await self._deliver(SidecarProcessEnded(detail=f"exit status {status}"))


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _end_group(child: asyncio.subprocess.Process) -> None:
    """TERM to the whole group, KILL to what is left of it after the grace."""
    for name, limit_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await child.wait()
