"""The story of the demo: set up, talk, crash with messages in flight, recover, count.

Everything is counted at the ends: what was posted is what the engine answered with 201; what was received is what each program wrote into its
own file; what was acknowledged is what the engine shows as read. Its last line on standard output is one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from relaybroker.demo.counting import AGENTS, Agent, Tally, received_ids
from relaybroker.demo.rest import Rest

READY_S = 30.0
SETTLE_S = 40.0
IN_FLIGHT = 200
ROUND = 60
"""Messages posted at a time while the broker is about to be killed."""


def run(*, keep: bool, burst: int) -> int:
    """Show the demo; the exit status (1 if anything was lost or typed twice)."""
    folder = Path(tempfile.mkdtemp(prefix="relaybroker-demo-"))
    show = Show(folder, max(burst, IN_FLIGHT + 40))
    try:
        return asyncio.run(show.play())
    finally:
        show.end_processes()
        if keep:
            _say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Show:
    """One performance in one directory.

    Args:
        folder: private directory for everything.
        burst: messages posted around the kill.
    """

    def __init__(self, folder: Path, burst: int) -> None:
        self._folder = folder
        self._state = folder / "state"
        self._burst = burst
        self._began = time.monotonic()
        self._broker: subprocess.Popen[bytes] | None = None
        self._agents = {agent.name: agent for agent in AGENTS}
        self._tally = Tally()

    async def play(self) -> int:
        """All of it, in order."""
        self._step("starting the embedded engine and the broker, as real processes")
        await self._start_broker()
        async with Rest(self._state) as rest:
            await self._start_agents(rest)
            await self._talk(rest)
            crossed = await self._crash(rest)
            await self._settle(rest)
            result = await self._count(rest)
        self._explain(crossed)
        self._step("taking everything down")
        await self._command("down")
        result["seconds"] = round(time.monotonic() - self._began, 1)
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
        good = result["lost"] == 0 and result["typed_twice"] == 0 and result["agents_alive"]
        return 0 if good else 1

    def _step(self, text: str) -> None:
        _say(f"[{time.monotonic() - self._began:5.1f} s] {text}")

    # --- processes ------------------------------------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        own = ("RELAY", "AGENT_RELAY")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        home = self._folder / "home"
        home.mkdir(exist_ok=True)
        places = {"XDG_DATA_HOME": "data", "XDG_STATE_HOME": "log", "XDG_RUNTIME_DIR": "run"}
        for name, place in places.items():
            (home / place).mkdir(mode=0o700, exist_ok=True)
            kept[name] = str(home / place)
        return kept

    async def _start_broker(self) -> None:
        with (self._folder / "broker.out").open("ab") as output:
            self._broker = subprocess.Popen(
                [sys.executable, "-m", "relaybroker", "up", "--state-dir", str(self._state), "--name", "demo"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment(),
                cwd=self._folder,
            )
        deadline = time.monotonic() + READY_S
        while not self._is_ready():
            if self._broker.poll() is not None or time.monotonic() > deadline:
                tail = (self._folder / "broker.out").read_text(encoding="utf-8", errors="replace")[-2000:]
                raise SystemExit(f"relaybroker: the broker did not start:\n{tail}")
            await asyncio.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            found = json.loads((self._state / "connection.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return self._broker is not None and found["pid"] == self._broker.pid

    async def _command(self, *words: str) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "relaybroker",
            *words,
            "--state-dir",
            str(self._state),
            stdout=asyncio.subprocess.DEVNULL,
            env=self._environment(),
            cwd=self._folder,
        )
        await process.wait()

    def end_processes(self) -> None:
        """Whatever happened: nothing that the demo started is left, each ended by its own pid."""
        if self._broker is not None and self._broker.poll() is None:
            self._broker.terminate()
            try:
                self._broker.wait(10)
            except subprocess.TimeoutExpired:
                self._broker.kill()
        for process in psutil.process_iter(["cmdline"]):
            if str(self._folder) in " ".join(process.info["cmdline"] or ()):
                process.kill()

    # --- the story --------------------------------------------------------------------------------------------------------

    async def _start_agents(self, rest: Rest) -> None:
        self._step("starting three agents in real terminals: bash, the Python REPL, a scripted chat agent")
        for agent in self._agents.values():
            agent.prepare(self._folder)
            agent.pid = await rest.spawn(agent.name, agent.command(self._folder))
        await self._wait_until_ready(rest)

    async def _wait_until_ready(self, rest: Rest) -> None:
        deadline = time.monotonic() + READY_S
        while not all(row["ready"] for row in (await rest.status())["agents"]):
            if time.monotonic() > deadline:
                raise SystemExit("relaybroker: the agents did not get ready")
            await asyncio.sleep(0.05)

    async def _talk(self, rest: Rest) -> None:
        self._step("direct messages, a channel message and a thread reply, from an agent called planner")
        for name in self._agents:
            self._tally.add(await rest.direct(name, f"hello {name}"), name)
        asked = await rest.direct("chat", "are you there?")
        self._tally.add(asked, "chat")
        posted = await rest.channel("general", "stand-up: $(echo this never runs) `nor this`")
        replied = await rest.reply(posted, "and a reply in the thread")
        for message in (posted, replied):
            for name in self._agents:
                self._tally.add(message, name)
        answer = await rest.wait_for_answer("chat", READY_S)
        self._step(f"chat answered through the engine: {answer!r}")
        await self._until(lambda: self._tally.missing(self._received()) == 0, READY_S)

    async def _crash(self, rest: Rest) -> str:
        """Post until enough is in flight, kill -9 the broker, post the rest; a message that crossed the crash."""
        self._step(f"posting {self._burst} messages; kill -9 of the broker with at least {IN_FLIGHT} in flight")
        names = list(self._agents)
        first = await self._post(rest, names, 0, self._burst - ROUND)
        typed_before = sum(len(self._received()[name]) for name in names)
        in_flight = self._tally.missing(self._received())
        assert self._broker is not None
        self._broker.send_signal(signal.SIGKILL)
        self._broker.wait()
        self._step(f"killed (pid {self._broker.pid}): {typed_before} typed so far, {in_flight} in flight")
        if in_flight < IN_FLIGHT:
            self._step(f"note: only {in_flight} were in flight, this machine types faster than it posts")
        await self._post(rest, names, self._burst - ROUND, self._burst)
        alive = all(psutil.pid_exists(agent.pid) for agent in self._agents.values())
        self._step(
            f"agents are {'alive' if alive else 'NOT alive'}; {ROUND} more were posted meanwhile; restarting the broker"
        )
        received = self._received()
        crossed = [(message, name) for message, name in first if message not in received[name]]
        await self._start_broker()
        return crossed[0][0] if crossed else first[-1][0]

    async def _post(self, rest: Rest, names: list[str], start: int, end: int) -> list[tuple[str, str]]:
        async def one(number: int) -> tuple[str, str]:
            name = names[number % len(names)]
            return await rest.direct(name, f"message {number} of the burst"), name

        posted: list[tuple[str, str]] = []
        for batch in range(start, end, ROUND):
            posted += await asyncio.gather(*(one(number) for number in range(batch, min(end, batch + ROUND))))
        for message, name in posted:
            self._tally.add(message, name)
        return posted

    async def _settle(self, rest: Rest) -> None:
        await self._until(lambda: self._tally.missing(self._received()) == 0, SETTLE_S)
        self._step("everything that was posted has arrived; waiting for the acknowledgements")
        await self._until_acked(rest)

    async def _until_acked(self, rest: Rest) -> None:
        deadline = time.monotonic() + SETTLE_S
        while await rest.unread(self._tally.messages()) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)

    async def _until(self, holds: Any, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        shown = 0.0
        while not holds() and time.monotonic() < deadline:
            if time.monotonic() - shown > 1.0:
                shown = time.monotonic()
                received = self._received()
                counts = ", ".join(f"{name} {len(set(ids))}" for name, ids in received.items())
                self._step(f"received so far: {counts}; missing {self._tally.missing(received)}")
            await asyncio.sleep(0.05)

    def _received(self) -> dict[str, list[str]]:
        return {name: received_ids(agent.received(self._folder)) for name, agent in self._agents.items()}

    async def _count(self, rest: Rest) -> dict[str, Any]:
        received = self._received()
        alive = all(_is_alive(agent) for agent in self._agents.values())
        twice = sum(count - 1 for ids in received.values() for count in Counter(ids).values())
        unread = await rest.unread(self._tally.messages())
        return {
            "sent": self._tally.sent,
            "typed": sum(len(ids) for ids in received.values()),
            "acked": self._tally.sent - unread,
            "lost": self._tally.missing(received),
            "typed_twice": twice,
            "agents_alive": alive,
        }

    def _explain(self, message: str) -> None:
        self._step(f"relaybroker why {message}   (a message that crossed the crash)")
        found = subprocess.run(
            [sys.executable, "-m", "relaybroker", "why", message, "--state-dir", str(self._state)],
            capture_output=True,
            text=True,
            env=self._environment(),
            cwd=self._folder,
            check=False,
        )
        sys.stdout.write(found.stdout + found.stderr)
        sys.stdout.flush()


def _is_alive(agent: Agent) -> bool:
    try:
        return psutil.Process(agent.pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
