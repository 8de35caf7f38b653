"""Real brokers, real engines, real terminals: everything runs as its users run it, in a directory of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.forking import Forked, forker
from tests.waiting import WAIT_S

AGENTS = Path(__file__).parent / "agents"
ID = re.compile(r"Relay message from .*?\[([\w-]+)")


class Deployment:
    """One broker (and its embedded engine) in a directory; `post` sends through the engine as an agent called planner."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.extra = environment
        self.broker: Forked | subprocess.Popen[bytes] | None = None
        self.session: aiohttp.ClientSession
        self.pids: dict[str, int] = {}
        self.agent_ids: dict[str, str] = {}
        self.sent: dict[str, list[str]] = {}
        self.workspace = self.planner = self.engine = ""

    def environment(self) -> dict[str, str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("RELAY", "AGENT_RELAY"))}
        for name, place in (("XDG_DATA_HOME", "data"), ("XDG_STATE_HOME", "log"), ("XDG_RUNTIME_DIR", "run")):
            (self.folder / place).mkdir(mode=0o700, exist_ok=True)
            environment[name] = str(self.folder / place)
        return environment | self.extra

    async def start(self) -> None:
        words = ["up", "--state-dir", str(self.state), "--name", "desk"]
        environment = self.environment()
        with (self.folder / "broker.out").open("ab") as output:
            if any(name.startswith(("LD_", "PYTHON")) for name in self.extra):
                self.broker = subprocess.Popen(
                    [sys.executable, "-m", "relaybroker", *words],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    cwd=self.folder,
                )
            else:
                command = ["relaybroker", *words]
                self.broker = forker().start(command, env=environment, cwd=self.folder, output=output.fileno())
        await self.until(self._answers, "the broker is ready")

    def _answers(self) -> bool:
        assert self.broker is not None
        assert self.broker.poll() is None, (self.folder / "broker.out").read_text()
        connection = self.connection()
        return connection is not None and connection["pid"] == self.broker.pid

    def connection(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.state / "connection.json").read_text())
        except (OSError, ValueError):
            return None

    def kill_broker(self) -> None:
        assert self.broker is not None
        self.broker.send_signal(signal.SIGKILL)
        self.broker.wait()

    async def until(self, holds: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline, f"never: {what}\n{self.tail()}"
            await asyncio.sleep(0.02)

    async def until_api(self, holds: Callable[[Any], bool], what: str) -> Any:
        deadline = time.monotonic() + WAIT_S
        while not holds(status := await self.status()):
            assert time.monotonic() < deadline, f"never: {what}\n{json.dumps(status)}\n{self.tail()}"
            await asyncio.sleep(0.05)
        return status

    async def until_events(self, holds: Callable[[Any], bool], what: str) -> Any:
        """Local events become visible when they are durable, a moment after the status shows their effect."""
        deadline = time.monotonic() + WAIT_S
        while not holds(events := (await self.api("GET", "/api/events/replay?sinceSeq=0"))[1]["events"]):
            assert time.monotonic() < deadline, f"never: {what}\n{self.tail()}"
            await asyncio.sleep(0.05)
        return events

    def tail(self) -> str:
        return (self.folder / "broker.out").read_text(errors="replace")[-3000:]

    # --- the two APIs -------------------------------------------------------------------------------------------------

    async def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = self.connection()
        assert connection is not None
        headers = {"X-API-Key": connection["api_key"]}
        async with self.session.request(method, connection["url"] + path, json=body, headers=headers) as response:
            return response.status, await response.json()

    async def status(self) -> Any:
        return (await self.api("GET", "/api/status"))[1]

    async def ask_engine(self, method: str, path: str, token: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.session.request(method, self.engine + path, json=body, headers=headers) as response:
            answer = await response.json()
        assert answer["ok"], answer
        return answer["data"]

    async def meet(self) -> None:
        """Learn where the engine is and register planner."""
        self.workspace = (await self.api("GET", "/api/session"))[1]["workspace_key"]
        self.engine = json.loads((self.state / "engine" / "ready.json").read_text())["url"]
        made = await self.ask_engine("POST", "/v1/agents", self.workspace, {"name": "planner"})
        self.planner = made["token"]

    async def spawn(self, name: str) -> None:
        command = shlex.join([sys.executable, str(AGENTS / "note_taker.py"), str(self.folder / f"{name}.notes")])
        status, answer = await self.api("POST", "/api/spawn", {"name": name, "cli": command})
        assert status == 200, answer
        self.pids[name], self.agent_ids[name] = answer["pid"], answer["agent_id"]
        self.sent.setdefault(name, [])

    async def post(self, name: str, text: str) -> str:
        posted = await self.ask_engine("POST", "/v1/dm", self.planner, {"to": name, "text": text})
        self.sent[name].append(posted["id"])
        return str(posted["id"])

    # --- what came of it ---------------------------------------------------------------------------------------------------

    def received(self, name: str) -> list[str]:
        try:
            return ID.findall((self.folder / f"{name}.notes").read_text())
        except FileNotFoundError:
            return []

    def missing(self) -> dict[str, int]:
        return {name: len(lost) for name, ids in self.sent.items() if (lost := set(ids) - set(self.received(name)))}

    def twice(self) -> dict[str, int]:
        return {
            name: extra
            for name in self.sent
            if (extra := sum(count - 1 for count in Counter(self.received(name)).values()))
        }

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "relaybroker", *words, "--state-dir", str(self.state)],
            capture_output=True,
            text=True,
            env=self.environment(),
            cwd=self.folder,
            timeout=WAIT_S,
            check=False,
        )

    def host_pid(self) -> int:
        return int(next(self.state.glob("host-*.pid")).read_text())

    def engine_pid(self) -> int:
        return int(json.loads((self.state / "engine" / "ready.json").read_text())["pid"])

    def processes(self) -> list[psutil.Process]:
        """What runs with this directory in its command line."""
        found = psutil.process_iter(["cmdline"])
        return [process for process in found if str(self.folder) in " ".join(process.info["cmdline"] or ())]

    async def close(self) -> None:
        await self.session.close()
        if self.broker is not None and self.broker.poll() is None:
            self.broker.terminate()
            await asyncio.to_thread(self.broker.wait, WAIT_S)
        for process in self.processes():
            process.kill()


@pytest.fixture
def make_deployment():
    return Deployment


@pytest.fixture
async def deployment(tmp_path):
    """A broker with its embedded engine, online."""
    made = Deployment(tmp_path)
    made.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_S))
    try:
        await made.start()
        await made.meet()
        yield made
    finally:
        await made.close()


@pytest.fixture
def is_alive():
    def check(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return check
