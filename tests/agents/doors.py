"""A real program in the tests' own terminal, with its door open: no broker, no host."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from relaybroker.adapters.sessions.codex_app_server import CodexAppServer, Server
from relaybroker.adapters.sessions.door import Door, Opened, PassedOver
from relaybroker.adapters.sessions.kinds import Launch
from relaybroker.adapters.sessions.known import KINDS
from tests.agents import homes
from tests.agents.bench import PATIENCE
from tests.agents.composers import composer
from tests.agents.install import Installed
from tests.agents.model_server import Model
from tests.agents.terminal import Terminal

DOORS = {"claude": "claude_inbox", "codex": "codex_app_server"}
"""Program -> its own door."""


class Doored(NamedTuple):
    """The program, its terminal, and its door."""

    program: str
    terminal: Terminal
    door: Door
    place: str
    model: Model
    since: int
    server: Server | None

    def arrivals(self, text: str) -> int:
        """How often a text stands in the conversation with the model, in the fullest request."""
        main = [one for one in self.model.requests(self.since) if one["main"]]
        return max((sum(text in said for said in one["texts"]) for one in main), default=0)

    def composer(self) -> str | None:
        with self.terminal.lock:
            return composer(self.program, self.terminal.screen)


async def until(holds: Callable[[], Any], what: str, limit_s: float = 30.0) -> Any:
    """Wait for a condition; AssertionError when it does not come."""
    deadline = time.monotonic() + limit_s * PATIENCE
    while not (answer := holds()):
        assert time.monotonic() < deadline, f"not within {limit_s * PATIENCE:.0f} s: {what}"
        await asyncio.sleep(0.01)
    return answer


@asynccontextmanager
async def doored(installed: Installed, model: Model, folder: Path, *more: str) -> AsyncIterator[Doored]:
    """Start it and open its door."""
    home = homes.make(installed, folder / "place", model.url)
    argv = (*home.argv, *more)
    launch = Launch(uuid.uuid4().hex, argv, home.env, str(home.project), installed.program, folder / "door")
    prepared = await KINDS[DOORS[installed.program]].prepare(launch)
    assert not isinstance(prepared, PassedOver), prepared
    launch, door = prepared
    since = len(model.requests())
    terminal = Terminal(launch.argv, home.env, home.project)
    server = door.server if isinstance(door, CodexAppServer) else None
    try:
        async with asyncio.timeout(60 * PATIENCE):
            opened = await door.open()
        assert isinstance(opened, Opened), opened
        one = Doored(installed.program, terminal, door, opened.place, model, since, server)
        await until(lambda: one.composer() == "" and door.state == "idle", "the composer shows")
        yield one
    finally:
        await door.close()
        await asyncio.to_thread(terminal.close)
        if server is not None:
            server.kill()


def question(program: str, marker: Path) -> str:
    """A prompt upon which the model wants something that a person must allow."""
    if program == "claude":
        return f"RUNSHELL touch {marker}"
    return (
        f'CALLTOOL exec_command {{"cmd": "touch {marker}", "sandbox_permissions": "require_escalated", '
        '"justification": "a test"}'
    )
