"""First figures: a real broker, its PTY host and real terminals, driven by a scripted engine on the same machine.

Method. The engine sends `deliver` frames over the node socket and notes when it sent each and when its acknowledgement came. Each agent
is a Python program in a canonical-mode terminal that notes when a line was on its standard input (after Enter). All clocks are
CLOCK_MONOTONIC of one machine. Every delivery is durable (SQLite WAL, synchronous=FULL) before it is typed and before it is
acknowledged. CPU is user + system time of broker and PTY host from psutil; memory is their RSS. Nothing is averaged over runs: run it
again to see the spread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from bench.scripted_engine import ScriptedEngine

STAMP = Path(__file__).parent / "agents" / "stamp.py"
_LINE = re.compile(r"^(\d+) .*\[(B\d+)", re.MULTILINE)
READY_S = 30.0


class Bench:
    """One broker under the scripted engine, in a directory of its own."""

    def __init__(self, engine: ScriptedEngine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.seqs: dict[str, int] = {}
        self.sent: dict[str, tuple[str, int, int]] = {}
        self._serial = 0

    async def start(self) -> float:
        """Start the broker; seconds from the start of the process to `node.register`."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("RELAY", "AGENT_RELAY"))}
        for name, place in (("XDG_DATA_HOME", "data"), ("XDG_STATE_HOME", "log"), ("XDG_RUNTIME_DIR", "run")):
            (self.folder / place).mkdir(mode=0o700)
            environment[name] = str(self.folder / place)
        environment |= {
            "RELAY_BASE_URL": self.engine.url,
            "RELAY_API_KEY": self.engine.key,
            "RELAY_BROKER_API_KEY": "k",
        }
        began = time.monotonic_ns()
        with (self.folder / "broker.out").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "relaybroker", "up", "--state-dir", str(self.folder / "state"), "--name", "bench"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=self.folder,
            )  # fmt: skip
        await self.engine.until_registered()
        connection = self.folder / "state" / "connection.json"
        deadline = time.monotonic() + READY_S
        while not connection.exists() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self.url = json.loads(connection.read_text())["url"]
        return (self.engine.registered_at - began) / 1e9

    def processes(self) -> list[psutil.Process]:
        """Broker and PTY host."""
        pid = next((self.folder / "state").glob("host-*.pid")).read_text()
        return [psutil.Process(self.process.pid), psutil.Process(int(pid))]

    async def spawn(self, names: list[str]) -> None:
        """Start agents and wait until they take input."""
        async with aiohttp.ClientSession(self.url, headers={"X-API-Key": "k"}) as session:
            for name in names:
                command = shlex.join([sys.executable, "-S", str(STAMP), str(self.folder / f"{name}.notes")])
                async with session.post("/api/spawn", json={"name": name, "cli": command}) as response:
                    assert response.status == 200, await response.text()
            deadline = time.monotonic() + READY_S
            while True:
                async with session.get("/api/spawned") as response:
                    if all(row["ready"] for row in (await response.json())["agents"]):
                        return
                assert time.monotonic() < deadline, "agents did not get ready"
                await asyncio.sleep(0.05)

    async def deliver(self, name: str) -> str:
        """Send the next message to an agent; its id."""
        self._serial += 1
        msg_id = f"B{self._serial}"
        seq = self.seqs[name] = self.seqs.get(name, 0) + 1
        at = await self.engine.send(self.engine.frame(name, seq, msg_id, "please look at the failing test"))
        self.sent[msg_id] = (name, seq, at)
        return msg_id

    def typed(self) -> dict[str, int]:
        """When each message was on its agent's standard input."""
        found: dict[str, int] = {}
        for path in self.folder.glob("*.notes"):
            for at, msg_id in _LINE.findall(path.read_text()):
                assert msg_id not in found, f"{msg_id} was typed twice"
                found[msg_id] = int(at)
        return found

    async def latency(self, name: str, count: int) -> dict[str, Any]:
        """One message at a time, 10 ms apart: milliseconds to text and to acknowledgement."""
        ids = []
        for _ in range(count):
            ids.append(msg_id := await self.deliver(name))
            await self.engine.until_acked(*self.sent[msg_id][:2])
            await asyncio.sleep(0.01)
        typed = self.typed()
        to_text = [(typed[msg_id] - self.sent[msg_id][2]) / 1e6 for msg_id in ids]
        to_ack = [(self.engine.ack_times[self.sent[msg_id][:2]] - self.sent[msg_id][2]) / 1e6 for msg_id in ids]
        return {"messages": count, "text_ms": _spread(to_text), "ack_ms": _spread(to_ack)}

    async def burst(self, names: list[str], each: int) -> dict[str, Any]:
        """`each` messages to every agent at once: deliveries per second, CPU per message."""
        before = [_cpu(process) for process in self.processes()]
        began = time.monotonic_ns()
        ids = [await self.deliver(name) for _ in range(each) for name in names]
        await asyncio.gather(*(self.engine.until_acked(name, self.seqs[name], 60) for name in names))
        last = max(self.engine.ack_times[self.sent[msg_id][:2]] for msg_id in ids)
        after = [_cpu(process) for process in self.processes()]
        typed = self.typed()
        assert all(msg_id in typed for msg_id in ids), "an acknowledged message was not typed"
        used = [1000 * (end - start) / len(ids) for start, end in zip(before, after, strict=True)]
        return {
            "agents": len(names),
            "messages": len(ids),
            "seconds": round((last - began) / 1e9, 3),
            "per_second": round(len(ids) / ((last - began) / 1e9)),
            "broker_cpu_ms_per_message": round(used[0], 3),
            "host_cpu_ms_per_message": round(used[1], 3),
        }

    def memory_mib(self) -> dict[str, float]:
        """RSS of broker and host."""
        broker, host = (process.memory_info().rss / 2**20 for process in self.processes())
        return {"broker": round(broker, 1), "host": round(host, 1), "together": round(broker + host, 1)}

    def stop(self) -> None:
        """End the broker with its agents."""
        self.process.terminate()
        self.process.wait(15)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
    found = {name: round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 2) for name, part in at.items()}
    return found | {"mean": round(statistics.fmean(ordered), 2), "max": round(ordered[-1], 2)}


