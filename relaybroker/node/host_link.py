"""The broker's connection to its PTY host as the core sees it: attached or lost, and reports in order.

Rules:

* `HostAttached` comes before every report of that attachment, and `HostLost` after all of them.
* Reports wait in one bounded backlog until the core's queue has room. If the backlog is full, or the host does not take
  what is sent, the connection is cut and `HostLost` says why: the host keeps what was not confirmed and says it again.
* A host that hangs (stopped, deadlocked, swapped out) is as lost as one that died, until it answers again: it is asked for a sign of
  life all the time. Nothing is lost by that: it keeps its agents and its reports, and is attached to again.
* Terminal output does not pass through the core; it goes straight to whoever watches.

Source: design/architecture.md sections 5 and 6.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections import deque
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.host import translate
from relaybroker.adapters.sessions.host.client import HostBackpressure, HostClient, HostUnavailable
from relaybroker.adapters.sessions.host.protocol import (
    DOORS_SINCE,
    PROTOCOL_VERSION,
    Answer,
    Confirm,
    Hello,
    Output,
    Report,
    Shutdown,
    Snapshot,
    Subscribe,
)
from relaybroker.domain.inputs import HostLost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from relaybroker.adapters.sessions.host.protocol import Asks, LookUp, Request, Response
    from relaybroker.domain.inputs import Input

_log = logging.getLogger(__name__)

BACKLOG = 8192
"""Reports that may wait for room in the core's queue."""
HEARTBEAT_S = 5.0
"""Between an answer of the host and the next question whether it is there."""
HEARTBEAT_ANSWER_S = 5.0
LOOK_UP_ANSWER_S = 50.0
"""Within this time the host says what a program's records say; it gives a door less."""
HEARTBEAT_MISSES = 2
"""So many questions in turn that were not answered in time: it hangs. (One may be missed when we were stopped ourselves.)"""


