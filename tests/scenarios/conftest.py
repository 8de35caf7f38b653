"""A real broker process against a scripted engine: frames on the wire, events in the log, text in a real terminal."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from relaybroker.audit.log import reading
from relaybroker.domain.events import Recorded
from tests.forking import Forked, forker
from tests.scenarios import pace
from tests.scripted_engine import KEY, ScriptedEngine
from tests.waiting import WAIT_S

HERE = Path(__file__).parent
NOTE_TAKER = HERE.parent / "e2e" / "agents" / "note_taker.py"


class Node:
    """One broker process. `rate` is how much faster than real its clock runs."""

    def __init__(self, folder: Path, engine: ScriptedEngine, *, rate: float = 1.0, **environment: str) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.engine = engine
        self.rate = rate
        self.extra = environment
        self.name = "desk"
        self.process: Forked | None = None
        self._pulse: asyncio.Task[None] | None = None
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_S))

    def environment(self) -> dict[str, str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("RELAY", "AGENT_RELAY"))}
        for name, place in (("XDG_DATA_HOME", "data"), ("XDG_STATE_HOME", "log"), ("XDG_RUNTIME_DIR", "run")):
            (self.folder / place).mkdir(mode=0o700, exist_ok=True)
            environment[name] = str(self.folder / place)
        environment |= {"RELAYCAST_BASE_URL": self.engine.url, "AGENT_RELAY_WORKSPACE_KEY": KEY}
        environment |= {"CLOCK_SET": str(self.folder / "clock")}
        return environment | self.extra

    def launch(self) -> None:
        """Start the process; returns at once."""
        with (self.folder / "broker.out").open("ab") as output:
            command = [*self._program(), "up", "--state-dir", str(self.state), "--name", self.name]
            self.process = forker().start(command, env=self.environment(), cwd=self.folder, output=output.fileno())

    async def start(self) -> None:
        """Start it and wait until its local API answers everything."""
        self.launch()
        assert self.process is not None
        pid = self.process.pid
        await self.until(
            lambda: (connection := self.connection()) is not None and connection["pid"] == pid, what="ready"
        )

    def _program(self) -> list[str]:
        if self.rate == 1.0:
            return ["relaybroker"]
        pulse = self.folder / "pulse"
        if self._pulse is None:
            pace.prepare(pulse)
            self._pulse = asyncio.create_task(pace.count(pulse))
        return [str(HERE / "fast_broker.py"), str(self.rate), str(pulse)]

    def connection(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads((self.state / "connection.json").read_text()))
        except (OSError, ValueError):
            return None

    async def until(self, holds: Callable[[], Any], limit_s: float = WAIT_S, what: str = "") -> Any:
        """Wait until something holds that can be seen on this machine."""
        deadline = time.monotonic() + limit_s
        while not (answer := holds()):
            assert time.monotonic() < deadline, f"not within {limit_s} s: {what}\n{self.output()}"
            assert self.process is None or self.process.poll() is None, self.output()
            await asyncio.sleep(0.02)
        return answer

    def output(self) -> str:
        return (self.folder / "broker.out").read_text(errors="replace")[-4000:]

    async def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = self.connection()
        assert connection is not None
        headers = {"X-API-Key": connection["api_key"]}
        async with self.session.request(method, connection["url"] + path, json=body, headers=headers) as response:
            return response.status, await response.json()

    async def link(self) -> dict[str, Any]:
        return dict((await self.api("GET", "/api/status"))[1]["link"])

    async def until_link(self, state: str, limit_s: float = WAIT_S) -> dict[str, Any]:
        deadline = time.monotonic() + limit_s
        while (link := await self.link())["state"] != state:
            assert time.monotonic() < deadline, f"link is {link}\n{self.output()}"
            await asyncio.sleep(0.02)
        return link

    async def spawn(self, name: str, **more: Any) -> dict[str, Any]:
        """Start an agent that writes down every line it gets."""
        command = shlex.join([sys.executable, str(NOTE_TAKER), str(self.folder / f"{name}.notes")])
        status, answer = await self.api("POST", "/api/spawn", {"name": name, "cli": command} | more)
        assert status == 200, answer
        return dict(answer)

    def notes(self, name: str) -> list[str]:
        """The lines that reached an agent."""
        try:
            return (self.folder / f"{name}.notes").read_text().splitlines()
        except FileNotFoundError:
            return []

    async def typed(self, name: str, *texts: str, limit_s: float = WAIT_S) -> None:
        """Wait until exactly these texts, in this order, have reached an agent."""
        ends = [f": {text}" for text in texts]

        def reached() -> bool:
            lines = self.notes(name)
            return len(lines) == len(ends) and all(map(str.endswith, lines, ends))

        await self.until(reached, limit_s, f"{name} has {texts}, got {self.notes(name)}")

    def log(self, topic: str = "") -> list[Recorded]:
        """What the log says so far."""
        with reading(self.state) as reader:
            return [recorded for _, recorded in reader.read() if topic in ("", recorded.event.topic)]

    async def logged(self, topic: str, holds: Callable[[Any], bool] = bool, limit_s: float = WAIT_S) -> Recorded:
        """The first record of a topic that satisfies a condition, as soon as it is there."""
        return await self.until(
            lambda: next((one for one in self.log(topic) if holds(one.event)), None), limit_s, f"{topic} in the log"
        )

    def set_clock(self, off_s: float) -> None:
        """The broker's wall clock is off by so much from now on. Only `fast_broker.py` can be told."""
        assert self.rate != 1.0, "this broker has the machine's own clock"
        new = self.folder / "clock.new"
        new.write_text(str(off_s), encoding="ascii")
        new.replace(self.folder / "clock")

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    async def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, WAIT_S)

    async def close(self) -> None:
        await self.session.close()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                await asyncio.to_thread(self.process.wait, WAIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self._pulse is not None:
            self._pulse.cancel()
        for process in psutil.process_iter(["cmdline"]):
            if str(self.folder) in " ".join(process.info["cmdline"] or ()):
                process.kill()


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine() as made:
        yield made


@pytest.fixture
async def make_node(tmp_path: Path, engine: ScriptedEngine) -> AsyncIterator[Callable[..., Node]]:
    """Makes broker processes, not started yet, each in a directory of its own."""
    made: list[Node] = []

    def make(**options: Any) -> Node:
        folder = tmp_path / f"node{len(made) + 1}"
        folder.mkdir()
        made.append(Node(folder, engine, **options))
        return made[-1]

    yield make
    for node in made:
        await node.close()


@pytest.fixture
async def node(make_node: Callable[..., Node], engine: ScriptedEngine) -> Node:
    """A broker in real time, online."""
    made = make_node()
    await made.start()
    await engine.online()
    return made