async def measure(count: int) -> dict[str, Any]:
    """All figures of one broker."""
    with tempfile.TemporaryDirectory(prefix="relaybroker-bench-") as place:
        async with ScriptedEngine() as engine:
            bench = Bench(engine, Path(place))
            try:
                figures: dict[str, Any] = {"start_to_node_register_s": round(await bench.start(), 3)}
                await bench.spawn(["a0"])
                figures["memory_1_agent_mib"] = bench.memory_mib()
                figures["latency_1_agent"] = await bench.latency("a0", count)
                figures["burst_1x500"] = await bench.burst(["a0"], 500)
                names = [f"a{n}" for n in range(10)]
                await bench.spawn(names[1:])
                figures["burst_10x100"] = await bench.burst(names, 100)
                more = [f"a{n}" for n in range(10, 50)]
                await bench.spawn(more)
                names += more
                figures["latency_50_agents"] = await bench.latency("a49", count)
                figures["burst_50x20"] = await bench.burst(names, 20)
                figures["burst_50x100"] = await bench.burst(names, 100)
                figures["memory_50_agents_mib"] = bench.memory_mib()
            finally:
                bench.stop()
    return figures


def main() -> int:
    """Measure, print, write bench/results/figures.json."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=300, help="messages for each latency figure")
    options = parser.parse_args()
    print(__doc__)
    figures = asyncio.run(measure(options.messages))
    machine = {"cores": os.cpu_count(), "python": sys.version.split()[0], "at": time.strftime("%Y-%m-%d %H:%M:%S")}
    for name, value in figures.items():
        print(f"{name:<28} {json.dumps(value)}")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "figures.json").write_text(json.dumps({"machine": machine} | figures, indent=2) + "\n")
    print(f"written to {results / 'figures.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
