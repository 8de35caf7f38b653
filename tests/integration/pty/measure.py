"""Figures of the PTY host on this machine: `python tests/integration/pty/measure.py`. Prints one line per figure, with its method.

Everything is measured from the broker's side of the socket, with a real host process and real programs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from relaybroker.adapters.sessions.host.client import HostClient
from relaybroker.adapters.sessions.host.protocol import (
    PROTOCOL_VERSION,
    Confirm,
    Hello,
    Inject,
    Injected,
    Output,
    Ready,
    Report,
    Shutdown,
    Start,
    Subscribe,
)
from relaybroker.adapters.sessions.terminal.harnesses import profile_for
from relaybroker.adapters.sessions.terminal.screen import Terminal

TEXT = "Relay message from w2 [evt_{:06d}]: please look at the failing test in the parser and tell me what you think"
AGENTS = Path(__file__).parent / "agents"


class Bench:
    """A broker that counts."""

    def __init__(self, directory: str) -> None:
        self.reports: list[Report] = []
        self.output_bytes = 0
        self.news = asyncio.Event()
        self.client = HostClient(
            f"{directory}/h.sock", log_path=f"{directory}/h.log", on_response=self.take, on_lost=print
        )
        self.directory = directory
        self.host = 0

    def take(self, response: object) -> None:
        if isinstance(response, Report):
            self.reports.append(response)
            self.client.send(Confirm(number=response.number))
        elif isinstance(response, Output):
            self.output_bytes += len(response.data)
        self.news.set()

    async def until(self, condition) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self.news.clear()
                await self.news.wait()

    def count(self, kind: type, session: str) -> int:
        return sum(isinstance(r.fact, kind) and r.session_id == session for r in self.reports)

    async def start(self, session: str, *argv: str, wait: bool = True) -> None:
        self.client.send(
            Start(
                session_id=session,
                name=session,
                argv=argv,
                env={"PATH": os.environ["PATH"], "TERM": "xterm", "LANG": "C.UTF-8"},
                cwd=self.directory,
                profile=profile_for(argv).name,
            )
        )
        if wait:
            await self.until(lambda: self.count(Ready, session))

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.host}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self) -> float:
        return int(Path(f"/proc/{self.host}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    async def latencies(self, session: str, count: int) -> list[float]:
        waits = []
        for number in range(count):
            before = self.count(Injected, session)
            began = time.perf_counter()
            self.inject(session, f"l{time.monotonic_ns()}", number)
            await self.until(lambda before=before: self.count(Injected, session) > before)
            waits.append((time.perf_counter() - began) * 1000)
        return waits

    def inject(self, session: str, delivery: str, number: int) -> None:
        text = TEXT.format(number)
        self.client.send(
            Inject(session_id=session, delivery_id=delivery, attempt=1, text=text, marker=f"evt_{number:06d}")
        )

    async def throughput(self, session: str, count: int) -> tuple[float, float]:
        self.reports.clear()
        cpu, began = self.cpu(), time.perf_counter()
        for number in range(count):
            self.inject(session, f"t{session}{number}", number)
            if number % 100 == 99:
                await self.until(lambda number=number: self.count(Injected, session) > number - 100)
        await self.until(lambda: self.count(Injected, session) == count)
        took = time.perf_counter() - began
        return count / took, (self.cpu() - cpu) / count * 1000


def show(waits: list[float]) -> str:
    ordered = sorted(waits)
    return f"median {statistics.median(ordered):.2f} ms, p95 {ordered[int(len(ordered) * 0.95)]:.2f} ms"


async def main() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        bench = Bench(directory)
        bench.host = (await bench.client.attach(Hello(version=PROTOCOL_VERSION, broker_pid=os.getpid()))).host_pid
        bench.client.send(Subscribe(on=True))
        print(f"memory, no session: {bench.rss():.1f} MiB")
        programs = {
            "cat": ("cat",),
            "line reader": (sys.executable, str(AGENTS / "line_reader.py"), "/dev/null"),
            "raw, silent": (sys.executable, str(AGENTS / "raw_reader.py"), "/dev/null"),
            "bash": ("bash", "--norc"),
            "prompt_toolkit": (sys.executable, str(AGENTS / "prompt_toolkit_reader.py"), "/dev/null"),
        }
        for name, argv in programs.items():
            began = time.perf_counter()
            await bench.start(name, *argv)
            print(f"{name}: ready after {(time.perf_counter() - began) * 1000:.0f} ms", end="; ")
            print(f"one message at a time, Inject to Injected: {show(await bench.latencies(name, 50))}")
        for name, count in (("cat", 3000), ("line reader", 2000), ("raw, silent", 40), ("bash", 300)):
            rate, cpu = await bench.throughput(name, count)
            print(f"{name}: {rate:.0f} messages/s, host CPU {cpu:.3f} ms per message ({count} messages)")
        await bench.start("yes", "yes", wait=False)
        before, cpu, began = bench.output_bytes, bench.cpu(), time.perf_counter()
        waits = await bench.latencies("cat", 200)
        took = time.perf_counter() - began
        print(f"next to `yes`: one message at a time: {show(waits)}")
        flooded = (bench.output_bytes - before) / took / 2**20
        print(f"`yes` flows at {flooded:.1f} MiB/s, host CPU {(bench.cpu() - cpu) / took * 100:.0f} %")
        before_sessions = bench.rss()
        for number in range(20):
            await bench.start(f"s{number}", "cat")
        print(f"memory per idle session: {(bench.rss() - before_sessions) / 20 * 1024:.0f} KiB (20 x cat)")
        with contextlib.suppress(TimeoutError):
            bench.client.send(Shutdown(grace_s=0.2))
        await bench.client.close()
    plain = b"".join(b"line %d of a log that scrolls by, as logs do\r\n" % n for n in range(20000))
    painted = b"".join(
        b"\x1b[%d;1H\x1b[3%dmrow %d of a screen\x1b[0m\x1b[K" % (n % 24 + 1, n % 8, n) for n in range(20000)
    )
    for name, data in (("scrolling text", plain), ("cursor addressed", painted)):
        terminal = Terminal(24, 80)
        began = time.perf_counter()
        for start in range(0, len(data), 65536):
            terminal.feed(data[start : start + 65536])
            terminal.settle()
        print(f"screen model, {name}: {len(data) / (time.perf_counter() - began) / 2**20:.1f} MiB/s")


if __name__ == "__main__":
    asyncio.run(main())
