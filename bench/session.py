"""One broker under the scripted engine with agents, in a folder of its own: start, spawn, send, wait, kill, clear away."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import aiohttp
import psutil

from bench import brokers, usage
from bench.mail import MailEngine
from bench.notes import Notes
from tests.scripted_engine import KEY

STAMP = Path(__file__).parent / "agents" / "stamp"
READY_S = 60.0
"""Longest wait for a broker or an agent to be ready."""
STOP_S = 5.0
_SPAWNS_AT_ONCE = 8
_POLL_S = 0.02


class NotReadyError(Exception):
    """The broker did not do within a minute what a measurement begins with."""


class Spawned(NamedTuple):
    """Seconds from the request."""

    runs: float
    """To the program's own first note."""
    answered: float


class Session:
    """`async with Session(name) as session:`. Nothing that was started outlives it.

    Args:
        name: of the broker.
        prepare: what to do with its folder and the engine's address before the broker is started for the first time.
    """

    def __init__(self, name: str, prepare: Callable[[Path, str], object] | None = None) -> None:
        self._prepare = prepare
        self._place = tempfile.TemporaryDirectory(prefix="relaybroker-bench-")
        self.folder = Path(self._place.name)
        self.broker = brokers.named(name, self.folder)
        self.engine = MailEngine()
        (self.folder / "notes").mkdir()
        self.notes = Notes(self.folder / "notes")
        self.sent: dict[int, tuple[str, int, int]] = {}
        """Mark -> agent, number, monotonic nanosecond just before it was sent."""
        self.start_s = 0.0
        self._seen: set[psutil.Process] = set()
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.engine.__aenter__()
        try:
            if self._prepare is not None:
                await asyncio.to_thread(self._prepare, self.folder, self.engine.url)
            await self.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            await self.stop()
        for process in self._seen:
            if process.is_running():
                process.kill()
        await self.engine.__aexit__()
        self._place.cleanup()

    # --- the broker ---------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The broker's process."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start the broker; `start_s` is the time from the start of the process to `node.register`."""
        self.engine.forget_registration()
        with (self.folder / "broker.out").open("ab") as output:
            began = time.monotonic_ns()
            self._process = subprocess.Popen(
                self.broker.command(),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder,
                env=self.broker.environment(self.engine.url, KEY),
            )  # fmt: skip
        await self.until(lambda: self.engine.registered_at, "node.register")
        self.start_s = (self.engine.registered_at - began) / 1e9
        await self.until(lambda: self.broker.api(self.pid), "the local API's address")
        async with self._client() as client:
            deadline = time.monotonic() + READY_S
            while not await _answers(client):
                if time.monotonic() > deadline:
                    raise NotReadyError("the local API does not answer")
                await asyncio.sleep(_POLL_S)

    async def stop(self) -> None:
        """End the broker as its user would; one that does not end within `STOP_S` is killed."""
        self._remember()
        assert self._process is not None
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """Kill -9 of the broker process alone."""
        self._remember()
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def processes(self) -> list[psutil.Process]:
        """The broker's own: not its agents."""
        self.notes.look()
        return usage.helpers(self.broker.roots(self.pid), set(self.notes.pids.values()))

    def agents(self) -> dict[str, psutil.Process]:
        """Agents whose program, as it was started last, is alive."""
        self.notes.look()
        return {name: psutil.Process(pid) for name, pid in self.notes.pids.items() if _runs(pid)}

    def _remember(self) -> None:
        self._seen.update(self.processes(), self.agents().values())

    def _client(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(self.broker.api(self.pid), headers={"X-API-Key": brokers.API_KEY})

    # --- agents -------------------------------------------------------------------------------------------------------

    async def spawn(self, names: Sequence[str]) -> list[Spawned]:
        """Start agents, a few at a time; returns when their programs run."""
        turns = asyncio.Semaphore(_SPAWNS_AT_ONCE)
        async with self._client() as client:
            times = await asyncio.gather(*(self._spawn(client, turns, name) for name in names))
        self._remember()
        return times

    async def warm_up(self, names: Sequence[str]) -> None:
        """Give each agent a message to wait for: then all are ready."""
        marks = [await self.send(name) for name in names]
        await self.until(lambda: self.typed(marks) == self.acked(marks) == len(marks), "the agents' first message")

    async def _spawn(self, client: aiohttp.ClientSession, turns: asyncio.Semaphore, name: str) -> Spawned:
        path = self.notes.path(name)
        size = path.stat().st_size if path.exists() else 0
        body = {"name": name, "cli": str(STAMP), "args": [str(path)], "channels": ["general"]}
        async with turns:
            began = time.monotonic_ns()
            async with client.post("/api/spawn", json=body) as response:
                if response.status != 200:
                    raise NotReadyError(f"spawn: {response.status} {await response.text()}")
            answered = time.monotonic_ns()
            await self.until(lambda: path.exists() and path.stat().st_size > size, f"the program of {name}")
            self.notes.look()
            return Spawned((self.notes.started[name] - began) / 1e9, (answered - began) / 1e9)

    # --- messages -----------------------------------------------------------------------------------------------------

    def write(self, name: str) -> tuple[int, str]:
        """Write the next message for an agent: its mark, and the frame to send."""
        mark = len(self.sent)
        seq, frame = self.engine.post(name, mark, f"please look at the failing test #{mark}#")
        self.sent[mark] = (name, seq, 0)
        return mark, frame

    async def send(self, name: str, written: tuple[int, str] | None = None) -> int:
        """Send the next message for an agent, or one that was written before; its mark."""
        mark, frame = written or self.write(name)
        at = await self.engine.send_at(frame)
        self.sent[mark] = (name, self.sent[mark][1], at)
        return mark

    def typed(self, marks: Collection[int]) -> int:
        """How many of these an agent has had, with Enter."""
        self.notes.look()
        return sum(mark in self.notes.enter for mark in marks)

    def acked(self, marks: Collection[int]) -> int:
        """How many of these are acknowledged."""
        return sum(self.sent[mark][:2] in self.engine.ack_times for mark in marks)

    async def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait until something holds.

        Raises:
            NotReadyError: it did not within a minute.
        """
        deadline = time.monotonic() + READY_S
        while not holds():
            if time.monotonic() > deadline:
                raise NotReadyError(f"{what}: not within {READY_S:.0f} s")
            await asyncio.sleep(_POLL_S)


async def _answers(client: aiohttp.ClientSession) -> bool:
    try:
        async with client.get("/api/session") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