class HostLink:
    """Attaches to the PTY host, hands on what it says, sends what the core wants.

    Args:
        socket: of the host.
        log: file of a host that is started.
        lease_s: how long the host lives on without a broker; None = for ever.
        harnesses: the operator's profiles, file -> text; the host knows these and the built-in ones.
        deliver: takes each input; it returns when there is room for it.
        on_output: takes terminal output, when it is asked for.
    """

    def __init__(
        self,
        socket: Path,
        log: Path,
        *,
        lease_s: float | None,
        harnesses: Mapping[str, str],
        deliver: Callable[[Input], Awaitable[None]],
        on_output: Callable[[Output], None],
    ) -> None:
        self._client = HostClient(str(socket), log_path=str(log), on_response=self._take, on_lost=self._lost)
        self._lease_s = lease_s
        self._harnesses = dict(harnesses)
        self._deliver = deliver
        self._on_output = on_output
        self._host_id = ""
        """Of the host that we are attached to; "" while we are not."""
        self._early: list[Report] = []
        """Reports that came before `attach` returned."""
        self._lost_early: str | None = None
        self._backlog: deque[Input] = deque()
        self._arrived = asyncio.Event()
        self._watching = False
        self._attaching: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawn(self._pump())
        self._spawn(self._watch_pulse())

    def attach(self) -> None:
        """Connect to the living host, or start one. Answered by HostAttached or HostLost; asking twice asks once."""
        if self._attaching is None or self._attaching.done():
            self._attaching = self._spawn(self._attach())

    def send(self, request: Request) -> None:
        """Send a request; without a connection it is dropped, and the core asks again when it is attached."""
        try:
            self._client.send(request)
        except HostUnavailable as error:
            _log.info("%s not sent: %s", type(request).__name__, error)
        except HostBackpressure as error:
            self._cut(str(error))

    def confirm(self, host_id: str, number: int) -> None:
        """Every report of this host up to `number` is durable; nothing if another host is attached by now."""
        if host_id == self._host_id:
            self.send(Confirm(number=number))

    async def ask(self, request: Asks) -> Answer:
        """Ask the host for something that is nobody's business but the caller's. Raises as `HostClient.ask` does."""
        return await self._client.ask(request)

    @property
    def has_doors(self) -> bool:
        """Whether the host that is attached, if one is, knows doors."""
        return not 0 < self._client.version < DOORS_SINCE

    async def look_up(self, request: LookUp) -> Answer | None:
        """Ask the host what a program's own records say; None: nobody answered. A host of a version without doors has none to look into."""
        if not self.has_doors:
            detail = "the PTY host was started by an earlier version, which has no doors"
            return Answer(request_id=request.request_id, data={"outcome": "unknowable", "detail": detail})
        try:
            answer = await self._client.ask(request, LOOK_UP_ANSWER_S)
        except (HostUnavailable, HostBackpressure) as error:
            _log.info("nothing was looked up: %s", error)
            return None
        if answer.error:
            _log.info("nothing was looked up: %s", answer.error)
        return None if answer.error else answer

    def watch(self, *, on: bool) -> None:
        """Turn the stream of terminal output on or off, now and for every later attachment."""
        self._watching = on
        if self._host_id:
            self.send(Subscribe(on=on))

    def end(self, grace_s: float) -> None:
        """End the host with whatever it still runs, also one that is being attached to or that we lost."""
        if self._host_id:
            self.send(Shutdown(grace_s=grace_s))
        else:
            self._ending = self._spawn(self._end(grace_s))

    async def shut(self) -> None:
        """End the connection; the host and its agents go on unless they were told to end."""
        if self._ending is not None:
            await self._ending
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    async def _end(self, grace_s: float) -> None:
        if self._attaching is not None:
            await self._attaching
        try:
            if not self._host_id:
                await self._client.attach(self._hello(), start=False)
            self._client.send(Shutdown(grace_s=grace_s))
        except HostUnavailable as error:
            _log.info("no PTY host to end: %s", error)

    def _hello(self) -> Hello:
        return Hello(version=PROTOCOL_VERSION, broker_pid=os.getpid(), lease_s=self._lease_s, harnesses=self._harnesses)

    async def _attach(self) -> None:
        self._host_id, self._early, self._lost_early = "", [], None
        try:
            welcome = await self._client.attach(self._hello())
        except HostUnavailable as error:
            self._put(HostLost(detail=str(error)))
            return
        self._host_id = welcome.host_id
        self._put(translate.attached(welcome))
        for report in self._early:
            self._put(translate.reported(welcome.host_id, report))
        self._early = []
        self._catch_up()

    def _catch_up(self) -> None:
        """What happened while `attach` was still returning."""
        if self._lost_early is not None:
            self._lost(self._lost_early)
        elif self._watching:
            self.send(Subscribe(on=True))

    async def _watch_pulse(self) -> None:
        misses = 0
        while True:
            if not misses:
                await asyncio.sleep(HEARTBEAT_S)
            host_id = self._host_id
            misses = misses + 1 if host_id and await self._is_silent() and host_id == self._host_id else 0
            if misses == HEARTBEAT_MISSES:
                misses = 0
                self._cut(f"the PTY host has not answered for {HEARTBEAT_MISSES * HEARTBEAT_ANSWER_S:g} s: it hangs")

    async def _is_silent(self) -> bool:
        question = Snapshot(request_id=uuid.uuid4().hex, session_id="")  # of nothing: any answer will do
        try:
            return (await self._client.ask(question, HEARTBEAT_ANSWER_S)).error == "worker_timeout"
        except (HostUnavailable, HostBackpressure):
            return False

    def _take(self, response: Response) -> None:
        if isinstance(response, Output):
            self._on_output(response)
        elif isinstance(response, Report):
            if not self._host_id:
                self._early.append(response)
            elif len(self._backlog) < BACKLOG:
                self._put(translate.reported(self._host_id, response))
            else:
                self._cut("the broker cannot keep up with the reports of its PTY host")

    def _lost(self, why: str) -> None:
        if self._host_id:
            self._host_id = ""
            self._put(HostLost(detail=why))
        else:
            self._lost_early = why

    def _cut(self, why: str) -> None:
        """Drop the connection. What waits in the backlog is not confirmed, so the host will say it again."""
        if self._host_id:
            _log.warning("connection to the PTY host cut: %s", why)
            self._backlog.clear()
            self._lost(why)
            self._spawn(self._client.close())

    def _put(self, item: Input) -> None:
        self._backlog.append(item)
        self._arrived.set()

    async def _pump(self) -> None:
        while True:
            while self._backlog:
                await self._deliver(self._backlog.popleft())
            self._arrived.clear()
            await self._arrived.wait()

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        async def run() -> None:
            await work

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
