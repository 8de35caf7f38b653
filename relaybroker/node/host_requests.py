"""What is asked of the PTY host about a session, in order, also while the session's program is still asked for its options."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.host import protocol, translate
from relaybroker.agents.isolation import Isolation
from relaybroker.domain.doors import is_without_terminal
from relaybroker.domain.inputs import ProgramWithheld
from relaybroker.domain.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from relaybroker.adapters.sessions.host.protocol import Forget, Inject, Start, Stop
    from relaybroker.domain.effects import LookUp
    from relaybroker.domain.inputs import Input
    from relaybroker.mcp.preflight import Preflight
    from relaybroker.node.host_link import HostLink

LOOK_UPS = 16
"""Look-ups that the host makes at once, of the 64 pictures and look-ups that it takes; the others wait here, one for each agent at most."""


class HostRequests:
    """Sends requests about sessions; what comes behind a start that is held up waits for it.

    Args:
        host: the connection.
        deliver: tells the core of a program that is not started.
    """

    def __init__(self, host: HostLink, deliver: Callable[[Input], Awaitable[None]]) -> None:
        self._host = host
        self._deliver = deliver
        self._isolation = Isolation()
        self._behind: dict[str, list[Inject | Stop | Forget]] = {}
        """By session: what waits behind its start."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking = asyncio.Semaphore(LOOK_UPS)

    def start(self, start: Start, preflight: Preflight | None = None) -> None:
        """Start a program, alone; where it gets tools, only once they answer."""
        if start.session_id in self._behind:
            return  # asked for again, by a host that was attached meanwhile
        if is_without_terminal(start.doors) and not self._host.has_doors:
            detail = "the PTY host was started by an earlier version, which gives every program a terminal; end it first: relaybroker down"
            self._run(self.withhold(start.session_id, Reason.SPAWN_FAILED, detail), f"refusal of {start.name}")
            return
        if preflight is None and (completed := self._isolation.completed(start)) is not None:
            self._host.send(completed)
            return
        self._behind[start.session_id] = []
        self._run(self._ask(start, preflight), f"options of {start.argv[0]}")

    def send(self, request: Inject | Stop | Forget) -> None:
        """Send a request about a session."""
        if (behind := self._behind.get(request.session_id)) is not None:
            behind.append(request)
        else:
            self._host.send(request)

    def look_up(self, wanted: LookUp) -> None:
        """Ask what a program's records say of a delivery, and tell the core; if nobody answers, the core asks again."""
        self._run(self._look_up(wanted), f"look-up of {wanted.delivery_id}")

    async def _look_up(self, wanted: LookUp) -> None:
        request = protocol.LookUp(
            request_id=uuid.uuid4().hex,
            session_id=wanted.session_id,
            delivery_id=wanted.delivery_id,
            door=wanted.door,
            place=wanted.place,
        )
        async with self._looking:
            answer = await self._host.look_up(request)
        if answer is not None:
            await self._deliver(translate.looked_up(wanted, answer))

    def _run(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def shut(self) -> None:
        """End; what is held up is dropped, and the next broker asks again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self, start: Start, preflight: Preflight | None) -> None:
        if preflight is not None and (failure := await asyncio.to_thread(preflight.failure)):
            del self._behind[start.session_id]
            await self.withhold(start.session_id, Reason.MCP_INJECTION_FAILED, failure)
            return
        completed = self._isolation.completed(start)
        if completed is None:
            completed = await asyncio.to_thread(self._isolation.ask, start)
        self._host.send(completed)
        for request in self._behind.pop(start.session_id):
            self._host.send(request)

    async def withhold(self, session_id: str, reason: Reason, detail: str) -> None:
        """A program is not started: the core hears why."""
        await self._deliver(ProgramWithheld(session_id=session_id, reason=reason, detail=detail))
