"""`make chaos`: real processes under load, a nemesis that does to them what a long night does, and a checker over the whole history.

Each round the nemesis does one thing at random: kills the broker, the engine or the PTY host, or stops them for a while, removes files
under them, fills the disk, lets it fail, takes the log's lock or the descriptors, sets the clock by hours, fills their ports with half
requests, sends what is far too large. Meanwhile messages are posted to three agents. At the end everything is healed
and must come to rest. What is checked of every message that the engine took:

* It was typed once, or not at all with a reason that `relaybroker why` gives. Never twice, never without a word. (What a clock that
  jumped lets expire at the engine before the broker has ever seen it, the engine says.)
* The log is whole, and folds. The broker answers. `down` leaves no process.

`CHAOS_S` seconds (1200), `CHAOS_SEED` repeats the choices of a run (not their moments).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.e2e.conftest import Deployment

SECONDS = float(os.environ.get("CHAOS_S", "1200"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(2**32)
SHIM = Path(__file__).parent / "e2e" / "failing_io" / "failing_io.c"
AGENTS = ("ann", "ben", "cay")
CALM_S = 3.0
"""Between two deeds of the nemesis."""
REST_S = 240.0
"""How long everything may take to come to rest afterwards."""
PATIENCE_S = 10.0
"""How long a sender waits for an engine that may have been killed; what it then does not know is not counted."""
DISK, CLOCK = "disk", "clock"
"""Files that say how the disk and the clock are (tests/e2e/failing_io)."""
JUMPS_S = (-86_400, -10_800, -3600, -60, 60, 3600, 10_800, 86_400)
UNANSWERED = (aiohttp.ClientError, OSError, TimeoutError, AssertionError, KeyError, TypeError, ValueError)
Deed = Callable[[], Awaitable[None]]


class Night:
    """One run: a deployment, its load, its nemesis."""

    def __init__(self, made: Deployment, chance: random.Random) -> None:
        self._made = made
        self._chance = chance
        self._over = asyncio.Event()
        self._number = 0
        self._ahead_s = 0
        self.deeds: Counter[str] = Counter()
        self.hosts_killed = 0

    async def load(self) -> None:
        """Post to the agents, whatever happens; only what the engine took counts."""
        while not self._over.is_set():
            name = self._chance.choice(AGENTS)
            self._number += 1
            with contextlib.suppress(*UNANSWERED):
                await asyncio.wait_for(self._made.post(name, f"message {self._number}"), PATIENCE_S)
            await asyncio.sleep(self._chance.uniform(0.01, 0.2))

    async def nemesis(self) -> None:
        """Do harm until the time is over."""
        deeds: list[Deed] = [
            self._kill_broker, self._kill_engine, self._kill_host, self._stop_and_go_on, self._remove_files, self._fill_ports,
            self._send_too_much, self._hang, self._fill_disk, self._fail_disk, self._set_clock, self._lock_log, self._take_descriptors,
        ]  # fmt: skip
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            await asyncio.sleep(self._chance.uniform(0.2, CALM_S))
            deed = self._chance.choice(deeds)
            self.deeds[deed.__name__.strip("_")] += 1
            print(
                f"[{SECONDS - (end - time.monotonic()):6.0f} s] {deed.__name__.strip('_').replace('_', ' ')}",
                flush=True,
            )
            with contextlib.suppress(*UNANSWERED, psutil.Error, StopIteration):
                await deed()
            await self._broker_runs()
        self._over.set()

    async def _broker_runs(self) -> None:
        while self._made.broker is None or self._made.broker.poll() is not None:
            with contextlib.suppress(*UNANSWERED):
                await self._made.start()

    async def _kill_broker(self) -> None:
        self._made.kill_broker()
        await self._made.start()

    async def _kill_engine(self) -> None:
        os.kill(self._engine(), signal.SIGKILL)

    async def _kill_host(self) -> None:
        if self._chance.random() < 0.7:  # it costs its agents their lives: rarely
            return
        os.kill(self._made.host_pid(), signal.SIGKILL)
        self.hosts_killed += 1
        await asyncio.sleep(1)
        await agents_live(self._made)

    async def _stop_and_go_on(self) -> None:
        assert self._made.broker is not None
        pid = self._chance.choice([self._made.broker.pid, self._engine(), self._made.host_pid()])
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(self._chance.uniform(0.5, 20))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    async def _hang(self) -> None:
        """Longer than the broker waits: the engine is replaced, the host is said to hang."""
        pid = self._chance.choice([self._engine(), self._made.host_pid()])
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(self._chance.uniform(40, 60))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    async def _fill_disk(self) -> None:
        await self._disk_says("full", self._chance.uniform(1, 15))

    async def _fail_disk(self) -> None:
        await self._disk_says(self._chance.choice(("fsync 5", "write 5", "open 24", "rename 13")), 0.5)

    async def _disk_says(self, what: str, for_s: float) -> None:
        (self._made.folder / DISK).write_text(what)
        await asyncio.sleep(for_s)
        (self._made.folder / DISK).write_text("")

    async def _set_clock(self) -> None:
        self._ahead_s = 0 if self._chance.random() < 0.3 else self._ahead_s + self._chance.choice(JUMPS_S)
        (self._made.folder / CLOCK).write_text(str(self._ahead_s))

    async def _lock_log(self) -> None:
        for path in self._made.state.glob("journal-*.sqlite"):
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                await asyncio.sleep(self._chance.uniform(0.5, 14))

    async def _take_descriptors(self) -> None:
        assert self._made.broker is not None
        pid = self._chance.choice([self._made.broker.pid, self._engine()])
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")), hard))
        await asyncio.sleep(self._chance.uniform(1, 10))
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))

    async def _remove_files(self) -> None:
        names = (
            "connection.json",
            "broker-*.lock",
            "host-*.sock",
            "host-*.pid",
            "engine/engine.json",
            "engine/ready.json",
            "host-*.lock",
        )
        for path in self._made.state.glob(self._chance.choice(names)):
            path.unlink(missing_ok=True)

    async def _fill_ports(self) -> None:
        connection = self._made.connection()
        ports = [connection["port"] if connection else 0, int(self._made.engine.rpartition(":")[2])]
        held = []
        for _ in range(500):
            with contextlib.suppress(OSError):
                one = socket.create_connection(("127.0.0.1", self._chance.choice(ports)), 1)
                one.sendall(b"GET /api/status HTTP/1.1\r\nHost: 127.0.0.1\r\nX-a: ")
                held.append(one)
        await asyncio.sleep(self._chance.uniform(0.5, 5))
        for one in held:
            one.close()

    async def _send_too_much(self) -> None:
        body = {"to": self._chance.choice(AGENTS), "text": "x" * self._chance.choice((20_000, 250_000))}
        await self._made.ask_engine("POST", "/v1/dm", self._made.planner, body)

    def _engine(self) -> int:
        return int(json.loads((self._made.state / "engine" / "engine.json").read_text())["pid"])


async def agents_live(made: Deployment) -> None:
    """Start the agents that are not there."""
    for name in AGENTS:
        with contextlib.suppress(*UNANSWERED):
            if not any(row["name"] == name for row in (await made.status())["agents"]):
                await made.spawn(name)


async def rest(made: Deployment) -> tuple[dict[str, list[str]], list[str]]:
    """Heal everything and wait; the messages that were not typed, by agent, and those of which nobody says why."""
    deadline = time.monotonic() + REST_S
    said: set[str] = set()
    while True:
        with contextlib.suppress(*UNANSWERED):
            await agents_live(made)
            status = await made.status()
            if status["link"]["state"] == "online" and not any(row["waiting"] for row in status["agents"]):
                missing = {name: sorted(set(sent) - set(made.received(name))) for name, sent in made.sent.items()}
                silent = await asyncio.to_thread(unsaid, made, missing, said)
                if not silent or time.monotonic() > deadline:
                    return missing, silent
        if time.monotonic() > deadline:
            return {}, [f"nothing comes to rest: {await made.status()}"]
        await asyncio.sleep(2)


def unsaid(made: Deployment, missing: dict[str, list[str]], said: set[str]) -> list[str]:
    """Messages that were not typed and of which nobody says why; `said` remembers those of which somebody does."""
    problems = []
    for messages in missing.values():
        for message in set(messages) - said:
            done = made.command("why", message, "--json")
            stories: list[dict[str, Any]] = json.loads(done.stdout) if done.returncode in (0, 10) else []
            if not stories or not all(story["reason"] for story in stories):
                problems.append(f"{message}: status {done.returncode} {done.stdout[:300]} {done.stderr[:300]}")
            else:
                said.add(message)
    return problems


def expired_at_engine(made: Deployment) -> set[str]:
    """The messages whose hour at the engine was over before the broker had seen them."""
    path = made.state / "engine" / "engine.sqlite"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as engine:
        rows = engine.execute(
            "SELECT message_id FROM deliveries WHERE status = 'dead_lettered' AND error = 'ttl_expired'"
        )
        return {str(message) for (message,) in rows}


async def run(folder: Path) -> list[str]:
    """What is wrong after a night."""
    chance = random.Random(SEED)
    shim = folder / "failing_io.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", shim, SHIM, "-ldl"], check=True)
    made = Deployment(
        folder, LD_PRELOAD=str(shim), FAIL_UNDER=str(folder / "state"), FAIL_IN="up", FAIL_NOW=str(folder / DISK),
        FAIL_CLOCK=str(folder / CLOCK),
    )  # fmt: skip
    made.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3 * PATIENCE_S))
    problems: list[str] = []
    try:
        await made.start()
        await made.meet()
        await agents_live(made)
        night = Night(made, chance)
        posting = asyncio.create_task(night.load())
        await night.nemesis()
        await posting
        missing, silent = await rest(made)
        sent, typed = sum(map(len, made.sent.values())), sum(len(set(made.received(name))) for name in AGENTS)
        problems += [f"{name}: {count} typed twice" for name, count in made.twice().items()]
        down = await asyncio.to_thread(made.command, "down")
        expired = expired_at_engine(made) & {message for messages in missing.values() for message in messages}
        problems += [one for one in silent if one.partition(":")[0] not in expired]
        if down.returncode:
            problems.append(f"down: {down.stdout} {down.stderr}")
        left = [
            process
            for process in psutil.process_iter(["cmdline"])
            if str(folder) in " ".join(process.info["cmdline"] or ())
        ]
        _, left = await asyncio.to_thread(psutil.wait_procs, left, 10)  # the lock is let go a moment before the end
        problems += [f"left behind: {process.pid} {process.info['cmdline']}" for process in left]
        verified = await asyncio.to_thread(made.command, "log", "verify")
        if verified.returncode:
            problems.append(f"verify: {verified.stdout} {verified.stderr}")
        not_typed = sum(map(len, missing.values()))
        print(
            json.dumps(
                {
                    "seed": SEED,
                    "sent": sent,
                    "typed": typed,
                    "not typed, with a reason": not_typed - len(expired),
                    "expired at the engine": len(expired),
                    "deeds": night.deeds,
                }
            )
        )
    finally:
        await made.close()
    return problems


def main() -> int:
    """The exit status: 1 when something is wrong."""
    with tempfile.TemporaryDirectory(prefix="relaybroker-chaos-") as folder:
        problems = asyncio.run(run(Path(folder)))
    for problem in problems:
        print(f"WRONG (CHAOS_SEED={SEED}): {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
